"""Synthetic entries: the shape of real ones, numbers made up by a rule."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Sequence

import pytest

from segbench.reports.leaderboard.entries import Entry, EntryResult, Run, Weights
from segbench.reports.names import ZOO_NAME
from segbench.reports.records import Component

CLASSES = ("background", "zero", "one")


def part(name: str, short: str | None = None, **options: object) -> Component:
    return Component(name=name, options=options, short=short or name)


def bim(steps: int, eps: float = 8 / 255) -> Component:
    return part("bim", f"bim(steps={steps})", eps=eps, alpha=0.01, steps=steps)


def sea(eps: float = 8 / 255) -> Component:
    return part("sea", "sea", eps=eps, steps=100)


def result(attack: Component | None, *values: float, strong: bool = False, **changes: object) -> EntryResult:
    mean = sum(values) / len(values)
    std = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else None
    runs = tuple(
        Run(
            seed=seed,
            miou=value,
            miou_low=max(0.0, value - 2),
            miou_high=min(100.0, value + 2),
            macc=min(100.0, value + 3),
            aacc=min(100.0, value + 6),
            class_iou=(value, value, None),
            record=hashlib.sha256(f"{attack} {value} {seed}".encode()).hexdigest(),
        )
        for seed, value in enumerate(values)
    )
    fields = dict(
        attack=attack,
        strong=strong,
        mean=mean,
        std=std,
        low=max(0.0, mean - 2),
        high=min(100.0, mean + 2),
        runs=runs,
    )
    return EntryResult(**{**fields, **changes})


def make(
    name: str,
    results: Sequence[EntryResult],
    *,
    defense: str = "sat",
    architecture: str = "pspnet",
    extra_data: str = "none",
    dataset: str = "digits",
    limit: int | None = None,
    fingerprint: str | None = "f1e2d3c4b5a69788",
    setting: str = "white-box",
    eps: float | None = 8 / 255,
    added: str = "2026-03-01",
    verified: str | None = None,
    **changes: object,
) -> Entry:
    weights = tuple(
        Weights(
            seed=seed,
            sha256=hashlib.sha256(f"{name} {seed}".encode()).hexdigest(),
            zoo=place if ZOO_NAME.fullmatch(place := f"{dataset}/{architecture}/{defense}/{seed}@1") else None,
        )
        for seed in range(2)
    )
    fields = dict(
        status="verified" if verified else "reported",
        added=datetime.date.fromisoformat(added),
        data=dict(
            dataset=part(dataset),
            split="val",
            limit=limit,
            images=150,
            fingerprint=fingerprint,
            classes=CLASSES,
        ),
        protocol=dict(component=part("whole-v1"), absent="skip"),
        threat=dict(setting=setting, norm="linf" if eps else None, eps=eps),
        model=dict(
            name=name,
            architecture=part(architecture, f"{architecture}(encoder=tiny)", encoder="tiny"),
            defense=part(defense),
            recipe={"optimizer": "adamw", "lr": 0.01},
            parameters=123456,
            extra_data=extra_data,
            weights=weights,
        ),
        results=tuple(results),
        licence="CC-BY-4.0",
        provenance={"versions": {"torch": "2.15.0"}, "device": "cpu"},
        verification=dict(
            date=verified, software="segbench 0.1.0", bundle_sha256="a" * 64, images=12, disagreement=0.0004
        )
        if verified
        else None,
    )
    return Entry(**{**fields, **changes})


def usual() -> list[Entry]:
    """A ranked board of three, two of them not ranked; a second bound; a board without ranks."""
    return [
        make(
            "pspnet sat",
            [result(None, 70.0, 72.0), result(bim(3), 44.0, 46.0), result(sea(), 30.0, 32.0, strong=True)],
            verified="2026-04-02",
        ),
        make(
            "pspnet ddcat",
            [
                result(None, 73.0, 75.0),
                result(bim(3), 40.0, 42.0),
                result(bim(10), 35.0, 36.0),
                result(sea(), 20.0, 22.0, strong=True, flags=("zero-loss",)),
            ],
            defense="ddcat",
            extra_data="coco",
        ),
        make(
            "unet sat",
            [result(None, 66.0), result(bim(3), 41.0), result(sea(), 31.0, strong=True, note="one seed alone")],
            architecture="unet",
            added="2026-05-06",
        ),
        make("unet none", [result(None, 80.0), result(bim(3), 50.0)], architecture="unet", defense="none"),
        make("alpha", [result(None, 60.0), result(bim(3), 9.0)], defense="alpha"),
        make(
            "pspnet sat",
            [result(None, 70.0, 72.0), result(bim(3, 4 / 255), 54.0), result(sea(4 / 255), 45.0, 47.0, strong=True)],
            eps=4 / 255,
        ),
        make("pspnet none", [result(None, 76.9), result(bim(3), 2.0)], defense="none", dataset="voc2012"),
    ]


@pytest.fixture(scope="session")
def entry_of() -> Callable[..., Entry]:
    return make


@pytest.fixture(scope="session")
def result_of() -> Callable[..., EntryResult]:
    return result


@pytest.fixture(scope="session")
def attack_bim() -> Callable[..., Component]:
    return bim


@pytest.fixture(scope="session")
def attack_sea() -> Callable[..., Component]:
    return sea


@pytest.fixture(scope="session")
def entries() -> list[Entry]:
    return usual()
