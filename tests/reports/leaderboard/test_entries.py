"""What an entry says of itself: its place, its rank, and what it does not take."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from segbench.reports.leaderboard.entries import BoardThreat, Entry, slug, threat_name
from segbench.reports.records import Component


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
    ("results", "setting", "why"),
    [
        ((), "white-box", "No result"),
        ((result(40),), "white-box", "No strong attack"),
        ((result(40), result(60, "sea", strong=True)), "white-box", ""),
        ((result(40), result(60, "sea", strong=True, adaptive=False)), "white-box", "No strong attack"),
        ((result(40, source="deeplabv3 sat"),), "black-box", ""),
    ],
)
def test_only_what_stood_a_strong_attack_ranks(results: Any, setting: str, why: str) -> None:
    found = entry(*results, setting=setting).unranked
    assert found.startswith(why)
    assert bool(found) == bool(why)


def test_what_changes_with_its_images_is_not_ranked() -> None:
    strong = (result(40), result(60, "sea", strong=True))
    model = {**entry().model.model_dump(), "dynamic": True}
    assert "order" in entry(*strong, model=model).unranked


def test_a_long_name_still_makes_a_file() -> None:
    assert len(slug("a" * 300)) == 120


@pytest.mark.parametrize(
    ("threat", "name"),
    [
        (BoardThreat(setting="white-box", norm="linf", eps=8 / 255), "white-box linf 8/255"),
        (BoardThreat(setting="white-box", norm="linf", eps=0.03), "white-box linf 0.03"),
        (BoardThreat(setting="black-box", norm="l2", eps=1.0), "black-box l2 1"),
        (BoardThreat(setting="corruptions"), "corruptions"),
    ],
)
def test_threat_models_in_words(threat: BoardThreat, name: str) -> None:
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
