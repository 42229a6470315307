from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from segbench.errors import SegbenchError
from segbench.leaderboard import adding, entering, entry_files, summing
from segbench.leaderboard.composing import Details
from segbench.leaderboard.entry_files import LeaderboardError
from segbench.reports.differences import interval_over_runs, runs_of
from segbench.reports.leaderboard.entries import Entry
from segbench.reports.records import Record
from segbench.store import Store
from segbench.zoo import networks as zoo

PSPNET = "pspnet(encoder=tiny, widths=[4, 4, 6, 6], bins=[1, 2], channels=4)"
DEEPLAB = "deeplabv3(encoder=tiny, widths=[4, 4, 6, 6], rates=[1, 2], channels=4)"


def test_a_board_for_every_threat_model_and_a_file_for_every_network(made: adding.Made) -> None:
    boards: dict[str, set[str]] = {}
    for entry in made.entries:
        boards.setdefault(entry.board.rpartition("/")[2], set()).add(entry.model.name)
    assert sorted(boards) == ["black-box-linf-0.03", "white-box-linf-0.03", "white-box-rms-0.03"]
    assert boards["white-box-linf-0.03"] == {f"{PSPNET} sat", f"{DEEPLAB} sat", f"{PSPNET} bit-depth"}, "seeds together"
    assert boards["black-box-linf-0.03"] == boards["white-box-rms-0.03"] == {f"{PSPNET} sat", f"{DEEPLAB} sat"}


def test_attacks_without_a_bound_are_left_out_and_said(made: adding.Made) -> None:
    (note,) = made.notes
    assert note.startswith("left out: ")
    assert "not bounded by an eps" in note
    assert "almaprox" in note
    assert not any("almaprox" in result.attack.short for e in made.entries for result in e.results if result.attack)


def test_numbers_are_those_of_the_records(entry: Entry, store: Store) -> None:
    assert [r.attack.short if r.attack else "clean" for r in entry.results] == [
        "clean",
        "bim(steps=2)",
        "bim(steps=4)",
        "sea(steps=100)",
    ]
    for result in entry.results:
        records = [store.record(run.record) for run in result.runs]
        scores = [record.scores for record in records if record is not None and record.scores is not None]
        assert [run.seed for run in result.runs] == [0, 1]
        values = [own.miou for own in scores]
        assert result.mean == pytest.approx(statistics.fmean(values), abs=1e-4)
        assert result.std == pytest.approx(statistics.stdev(values), abs=1e-4)
        counts = [store.counts(run.record) for run in result.runs]
        runs = runs_of(np.stack([own for own in counts if own is not None]), [own for own in records if own])
        found = interval_over_runs(runs, "skip")
        if result.low is not None:
            assert (result.low, result.high) == pytest.approx((found.low, found.high), abs=1e-4)
        else:
            assert not found.low <= result.mean <= found.high
        for run, own in zip(result.runs, scores, strict=True):
            assert run.aacc == pytest.approx(own.aacc, abs=1e-4)
            assert len(run.class_iou) == len(entry.data.classes) == 3
        for run, record in zip(result.runs, records, strict=True):
            assert record is not None
            assert {"ece", "p5_image_iou", "boundary_iou", "recall.small"} <= set(run.metrics) == set(record.metrics)
            assert run.metrics["ece"] == pytest.approx(record.metrics["ece"], abs=1e-4)


def test_the_worst_case_is_the_least_mean_and_only_an_ensemble_ranks(by_board: Callable[..., Entry]) -> None:
    strong = by_board("white-box-linf-0.03")
    assert not strong.unranked
    assert strong.worst is not None
    assert strong.worst.mean == min(result.mean for result in strong.results[1:])
    assert [r.strong for r in strong.results] == [False, False, False, True]
    assert by_board("white-box-rms-0.03").unranked


def test_a_black_box_entry_has_a_run_for_every_pair_of_seeds(by_board: Callable[..., Entry]) -> None:
    entry = by_board("black-box-linf-0.03", "deeplabv3")
    clean, attacked = entry.results
    assert (clean.source, [run.source_seed for run in clean.runs]) == (None, [None, None])
    assert attacked.source == f"{PSPNET} sat"
    assert [(run.seed, run.source_seed) for run in attacked.runs] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert not entry.unranked


def test_attacks_around_a_defense_are_shown_and_do_not_count(by_board: Callable[..., Entry]) -> None:
    entry = by_board("white-box-linf-0.03", defense="bit-depth")
    attacked = [(r.attack.short, r.adaptive) for r in entry.results if r.attack is not None]
    assert attacked == [("bim(steps=4)", True), ("bim(steps=4)", False)]
    assert {result.adaptive for result in entry.attacked} == {True}


