"""Synthetic records: the shape of a real matrix, numbers made up by a rule."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from segbench.reports.records import Component, Manifest, Network, Record, RecordedThreat, Scores

CLASSES = ("background", "zero", "one")
BASE = {"none": (72.0, 8.0), "sat": (69.0, 2.2), "ddcat": (71.0, 2.0)}


def component(name: str, short: str | None = None, **options: object) -> Component:
    return Component(name=name, options=options, short=short or name)


def bim(steps: int, eps: float = 0.03, alpha: float = 0.01) -> Component:
    return component("bim", f"bim(steps={steps})", eps=eps, alpha=alpha, steps=steps, norm="linf")


CLEAN = component("clean")


def hexdigest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def network(model: str | Component, defense: str | Component, seed: int, **recipe: object) -> Network:
    model = component(model) if isinstance(model, str) else model
    defense = component(defense) if isinstance(defense, str) else defense
    digest = hexdigest(model, defense, seed, recipe)
    return Network(
        model=model,
        defense=defense,
        recipe={"optimizer": "adamw", "lr": 0.01, **recipe},
        seed=seed,
        digest=digest,
        weights_sha256=hexdigest("weights", digest),
    )


def make(
    target: Network,
    attack: Component = CLEAN,
    source: Network | None = None,
    *,
    miou: float | None = 50.0,
    status: str = "done",
    dataset: str = "digits",
    fingerprint: str = "f1e2d3c4b5a69788",
    split: str = "val",
    limit: int | None = None,
    protocol: str = "whole-v1",
    absent: str = "skip",
    **changes: object,
) -> Record:
    source = source or target
    setting = "clean" if attack.name == "clean" else "white-box" if source.digest == target.digest else "black-box"
    eps = attack.options.get("eps")
    steps, alpha = attack.options.get("steps", 0), attack.options.get("alpha", 0.0)
    done = status == "done" and miou is not None
    fields = dict(
        digest=hexdigest(target.digest, source.digest, attack, dataset, fingerprint, split, limit, protocol, absent),
        status=status,
        setting=setting,
        dataset=component(dataset),
        data_fingerprint=fingerprint,
        classes=CLASSES,
        split=split,
        limit=limit,
        n_images=150 if done else None,
        protocol=component(protocol),
        absent=absent,
        target=target,
        source=source,
        attack=attack,
        threat=RecordedThreat(norm="linf" if eps else None, eps=eps, access="gradients" if eps else "none"),
        seed=0,
        budget_used=min(steps * alpha, eps) if eps and done else None,
        passes={"forward": 150 * (steps + 1), "backward": 150 * steps},
        provenance={
            "versions": {"segbench": "0.1.0", "torch": "2.15.0"},
            "device": "cpu (x86_64)",
            "threads": 1,
            "sweep_seconds": 12.5,
        },
    )
    if done:
        miou = max(0.0, miou)
        fields["scores"] = Scores(
            miou=miou,
            macc=min(100.0, miou + 5),
            aacc=min(100.0, miou + 10),
            class_iou=(miou, miou, None),
            miou_low=max(0.0, miou - 2),
            miou_high=min(100.0, miou + 2),
        )
    return Record(**{**fields, **changes})


def score(model: str, defense: str, seed: int, steps: int) -> float:
    clean, loss = BASE[defense]
    return round(clean + seed * 0.7 + (0.5 if model == "deeplabv3" else 0.0) - loss * steps, 3)


def matrix(
    models: Sequence[str] = ("pspnet", "deeplabv3"),
    defenses: Sequence[str] = ("none", "sat", "ddcat"),
    seeds: Sequence[int] = (0, 1),
    steps: Sequence[int] = (2, 4, 6),
) -> list[Record]:
    """A white-box and a black-box table's worth of records, in the order of a plan."""
    nets = [network(m, d, s) for m in models for d in defenses for s in seeds]
    records = [
        make(n, attack, miou=score(n.model.name, n.defense.name, n.seed, attack.options.get("steps", 0)))
        for n in nets
        for attack in (CLEAN, *(bim(k) for k in steps))
    ]
    for target in nets:
        for source in nets:
            if source.defense.name == "sat" and source.model.name != target.model.name:
                for k in steps:
                    miou = score(target.model.name, target.defense.name, target.seed, k) + 0.6 * (source.seed + k)
                    records.append(make(target, bim(k), source, miou=miou))
    return records


@pytest.fixture
def records() -> list[Record]:
    return matrix()


@pytest.fixture
def manifest(records: list[Record]) -> Manifest:
    return Manifest(name="example", title="Three defenses on synthetic numbers", records=tuple(records))


@pytest.fixture(scope="session")
def build() -> Callable[..., list[Record]]:
    return matrix


@pytest.fixture(scope="session")
def one() -> Callable[..., Record]:
    return make


@pytest.fixture(scope="session")
def net() -> Callable[..., Network]:
    return network


@pytest.fixture(scope="session")
def part() -> Callable[..., Component]:
    return component


@pytest.fixture(scope="session")
def attack_bim() -> Callable[..., Component]:
    return bim


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="browser tests need playwright")
    pytest.importorskip("itables", reason="sortable tables need itables")
    chromium = os.environ.get("SEGBENCH_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium; set SEGBENCH_CHROMIUM to its path")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def watched(browser: Any) -> Iterator[Any]:
    """A page whose complaints, and whose requests that leave it, fail the test."""
    context = browser.new_context(accept_downloads=True, permissions=["clipboard-read", "clipboard-write"])
    opened = context.new_page()
    opened.complaints = []
    opened.on("console", lambda message: opened.complaints.append(message.text))
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.on(
        "request", lambda r: opened.complaints.append(r.url) if not r.url.startswith(("data:", "file:")) else None
    )
    yield opened
    assert opened.complaints == []
    context.close()
