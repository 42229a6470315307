"""What an entry says of itself: its place, its rank, and what it does not take."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from reports.leaderboard.entries import Entry, ThreatModel, slug, threat_name
from reports.records import Component


def component(name: str, **options: Any) -> dict[str, Any]:
    return Component(name=name, options=options, short=name).model_dump()


def result(mean: float, name: str | None = "bim", **more: Any) -> dict[str, Any]:
    return {"attack": None if name is None else component(name, eps=0.03), "mean": mean, **more}


def entry(*results: dict[str, Any], setting: str = "white-box", **more: Any) -> Entry:
    content = {
        "status": "reported",
        "added": "2026-01-02",
        "data": {"dataset": component("digits"), "split": "val"},
        "protocol": {"component": component("whole-v1"), "absent": "skip"},
        "threat": {"setting": setting, "norm": "linf", "eps": 8 / 255},
        "model": {"name": "PSPNet (SAT)", "architecture": component("pspnet"), "defense": component("sat")},
        "results": [result(70, None), *results],
        **more,
    }
    return Entry.model_validate(content)


def test_its_place_says_what_it_is_compared_with() -> None:
    assert entry().path == "digits-val/whole-v1/white-box-linf-8-255/pspnet-sat.json"
    limited = entry(data={"dataset": component("digits"), "split": "val", "limit": 50})
    assert limited.board == "digits-val-first-50/whole-v1/white-box-linf-8-255"


def test_the_worst_case_is_the_least_that_counts() -> None:
    made = entry(result(40), result(30, "sea", strong=True), result(10, "cw", adaptive=False))
    assert made.clean is not None
    assert made.clean.mean == 70
    assert made.worst is not None
    assert made.worst.mean == 30, "an attack made around the defense does not count"
    assert entry().worst is None


@pytest.mark.parametrize(
    ("results", "setting", "ranked"),
    [
        ((), "white-box", False),
        ((result(40),), "white-box", False),
        ((result(40), result(60, "sea", strong=True)), "white-box", True),
        ((result(40), result(60, "sea", strong=True, adaptive=False)), "white-box", False),
        ((result(40, source="deeplabv3 sat"),), "black-box", True),
    ],
)
def test_only_what_stood_a_strong_attack_ranks(results: Any, setting: str, ranked: bool) -> None:
    assert entry(*results, setting=setting).ranked is ranked


@pytest.mark.parametrize(
    ("threat", "name"),
    [
        (ThreatModel(setting="white-box", norm="linf", eps=8 / 255), "white-box linf 8/255"),
        (ThreatModel(setting="white-box", norm="linf", eps=0.03), "white-box linf 0.03"),
        (ThreatModel(setting="black-box", norm="l2", eps=1.0), "black-box l2 1"),
        (ThreatModel(setting="corruptions"), "corruptions"),
    ],
)
def test_threat_models_in_words(threat: ThreatModel, name: str) -> None:
    assert threat_name(threat) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("../../etc/passwd", "etc-passwd"),
        ("<script>alert(1)</script>", "script-alert-1-script"),
        ("...", "unnamed"),
        ("CON: 100 %", "con-100"),
    ],
)
def test_names_of_files_lead_nowhere_else(text: str, name: str) -> None:
    assert slug(text) == name


@pytest.mark.parametrize(
    "more",
    [
        {"status": "best"},
        {"added": "yesterday"},
        {"links": {"code": "file:///etc/passwd"}},
        {"licence": ""},
        {"model": {"name": "a\nb", "architecture": component("a"), "defense": component("b")}},
        {"results": []},
        {"rank": 1},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_the_schema_refuses(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        entry(**more)


def test_json_gives_the_same_entry() -> None:
    made = entry(result(40), licence="CC0-1.0")
    assert Entry.model_validate_json(made.model_dump_json()) == made
    assert made.added == datetime.date(2026, 1, 2)