def test_what_is_said_of_a_network(entry: Entry, store: Store) -> None:
    record = store.record(entry.results[0].runs[0].record)
    assert record is not None
    network = zoo.deployed(record.target.model, record.target.defense, 3)
    assert entry.model.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert entry.model.weights[0].sha256 == record.target.weights_sha256
    assert entry.model.extra_data == "none"
    assert entry.provenance["versions"]["torch"] == record.provenance["versions"]["torch"]
    assert entry.provenance["platform"] == "Linux"


def test_everything_that_is_added_passes_the_check(made: adding.Made, tmp_path: Path) -> None:
    entering.enter(made.entries, tmp_path)
    assert {entry.path for entry in entry_files.load([tmp_path])} == {entry.path for entry in made.entries}


def test_names_and_details_are_taken(store: Store) -> None:
    names = adding.parse_names([f"{PSPNET} sat=Tiny SAT"])
    details = Details(licence="CC0-1.0", code="https://example.org/code", extra_data="SBD", names=names)
    entries = adding.entries(store, ["tiny"], details).entries
    assert "Tiny SAT" in {entry.model.name for entry in entries}
    assert {entry.results[1].source for entry in entries if entry.threat.setting == "black-box"} >= {"Tiny SAT"}
    assert {(e.licence, e.links.code, e.model.extra_data) for e in entries} == {
        ("CC0-1.0", "https://example.org/code", "SBD")
    }


def test_both_names_may_hold_the_sign_between_them() -> None:
    old, new = f"{PSPNET} sat [iterations=8]", f"{PSPNET} sat"
    assert adding.parse_names([f"{old}={new}", "unet sat = Mine"]) == {old: new, "unet sat": "Mine"}


@pytest.mark.parametrize("pair", ["sat", "=Mine", "sat=", "pspnet(encoder=tiny"])
def test_half_a_pair_of_names_is_a_mistake(pair: str) -> None:
    with pytest.raises(LeaderboardError, match="expected OLD=NEW"):
        adding.parse_names([pair])


def test_a_detail_that_is_not_valid_is_named(store: Store) -> None:
    with pytest.raises(LeaderboardError, match="paper 'xu2021': string should match pattern"):
        adding.entries(store, [], Details(paper="xu2021"))


def test_what_is_not_finished_is_said(own_store: Store, entry: Entry) -> None:
    digest = entry.results[3].runs[1].record
    (own_store.eval_dir(digest) / "record.json").unlink()
    made = adding.entries(own_store, [], Details())
    assert "left out: 1 evaluation, not finished: sea(steps=100)" in made.notes
    changed = next(other for other in made.entries if other.path == entry.path)
    assert [run.seed for run in changed.results[3].runs] == [0]


def test_numbers_of_another_precision_are_left_out_and_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [record for record in store.all_records() if record.target.defense.name == "sat"]
    narrow = [r.model_copy(update={"precision": "bf16", "digest": r.digest[::-1]}) for r in known]
    expected = adding.entries(store, [], Details()).entries
    monkeypatch.setattr(adding, "_records", lambda *given: [*store.all_records(), *narrow])
    found = adding.entries(store, [], Details())
    assert sorted(own.path for own in found.entries) == sorted(own.path for own in expected)
    assert any("scored in another precision than fp32: " in note for note in found.notes)
    monkeypatch.setattr(adding, "_records", lambda *given: narrow)
    assert adding.entries(store, [], Details()).entries == []


@pytest.mark.parametrize(
    ("matrices", "names", "message"),
    [
        (["tinny"], {}, "no such matrix in store .*, which holds: crops, strong, tiny, wrapped"),
        ([], {"unet sat": "Mine"}, "--name unet sat: no such network; there are: deeplabv3"),
    ],
)
def test_mistakes_are_named(store: Store, matrices: list[str], names: dict[str, str], message: str) -> None:
    with pytest.raises(LeaderboardError, match=message):
        adding.entries(store, matrices, Details(names=names))


def test_an_empty_store_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(LeaderboardError, match="no matrix was run in this store"):
        adding.entries(Store(tmp_path), [], Details())


def test_a_network_without_clean_results_is_left_out(own_store: Store) -> None:
    for folder in (own_store.root / "eval").iterdir():
        record = own_store.record(folder.name)
        if record is not None and record.setting == "clean":
            (folder / "record.json").unlink()
    made = adding.entries(own_store, [], Details())
    assert made.entries == []
    assert any("not evaluated on clean images" in note for note in made.notes)


