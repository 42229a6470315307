"""Trackers hear what the store holds, all of it, once; a tracker that fails never stops a run."""

from __future__ import annotations

import csv
import shutil
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from segbench import cli
from segbench.config.load import load_matrix
from segbench.config.matrix import Matrix
from segbench.errors import MatrixError, SegbenchError, Stopped
from segbench.execution import prepare
from segbench.execution.workers import Update
from segbench.plan.plan import Plan
from segbench.reports.pictures import amplified, coloured
from segbench.result import Result, stored_result
from segbench.store import Store
from segbench.tracking import backends
from segbench.tracking.base import Begun, Example
from segbench.tracking.config import config_of
from segbench.tracking.listener import as_name, tracked


class Heard:
    """A tracker that keeps what it hears, and breaks where it is told to."""

    def __init__(self, begun: Begun, breaks: str = "") -> None:
        self.begun, self.breaks = begun, breaks
        self.curves: dict[str, list[tuple[int, Mapping[str, float]]]] = {}
        self.scores: dict[str, Mapping[str, float]] = {}
        self.shown: dict[str, Sequence[Example]] = {}
        self.files: list[Path] = []
        self.closed: bool | None = None

    def _or_break(self, what: str) -> None:
        if what == self.breaks:
            raise ConnectionError("the network is gone")

    def curve(self, name: str, values: Mapping[str, float], iteration: int) -> None:
        self._or_break("curve")
        self.curves.setdefault(name, []).append((iteration, values))

    def results(self, name: str, values: Mapping[str, float]) -> None:
        self._or_break("results")
        assert name not in self.scores
        self.scores[name] = values

    def images(self, name: str, examples: Sequence[Example]) -> None:
        self.shown[name] = examples

    def report(self, paths: Sequence[Path]) -> None:
        self.files = list(paths)

    def close(self, failed: bool) -> None:
        self._or_break("close")
        self.closed = failed


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Heard]]:
    """Put trackers that keep what they hear in place of the real ones; return those that start."""

    def place(breaks: str = "") -> list[Heard]:
        started: list[Heard] = []

        def start(begun: Begun) -> Heard:
            started.append(Heard(begun, breaks))
            return started[-1]

        monkeypatch.setattr(backends, "import_module", lambda name: types.SimpleNamespace(start=start))
        return started

    return place


@pytest.fixture
def finished(ran: Path, write_tiny: Callable[..., Path], tmp_path: Path) -> Callable[..., tuple[Plan, Store]]:
    """The plan of the tiny matrix with trackers, and a store in which it is done."""
    shutil.copytree(ran, tmp_path / "runs")

    def load(*track: str) -> tuple[Plan, Store]:
        options = {"--store": tmp_path / "runs", "--track": list(track)}
        return prepare.tentative_plan(load_matrix(str(write_tiny(tmp_path)), (), options)), Store(tmp_path / "runs")

    return load


def run_through(plan: Plan, store: Store, display: Any, *, jobs: bool) -> None:
    """Let trackers hear of a run: of one that does all jobs now, or of one that finds all of them done."""
    labels = {key: key for key in (*(c.digest for c in plan.trainings), *(s.key for s in plan.sweeps))} if jobs else {}
    with tracked(plan, store, display) as listener:
        listener.start(labels, len(labels), 0, {})
        for key in labels:
            listener.update(Update(key, 1, 1, 2, "loss 1.0"))
            listener.finish(key, 1, None)
        result = stored_result(store, plan.matrix.name)
        assert result is not None
        listener.report(result)


