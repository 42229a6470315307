"""The page in a real browser: no request, no error, no serious finding of axe, sorting and filtering, print, phones."""

import csv
import os
import shutil

import pytest

from reports.records import Manifest
from reports.render import render

playwright = pytest.importorskip("playwright.sync_api", reason="browser tests need playwright")
pytest.importorskip("itables", reason="sortable tables need itables")

CHROMIUM = os.environ.get("SEGBENCH_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; set SEGBENCH_CHROMIUM to its path"),
]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(build, part, tmp_path_factory):
    """The report of a matrix with published values and figures."""
    voc = tuple(r.model_copy(update={"dataset": part("voc2012")}) for r in build())
    manifest = Manifest(name="voc", title="Three defenses", records=voc)
    folder = tmp_path_factory.mktemp("report")
    return render(manifest, folder, ["html", "csv"], figures=True, sortable=True, published="xu2021")[0]


@pytest.fixture
def page(browser, report):
    """The report in a browser; what the browser complains of fails the test."""
    context = browser.new_context(accept_downloads=True)
    opened = context.new_page()
    opened.complaints = []
    opened.on("console", lambda message: opened.complaints.append(message.text))
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.on(
        "request", lambda r: opened.complaints.append(r.url) if not r.url.startswith(("data:", "file:")) else None
    )
    opened.goto(report.as_uri())
    yield opened
    assert opened.complaints == []
    context.close()


def test_tables_sort_and_filter(page) -> None:
    page.locator("details summary").click()
    page.locator(".dt-search input").fill("ddcat")
    rows = page.locator("table.runs tbody tr")
    assert rows.count() == 40
    head = page.locator("table.runs thead th", has_text="mIoU")
    for order in ("ascending", "descending"):
        head.click()
        playwright.expect(head).to_have_attribute("aria-sort", order)
        column = [float(text) for text in page.locator("table.runs tbody tr td:nth-child(7)").all_inner_texts()]
        assert column == sorted(column, reverse=order == "descending")


def test_columns_can_be_hidden_and_rows_saved(page, tmp_path) -> None:
    page.locator("details summary").click()
    page.locator(".dt-search input").fill("bim(steps=6)")
    page.get_by_role("button", name="Columns").click()
    page.locator(".dt-button-collection button", has_text="digest").click()
    page.keyboard.press("Escape")
    assert page.locator("table.runs thead th").count() == 11
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    download.value.save_as(tmp_path / "runs.csv")
    with (tmp_path / "runs.csv").open(encoding="utf-8-sig") as file:
        saved = list(csv.DictReader(file))
    assert len(saved) == 36
    assert {row["attack"] for row in saved} == {"bim(steps=6)"}


def test_switches_show_intervals_and_published_values(page) -> None:
    published = page.locator(".pub").first
    assert published.is_visible()
    page.get_by_label("published values").uncheck()
    assert not published.is_visible()


def test_keyboard_reaches_all_that_can_be_used(page) -> None:
    usable = page.evaluate(
        "() => [...document.querySelectorAll('a[href], button, input, summary, [tabindex=\"0\"]')]"
        ".filter((e) => e.checkVisibility()).length"
    )
    seen = set()
    for _ in range(usable + 5):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("() => { const e = document.activeElement; return e.outerHTML.slice(0, 200); }"))
    links = page.locator("nav a").count()
    assert len(seen) >= links + 3
    assert any("<summary" in html for html in seen)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page, scheme) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page.emulate_media(color_scheme=scheme)
    page.locator("details summary").click()
    found = axe.run(page).response["violations"]
    assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_nothing_sticks_out(page, width) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.locator("details summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_print_shows_whole_tables(page) -> None:
    page.emulate_media(media="print")
    hidden = page.evaluate(
        "() => [...document.querySelectorAll('.scroll')].filter((e) => e.scrollHeight > e.clientHeight + 1).length"
    )
    assert hidden == 0


def test_the_page_is_whole_without_scripts(browser, page) -> None:
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(page.url)
    plain.locator("details summary").click()
    assert plain.locator("table.runs tbody tr").count() == 120
    assert plain.locator("table.scores").first.is_visible()
    context.close()