def test_an_interval_that_misses_its_mean_is_not_given(
    store: Store, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summing, "_interval", lambda records, store: (99.0, 99.5))
    made = adding.entries(store, [], Details())
    changed = next(other for other in made.entries if other.path == entry.path)
    assert (changed.results[0].low, changed.results[0].high) == (None, None)
    assert "too few images" in changed.results[0].note


Change = Callable[[Record, np.ndarray, list[str]], tuple[Record, np.ndarray, list[str]]]


def scored(record: Record, **changes: object) -> Record:
    assert record.scores is not None
    return record.model_copy(update={"scores": record.scores.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r, c, n: (scored(r, miou=99.0), c, n), r"record\.json: mIoU is 99, and its counts give"),
        (lambda r, c, n: (scored(r, macc=0.0), c, n), r"record\.json: mAcc is 0, and its counts give"),
        (lambda r, c, n: (scored(r, miou_high=100.0), c, n), r"record\.json: upper end of the interval is 100"),
        (
            lambda r, c, n: (r.model_copy(update={"n_images": 5}), c, n),
            r"counts are of shape \(4, 3, 3\), of 4 images, not of its images",
        ),
        (lambda r, c, n: (r, c, n[1:]), r"of 3 images, not of"),
        (lambda r, c, n: (r, c + 1, n), r"and its counts give"),
        (lambda r, c, n: (r, -c, n), r"counts of pixels contradict each other"),
        (lambda r, c, n: (r, c[:, :, :2], n), r"counts are of shape \(4, 3, 2\)"),
        (lambda r, c, n: (r, c[:, 0], n), r"counts are of shape \(4, 3\)"),
        (lambda r, c, n: (r, c[:0], n), r"counts are of shape \(0, 3, 3\)"),
    ],
)
def test_a_record_that_its_counts_do_not_bear_out_is_not_entered(
    own_store: Store, entry: Entry, change: Change, message: str
) -> None:
    digest = entry.results[1].runs[0].record
    record, counts, names = own_store.record(digest), own_store.counts(digest), own_store.image_names(digest)
    assert record is not None
    assert counts is not None
    assert names is not None
    tallies = own_store.tallies(digest)
    own_store.write_record(*change(record, counts, names), tallies=tallies)
    with pytest.raises(SegbenchError, match=message) as caught:
        adding.entries(own_store, [], Details())
    assert f"eval/{digest}/" in str(caught.value)


@pytest.mark.parametrize("digest", ["../../evil", "/etc", ".", "a/b", "a\0b", "x" * 101, ""])
def test_a_digest_is_a_name(store: Store, entry: Entry, digest: str) -> None:
    record = store.record(entry.results[0].runs[0].record)
    assert record is not None
    plain = record.model_dump(mode="json")
    for wrong in ({**plain, "digest": digest}, {**plain, "source": {**plain["source"], "digest": digest}}):
        with pytest.raises(ValidationError, match="a digest is made of letters"):
            Record.model_validate(wrong)


def test_the_command_says_what_it_did(segbench: Callable[..., tuple[int, str]], finished: Path, tmp_path: Path) -> None:
    first = segbench("leaderboard", "add", finished, "--out", tmp_path / "entries")
    assert (first[0], first[1].count("added: ")) == (0, 8)
    assert "left out: " in first[1]
    second = segbench("leaderboard", "add", finished, "--out", tmp_path / "entries")
    assert (second[0], second[1].count("unchanged: ")) == (0, 8)
    third = segbench("leaderboard", "add", finished, "--out", tmp_path / "entries", "--licence", "CC0-1.0")
    assert (third[0], third[1].count("updated: ")) == (0, 8)
    code, printed = segbench("leaderboard", "check", tmp_path / "entries")
    assert (code, printed.strip()) == (0, "8 entries: no mistakes")
    code, printed = segbench("leaderboard", "build", tmp_path / "entries", "--out", tmp_path / "site")
    assert code == 0, printed
    assert (tmp_path / "site" / "index.html").is_file()
    code, printed = segbench("leaderboard", "add", finished, "--out", tmp_path / "entries", "--name", "sat")
    assert (code, "expected OLD=NEW" in printed) == (2, True)


def test_flags_of_what_was_measured_of_a_network_are_kept(own_store: Store, entry: Entry) -> None:
    record = own_store.record(entry.results[1].runs[0].record)
    assert record is not None
    sound = own_store.measured(record.target.digest)
    assert sound is not None
    measured = replace(sound, zero_gradient=0.5)
    own_store.write_measured(record.target.digest, measured)
    made = adding.entries(own_store, [], Details())
    flags = next(other for other in made.entries if other.path == entry.path).results
    assert ["zero-gradient" in result.flags for result in flags] == [False, True, True, True]
