"""The page in a real browser: it fills while a run goes on, its keys and addresses work, and axe finds nothing."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from segbench.reports.records import Component
from segbench.store import Store
from segbench.view.server import Server

playwright = pytest.importorskip("playwright.sync_api", reason="browser tests need playwright")
pytestmark = pytest.mark.slow

PATIENCE = 90_000
"""Milliseconds that a run may take until something is seen of it."""
EVIL = "<img src=x onerror=alert(1)><b>bold</b>"


@pytest.fixture
def going_on(write_tiny: Callable[..., Path], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run that takes long, in a process of its own."""
    dataset = {"name": "digits", "size": 24, "train": 12, "val": 600, "dev": 2, "digits": [0, 1]}
    runtime = {"workers": 1, "device": "cpu", "eval_batch": 5, "checkpoint_every": 1}
    path = write_tiny(tmp_path, title=EVIL, dataset=dataset, attacks=["clean", "bim(steps=40)"], runtime=runtime)
    command = [sys.executable, "-m", "segbench", "run", str(path), "--store", str(tmp_path / "runs")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield process
    process.kill()
    process.wait()


def test_the_page_fills_while_a_run_goes_on(
    serve: Callable[..., Server], going_on: subprocess.Popen[bytes], page: Any, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir(exist_ok=True)
    page.goto(serve(tmp_path / "runs").url)
    playwright.expect(page.locator("h1")).to_have_text(EVIL, timeout=PATIENCE)
    playwright.expect(page.locator("#jobs li").first).to_be_visible(timeout=PATIENCE)
    running = page.locator(".heat td.running")
    playwright.expect(running.first).to_have_text(re.compile(r"\d+ %"), timeout=PATIENCE)
    playwright.expect(page.locator(".heat td.done").first).to_have_text(re.compile(r"\d\.\d"), timeout=PATIENCE)
    live = page.locator(".heat td.running", has_text=re.compile(r"\d\.\d, \d+ %"))
    playwright.expect(live.first).to_be_visible(timeout=PATIENCE)
    page.keyboard.press("c")
    playwright.expect(page.locator(".charts figure.done .dot").first).to_be_visible(timeout=PATIENCE)
    page.keyboard.press("m")
    assert page.locator("img, b").count() == 0
    going_on.send_signal(signal.SIGINT)
    assert going_on.wait(60) == 130
    playwright.expect(running).to_have_count(0, timeout=PATIENCE)
    playwright.expect(page.locator("#jobs li")).to_have_count(0)


@pytest.fixture
def opened(serve: Callable[..., Server], store: Store, page: Any) -> Any:
    """The page over a finished store."""
    page.goto(serve(store.root).url)
    page.locator(".heat td.done").first.wait_for()
    return page


def control(page: Any, key: str) -> Any:
    """A select or slider of the view of images."""
    return page.locator(f"[data-key={key}]")


def test_a_cell_tells_more_and_leads_to_its_images(opened: Any) -> None:
    opened.locator(".heat td.done a").nth(1).click()
    detail = opened.get_by_role("region", name="Evaluation")
    playwright.expect(detail).to_contain_text("95 %")
    detail.get_by_role("link", name="Its images").click()
    playwright.expect(opened.locator(".stage figcaption")).to_contain_text("mIoU")
    assert control(opened, "attack").locator("option:checked").inner_text().startswith("BIM-1")


def test_an_address_shows_the_same_again(opened: Any) -> None:
    opened.keyboard.press("i")
    opened.locator(".stage").wait_for()
    control(opened, "left").select_option("change")
    control(opened, "edge").fill("80")
    opened.keyboard.press("Tab")
    opened.locator(".strip button").nth(2).click()
    playwright.expect(opened.locator(".strip button").nth(2)).to_have_attribute("aria-pressed", "true")
    name, address = opened.locator(".stage strong").inner_text(), opened.url
    opened.goto("about:blank")
    opened.goto(address)
    playwright.expect(opened.locator(".stage strong")).to_have_text(name)
    assert control(opened, "left").input_value() == "change"
    assert control(opened, "edge").input_value() == "80"


def test_images_are_sorted_by_worst_and_filtered_by_class(opened: Any) -> None:
    opened.keyboard.press("i")
    opened.locator(".stage").wait_for()
    scores = [float(text) for text in opened.locator(".strip button").all_inner_texts()]
    assert scores == sorted(scores)
    assert len(scores) == 4
    control(opened, "sort").select_option("split")
    playwright.expect(opened.locator(".strip button").first).to_have_attribute("aria-label", re.compile("^val-00000"))
    for number, name in enumerate(control(opened, "class").locator("option").all_inner_texts()[1:]):
        control(opened, "class").select_option(label=name)
        opened.wait_for_function(f"location.hash.includes('class={number}')")
        opened.wait_for_timeout(200)
        if opened.locator(".stage").count():
            assert name in opened.locator(".classes").inner_text()
        else:
            playwright.expect(opened.locator(".note")).to_have_text(f"No kept image shows {name}.")


def test_keys_reach_every_image_attack_and_network(opened: Any) -> None:
    opened.keyboard.press("i")
    opened.locator(".stage").wait_for()

    def chosen(label: str) -> str:
        return str(control(opened, label).locator("option:checked").inner_text())

    for key, label, count in (("ArrowDown", "attack", 3), ("n", "network", 8)):
        seen = set()
        for _ in range(count):
            before = chosen(label)
            opened.keyboard.press(key)
            opened.wait_for_function(
                "([label, before]) =>"
                " document.querySelector(`[data-key=${label}] option:checked`).textContent !== before",
                arg=[label, before],
            )
            seen.add(chosen(label))
        assert len(seen) == count, label
    names = set()
    for _ in range(4):
        opened.keyboard.press("ArrowRight")
        opened.wait_for_timeout(250)
        names.add(opened.locator(".stage strong").inner_text())
    assert len(names) == 4
    opened.keyboard.press("3")
    playwright.expect(control(opened, "right")).to_have_value("change")
    opened.keyboard.press("Shift+Digit4")
    playwright.expect(control(opened, "left")).to_have_value("truth")
    opened.keyboard.press("+")
    playwright.expect(control(opened, "factor")).to_have_value("11")
    opened.keyboard.press("?")
    playwright.expect(opened.get_by_role("dialog")).to_be_visible()
    opened.keyboard.press("Escape")
    for picture in opened.locator(".frame img").all():
        assert picture.evaluate("(image) => image.complete && image.naturalWidth > 0")


def test_axe_finds_nothing_serious_and_nothing_sticks_out(opened: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    for view, part in {"matrix": ".heat", "curves": ".charts", "images": ".stage"}.items():
        opened.keyboard.press(view[0])
        opened.locator(part).first.wait_for()
        for width in (390, 1440):
            opened.set_viewport_size({"width": width, "height": 900})
            assert opened.evaluate("document.documentElement.scrollWidth") <= width, view
        for scheme in ("light", "dark"):
            opened.emulate_media(color_scheme=scheme)
            found = axe.run(opened).response["violations"]
            assert [(view, v["id"]) for v in found if v["impact"] in ("serious", "critical")] == []


def test_names_stay_text(serve: Callable[..., Server], store: Store, page: Any) -> None:
    manifest = store.manifest("tiny", filled=False)
    assert manifest is not None
    evil = Component(name=EVIL, short=EVIL)
    records = tuple(
        r.model_copy(
            update={
                "dataset": evil,
                "attack": evil,
                "digest": f"{i:016x}",
                "target": r.target.model_copy(update={"model": evil}),
            }
        )
        for i, r in enumerate(manifest.records[:2])
    )
    store.write_manifest(manifest.model_copy(update={"title": EVIL, "records": records}))
    page.goto(serve(store.root).url)
    playwright.expect(page.locator(".heat thead th").last).to_have_text(EVIL)
    playwright.expect(page.locator("h1")).to_have_text(EVIL)
    page.keyboard.press("c")
    page.locator(".charts figure").first.wait_for()
    assert page.locator("img, b").count() == 0


def test_a_server_that_has_ended_is_said(serve: Callable[..., Server], store: Store, chromium: Any) -> None:
    opened = chromium.new_page()
    opened.goto(serve(store.root).url)
    opened.locator(".heat").first.wait_for()
    opened.route("**/*", lambda route: route.abort("connectionrefused"))
    words = "segbench view has ended; start it again to go on."
    playwright.expect(opened.locator("#states")).to_have_text(words, timeout=30_000)
    opened.close()
