"""Every mistake of an entry is found, named, and told from what is right."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segbench.leaderboard import entry_files
from segbench.leaderboard.checking import is_strong
from segbench.leaderboard.entry_files import LeaderboardError, parse
from segbench.reports.leaderboard.entries import Entry
from segbench.reports.records import Component

Change = Callable[[dict[str, Any]], object]
ZEROS = "0" * 64
URL = "https://example.org"
VERIFICATION = {"date": "2026-01-01", "software": "s", "bundle_sha256": ZEROS, "images": 1, "disagreement": 0}


def problems(entry: Entry, change: Change) -> list[str]:
    content = copy.deepcopy(entry.model_dump(mode="json"))
    change(content)
    return parse(json.dumps(content), "f.json")[1]


def test_an_entry_that_was_made_has_none(entry: Entry) -> None:
    assert problems(entry, lambda c: None) == []


SAID: list[tuple[Change, str]] = [
    (lambda c: c.update(status="verified"), "status: verified goes with verification"),
    (lambda c: c.update(verification=VERIFICATION), "status: verified goes with verification"),
    (
        lambda c: (c.update(status="verified", verification=VERIFICATION), c["model"].update(weights=[])),
        "status: verified, but the weights are not named",
    ),
    (
        lambda c: (
            c.update(status="verified", verification=VERIFICATION, source={"citation": "x", "url": URL, "where": "y"}),
            c["results"][2].update(runs=[]),
        ),
        "status: verified, but a result has no runs",
    ),
    (lambda c: c["results"][3]["attack"]["options"].pop("steps"), "results.3 (sea(steps=100)): not strong"),
    (lambda c: c["results"].pop(0), "results: 0 results on clean images"),
    (lambda c: c["results"].append(c["results"].pop(0)), "results: the result on clean images comes first"),
    (lambda c: c.update(results=c["results"][:1]), "results: no result under attack"),
    (lambda c: c["results"].append(c["results"][1]), "bim(steps=2) is there twice"),
    (lambda c: c["results"][1]["runs"].append(c["results"][1]["runs"][0]), "stands for two runs"),
    (lambda c: c["model"]["weights"].append(c["model"]["weights"][0]), "is there twice; give each network once"),
    (lambda c: c["threat"].update(eps=None), "threat: white-box needs norm and eps"),
    (lambda c: c["threat"].update(setting="corruptions"), "threat: corruptions needs no norm and eps"),
    (lambda c: c["threat"].update(eps=0.02), "its bound is linf 0.03, the entry's is linf 0.02"),
    (lambda c: c["threat"].update(norm="rms"), "its bound is linf 0.03, the entry's is rms 0.03"),
    (lambda c: c["results"][1].update(runs=[]), "source: numbers without runs need a source"),
    (lambda c: c["results"][0].update(strong=True), "clean images have no source, adaptive or strong"),
    (lambda c: c["results"][1].update(strong=True), "results.1 (bim(steps=2)): not strong"),
    (lambda c: c["results"][3]["attack"]["options"].update(steps=99), "results.3 (sea(steps=100)): not strong"),
    (lambda c: c["results"][1].update(source="another"), "white-box results have no source"),
    (lambda c: c["threat"].update(setting="black-box"), "black-box results need the network that was attacked"),
    (lambda c: c["results"][1].update(flags=["zero-los"]), "flags: there is no flag 'zero-los'; did you mean 'zero-l"),
    (lambda c: c["results"][1].update(mean=c["results"][1]["mean"] + 0.01), "is not that of its runs"),
    (lambda c: c["results"][1].update(std=c["results"][1]["std"] + 0.01), "is not the sample deviation of its runs"),
    (lambda c: c["results"][1].update(std=None), "std null is not the sample deviation"),
    (lambda c: c["results"][1].update(low=99.0, high=1.0), "low 99 is above high 1"),
    (lambda c: c["results"][1].update(low=99.0, high=99.5), "the interval 99 to 99.5 does not hold the mean"),
    (lambda c: c["results"][1].update(low=None, high=99.0), "low and high are both there or both null"),
    (lambda c: c["results"][1]["runs"][0]["class_iou"].pop(), "class_iou has 2 values, the data 3 classes"),
    (lambda c: c["results"][1]["runs"][0].update(class_iou=[0, 0, 0]), "is not the mean of class_iou, 0.0000"),
    (lambda c: c["results"][1]["runs"][0].update(miou_low=99), "miou_low 99 is above miou_high"),
    (lambda c: c["results"][1]["runs"][0].update(seed=7), "runs.0: seed 7 is not a seed in model.weights"),
    (lambda c: c["results"][1]["runs"][0].update(source_seed=0), "source_seed is the seed of the attacked network"),
    (lambda c: c["results"][1].update(mean=101), "results.1.mean: input should be less than or equal to 100, got 101"),
    (lambda c: c["results"][1].update(mean="50.0"), "results.1.mean: input should be a valid number, got '50.0'"),
    (lambda c: c.pop("data"), "data: field required"),
    (lambda c: c.update(colour="red"), "colour: extra inputs are not permitted, got 'red'"),
    (lambda c: c["links"].update(code="javascript:alert(1)"), "links.code: string should match pattern"),
    (lambda c: c["model"].update(name="two\nlines"), "model.name: string should match pattern"),
]


@pytest.mark.parametrize(("change", "message"), SAID, ids=[message for _, message in SAID])
def test_a_mistake_is_named(entry: Entry, change: Change, message: str) -> None:
    found = problems(entry, change)
    assert any(message in problem for problem in found), found
    assert all(problem.startswith("f.json: ") for problem in found)


def test_absent_classes_count_by_the_protocol(entry: Entry) -> None:
    def absent(content: dict[str, Any]) -> None:
        for result in content["results"]:
            for run in result["runs"]:
                run["class_iou"] = [90, 60, None]
                run.update(miou=75, miou_low=70, miou_high=80)
            result.update(mean=75, std=0, low=None, high=None)

    assert problems(entry, absent) == []
    zero = problems(entry, lambda c: (absent(c), c["protocol"].update(absent="zero")))
    assert all("miou 75 is not the mean of class_iou, 50.0000" in problem for problem in zero)
    assert len(zero) == 8


def test_all_mistakes_of_all_files_are_said_at_once(
    entry: Entry, tmp_path: Path, segbench: Callable[..., tuple[int, str]]
) -> None:
    good = tmp_path / entry.path
    entry_files.write(entry, good)
    twin = tmp_path / "copy" / entry.path
    entry_files.write(entry, twin)
    (tmp_path / "a.json").write_text('{"status": }')
    (tmp_path / "b.json").write_text('{"status": "good", "added": "2026-13-01"}')
    (tmp_path / "c.json").write_bytes(b"\x80")
    entry_files.write(entry, tmp_path / "d.json")
    (tmp_path / "hollow").mkdir()
    code, printed = segbench("leaderboard", "check", tmp_path, tmp_path / "absent.json", tmp_path / "hollow")
    assert code == 2
    for text in (
        "a.json:1: not JSON: expecting value (column 12)",
        "b.json: status: input should be 'reported' or 'verified', got 'good'",
        "b.json: added: input should be a valid date",
        "b.json: model: field required",
        "c.json:1: is not UTF-8",
        f"d.json: its path does not match its content; move the file to {entry.path}",
        "of the same network, data and threat model as",
        "absent.json: there is no such file",
        "hollow: no entry is in this folder",
    ):
        assert text in printed, printed
    assert "Traceback" not in printed
    assert segbench("leaderboard", "check", good) == (0, "1 entry: no mistakes\n")


def test_what_is_not_a_number_is_no_number(entry: Entry) -> None:
    content = entry.model_dump(mode="json")
    content["results"][1]["runs"][0]["extras"] = {"median_distance": float("nan")}
    assert parse(json.dumps(content), "f.json")[1] == [
        "f.json: not JSON: NaN is no number; write null where there is none"
    ]


def test_an_empty_folder_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(LeaderboardError, match="no entry is in this folder"):
        entry_files.load([tmp_path])


@pytest.mark.parametrize("board", ["white-box-linf-0.03", "black-box-linf-0.03"])
def test_a_network_by_two_names_would_be_ranked_twice(
    by_board: Callable[..., Entry], tmp_path: Path, board: str
) -> None:
    entry = by_board(board)

    def write(**changes: object) -> None:
        other = entry.model_copy(update={"model": entry.model.model_copy(update=changes)})
        entry_files.write(other, tmp_path / other.path)

    write()
    write(name="wrapped", defense=entry.model.defense.model_copy(update={"name": "jpeg", "short": "jpeg"}))
    assert len(entry_files.load([tmp_path])) == 2, "the same weights behind another defense are another network"
    renamed = [result.model_copy(update={"source": result.source and "another name"}) for result in entry.results]
    entry = entry.model_copy(update={"results": tuple(renamed)})
    write(name="copy", weights=entry.model.weights[1:])
    with pytest.raises(LeaderboardError, match="of the same network, data and threat model as"):
        entry_files.load([tmp_path])


def test_deep_nesting_is_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text("[" * 200_000)
    with pytest.raises(LeaderboardError, match=r"deep\.json: nested too deeply"):
        entry_files.load([path])


def test_what_is_strong_has_passes_enough() -> None:
    for name, options, strong in (
        ("sea", {"steps": 100}, True),
        ("standard", {"passes": 300}, True),
        ("standard", {"passes": 299}, False),
        ("bim", {"steps": 1000}, False),
    ):
        attack = Component(name=name, options=options, short=name)
        assert is_strong(attack, "white-box") == strong
        assert not is_strong(attack, "black-box")