def test_a_tracker_hears_all_that_the_store_holds(
    heard: Callable[..., list[Heard]],
    finished: Callable[..., tuple[Plan, Store]],
    silent: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = heard()
    monkeypatch.setattr(Result, "report", lambda result: [result.store / "report.md"])
    plan, store = finished("tensorboard")
    run_through(plan, store, silent(), jobs=True)
    run_through(plan, store, silent(), jobs=False)
    first, second = started
    for tracker in started:
        assert tracker.closed is False
        assert tracker.files == [store.root / "report.md"]
        assert tracker.begun.project == "tiny"
    defenses = ("without defense", "with sat")
    assert set(first.curves) == {f"train/{m} {d}" for m in ("pspnet", "deeplabv3") for d in defenses}
    assert first.curves == second.curves
    assert first.scores == second.scores
    histories = set()
    for digest in store.trainings():
        path = store.history(digest)
        assert path is not None
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        histories.add(tuple((int(row["iteration"]), float(row["loss"])) for row in rows))
    assert {tuple((step, values["loss"]) for step, values in curve) for curve in first.curves.values()} == histories
    records = store.records()
    assert len(first.scores) == len(records)
    for record in records:
        assert record.scores is not None
        attack = record.attack.short
        if record.setting == "black-box":
            attack += f" from {record.source.model.name} with sat"
        defense = {"none": "without defense"}.get(record.target.defense.name, f"with {record.target.defense.name}")
        name = f"digits/{record.target.model.name} {defense}/{as_name(attack)}"
        scores = record.scores
        assert first.scores[f"eval/{name}"] == {"miou": scores.miou, "macc": scores.macc, "aacc": scores.aacc}
        kept = store.kept_images(record.digest)
        assert [example.position for example in first.shown[f"images/{name}"]] == [image.index for image in kept]
        panels = np.split(first.shown[f"images/{name}"][0].pixels, 5, axis=1)
        np.testing.assert_array_equal(panels[2], amplified(kept[0].adversarial[0], kept[0].images[0]))
        np.testing.assert_array_equal(panels[4], coloured(kept[0].preds, kept[0].palette))


@pytest.mark.parametrize("breaks", ["curve", "results", "close"])
def test_a_tracker_that_breaks_is_said_once_and_stops_nothing(
    heard: Callable[..., list[Heard]],
    finished: Callable[..., tuple[Plan, Store]],
    silent: Any,
    monkeypatch: pytest.MonkeyPatch,
    breaks: str,
) -> None:
    heard(breaks)
    monkeypatch.setattr(Result, "report", lambda result: [])
    display = silent()
    run_through(*finished("wandb"), display, jobs=False)
    words = "--track wandb: ConnectionError: the network is gone; it hears nothing more of this run"
    assert display.said == [words]


def test_a_run_that_breaks_closes_its_trackers(
    heard: Callable[..., list[Heard]], finished: Callable[..., tuple[Plan, Store]], silent: Any
) -> None:
    started = heard()
    with pytest.raises(Stopped), tracked(*finished("mlflow"), silent()):
        raise Stopped
    assert started[0].closed is True


def test_a_missing_package_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, finished: Callable[..., tuple[Plan, Store]], silent: Any
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'mlflow'", name="mlflow")

    monkeypatch.setattr(backends, "import_module", missing)
    sentence = r"--track mlflow: the package mlflow is not installed; pip install 'segbench\[mlflow\]'"
    with pytest.raises(SegbenchError, match=sentence), tracked(*finished("mlflow"), silent()):
        pass


def test_a_tracker_that_cannot_start_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, finished: Callable[..., tuple[Plan, Store]], silent: Any
) -> None:
    def start(begun: Begun) -> None:
        raise RuntimeError("no\nserver")

    monkeypatch.setattr(backends, "import_module", lambda name: types.SimpleNamespace(start=start))
    sentence = r"--track mlflow: cannot start \(RuntimeError: no server\)"
    with pytest.raises(SegbenchError, match=sentence), tracked(*finished("mlflow"), silent()):
        pass


@pytest.mark.slow
def test_the_command_line_tracks_a_run(write_tiny: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = write_tiny(tmp_path, transfer=None, defenses=["none"], attacks=["clean"])
    command = ["run", str(path), "--store", str(tmp_path / "runs"), "--track", "tensorboard"]
    ended = CliRunner().invoke(cli.app, command)
    assert ended.exit_code == 0, ended.output
    (folder,) = (tmp_path / "runs" / "tensorboard" / "tiny").iterdir()
    read = EventAccumulator(str(folder))
    read.Reload()
    for record in Store(tmp_path / "runs").records():
        assert record.scores is not None
        (event,) = read.Scalars(f"eval/digits/{record.target.model.name} without defense/clean/miou")
        assert event.value == pytest.approx(record.scores.miou)
    assert "report/text_summary" in read.Tags()["tensors"]


def test_an_unknown_tracker_is_refused_wherever_it_stands(write_matrix: Callable[..., Path]) -> None:
    for words, load in (
        ("--track", lambda: load_matrix(str(write_matrix()), (), {"--track": ["tensorbord"]})),
        ("runtime.track", lambda: load_matrix(str(write_matrix(runtime={"track": "tensorbord"})))),
    ):
        with pytest.raises(MatrixError, match=words) as raised:
            load()
        assert "tensorboard" in str(raised.value)
    assert load_matrix(str(write_matrix(runtime={"track": "wandb"}))).runtime.track == ("wandb",)


def test_track_is_an_option_of_run_and_eval() -> None:
    for verb in ("run", "eval"):
        assert "--track" in CliRunner().invoke(cli.app, [verb, "--help"], env={"COLUMNS": "200"}).output


def test_config_has_one_level_and_names_recipes_that_differ(tiny_matrix: Callable[..., Matrix]) -> None:
    alike = config_of(tiny_matrix())
    assert alike["recipe/iterations"] == 4
    assert alike["defenses"] == "none, sat"
    assert all(isinstance(value, str | int | float | bool) for value in alike.values())
    changed = config_of(tiny_matrix(defenses=["none", {"name": "sat", "recipe": {"iterations": 5}}]))
    assert (changed["recipe/none/iterations"], changed["recipe/sat/iterations"]) == (4, 5)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("bim(steps=3)", "bim-steps-3"),
        ("pspnet with sat, seed 1", "pspnet with sat-seed 1"),
        ("/é/", "-"),
        ("", "-"),
        ("a - b(c=[0, 1])", "a - b-c-0-1"),
    ],
)
def test_names_are_what_every_tracker_takes(text: str, name: str) -> None:
    assert as_name(text) == name
