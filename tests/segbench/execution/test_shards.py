"""A sweep in shards gives the records of the whole one, in whatever order they end and whoever is stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from segbench.config.matrix import Runtime
from segbench.errors import CellError, Stopped
from segbench.evaluation.sweep import run_sweep
from segbench.execution import shards
from segbench.execution.board import pending
from segbench.execution.cost import Lengths, lengths
from segbench.execution.work import store_failure
from segbench.plan.as_data import job_from_plain, job_to_plain
from segbench.plan.plan import Plan
from segbench.store import Store
from segbench.training.train import run_training

ATTACKS = ["clean", "bim(steps=1)", "bim(steps=3)", "sea(steps=2)", "pgd(target=1)", "patch(steps=2)"]
DATA = {"name": "digits", "size": 16, "train": 8, "val": 7, "dev": 2, "digits": [0, 1]}
RUNTIME = Runtime(eval_batch=2, keep_images=3, checkpoint_every=1e9)


@pytest.fixture
def planned(tiny_plan: Callable[..., Plan], tmp_path: Path, silent: type[Any]) -> tuple[Plan, Callable[[str], Store]]:
    """A plan of several kinds of attacks, and stores that hold its one training."""
    model = {"name": "pspnet", "encoder": "tiny", "widths": [4, 4, 6, 6], "bins": [1, 2], "channels": 4}
    plan = tiny_plan(models=[model], defenses=["none"], attacks=ATTACKS, transfer=None, dataset=DATA)
    for cell in plan.trainings:
        run_training(cell, Store(tmp_path / "trained"), RUNTIME, torch.device("cpu"), silent())

    def store(name: str) -> Store:
        (tmp_path / name).mkdir()
        for training in (tmp_path / "trained" / "train").iterdir():
            (tmp_path / name / "train" / training.name).mkdir(parents=True)
            for file in training.iterdir():
                (tmp_path / name / "train" / training.name / file.name).write_bytes(file.read_bytes())
        return Store(tmp_path / name)

    return plan, store


def left(store: Store) -> dict[str, object]:
    """Return every file of a store but locks; records without what tells when and where they were made."""
    found: dict[str, object] = {}
    for path in sorted(store.root.rglob("*")):
        if not path.is_file() or path.name.startswith(".lock"):
            continue
        name = path.relative_to(store.root).as_posix()
        if path.name == "record.json":
            content = json.loads(path.read_text())
            found[name] = {key: value for key, value in content.items() if key not in ("provenance", "checksum")}
        else:
            found[name] = path.read_bytes()
    return found


def test_shards_in_any_order_leave_what_the_whole_sweep_leaves(
    planned: tuple[Plan, Callable[[str], Store]], silent: type[Any]
) -> None:
    plan, make = planned
    whole, split = make("whole"), make("split")
    cpu = torch.device("cpu")
    for sweep in plan.sweeps:
        run_sweep(sweep, whole, RUNTIME, cpu, silent())
    for sweep in reversed(plan.sweeps):
        first, second, third = (replace(sweep, shard=shard) for shard in ((0, 2), (2, 6), (6, 7)))
        run_sweep(third, split, RUNTIME, cpu, silent())
        with pytest.raises(Stopped):
            run_sweep(second, split, RUNTIME, cpu, silent(stop_at=1))
        assert split.unfinished_from(sweep.key) == [2, 6]
        run_sweep(first, split, RUNTIME, cpu, silent())
        assert not any(split.evaluated(cell.digest) for cell in sweep.cells)
        run_sweep(job_from_plain(job_to_plain(second)), split, RUNTIME, cpu, silent())  # type: ignore[arg-type]
    assert all(split.evaluated(cell.digest) for cell in plan.evaluations)
    assert left(split) == left(whole)


def test_a_whole_sweep_takes_up_what_shards_have_found(
    planned: tuple[Plan, Callable[[str], Store]], silent: type[Any]
) -> None:
    plan, make = planned
    whole, split = make("whole"), make("split")
    sweep, cpu = next(sweep for sweep in plan.sweeps if sweep.attack.name == "bim"), torch.device("cpu")
    run_sweep(sweep, whole, RUNTIME, cpu, silent())
    run_sweep(replace(sweep, shard=(4, 6)), split, RUNTIME, cpu, silent())
    heard = silent()
    run_sweep(sweep, split, RUNTIME, cpu, heard)
    told = [(done, text == "first images") for done, _, text in heard.heard[:5]]
    assert told == [(0, True), (2, False), (4, False), (6, True), (7, False)], "images 5 and 6 are not attacked again"
    assert left(split) == left(whole)


def test_where_a_shard_failed_the_next_run_does_it_alone(
    planned: tuple[Plan, Callable[[str], Store]], silent: type[Any]
) -> None:
    plan, make = planned
    whole, split = make("whole"), make("split")
    sweep, cpu = next(sweep for sweep in plan.sweeps if sweep.attack.name == "bim"), torch.device("cpu")
    run_sweep(sweep, whole, RUNTIME, cpu, silent())
    parts = [replace(sweep, shard=shard) for shard in ((0, 2), (2, 4), (4, 7))]
    store_failure(parts[0], split, CellError("not finite"))
    for part in parts[1:]:
        run_sweep(part, split, RUNTIME, cpu, silent())
    records = [split.record(cell.digest) for cell in sweep.cells]
    assert {record.error for record in records if record is not None} == {"not finite"}
    heard = silent()
    for part in reversed(parts):
        run_sweep(part, split, RUNTIME, cpu, heard)
    attacked = [done for done, total, text in heard.heard if "images/s" in text and total == 2]
    assert attacked == [2]
    assert not any("images/s" in text for _, total, text in heard.heard if total != 2)
    assert left(split) == left(whole)


def test_what_a_longer_shard_has_kept_is_not_taken_for_a_shorter_one(
    planned: tuple[Plan, Callable[[str], Store]], silent: type[Any]
) -> None:
    plan, make = planned
    whole, split = make("whole"), make("split")
    sweep, cpu = next(sweep for sweep in plan.sweeps if sweep.attack.name == "bim"), torch.device("cpu")
    run_sweep(sweep, whole, RUNTIME, cpu, silent())
    for shard in ((0, 4), (0, 2), (2, 4), (4, 7)):
        run_sweep(replace(sweep, shard=shard), split, RUNTIME, cpu, silent())
    assert left(split) == left(whole)


def sizes(plan: Plan, workers: int, batch: int = 2) -> dict[str, list[tuple[int, int]]]:
    found = shards.shards(plan.sweeps, lengths(plan), workers, batch)
    names = {sweep.key: sweep.attack.short for sweep in plan.sweeps}
    return {names[key]: own for key, own in found.items()}


def test_long_sweeps_are_split_at_batches(tiny_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "LEAST", 40)
    attacks = ["clean", "bim(steps=10)", "universal(epochs=9)"]
    plan = tiny_plan(models=["pspnet(encoder=tiny)"], defenses=["none"], attacks=attacks, transfer=None, dataset=DATA)
    split = sizes(plan, 2)
    assert split == {"bim(steps=10)": [(0, 2), (2, 4), (4, 6), (6, 7)]}
    assert sizes(plan, 1) == {}
    monkeypatch.setattr(shards, "LEAST", 80)
    assert sizes(plan, 2) == {"bim(steps=10)": [(0, 4), (4, 7)]}
    assert sizes(plan, 2, batch=25) == {}


def test_a_target_that_learns_while_it_is_scored_is_not_split(tiny_plan: Callable[..., Plan]) -> None:
    plan = tiny_plan(models=["pspnet(encoder=tiny)"], defenses=["none"], attacks=["bim"], transfer=None, dataset=DATA)
    (sweep,) = plan.sweeps
    alone = replace(sweep, cells=(replace(sweep.cells[0], dynamic=True),))
    many = Lengths({}, {cell.digest: 10**6 for one in (sweep, alone) for cell in one.cells})
    assert list(shards.shards([sweep], many, 2, 2)) == [sweep.key]
    assert shards.shards([alone], many, 2, 2) == {}


def test_cells_end_with_the_last_shard(tiny_plan: Callable[..., Plan], tmp_path: Path) -> None:
    plan = tiny_plan()
    sweep = plan.sweeps[0]
    board = pending(plan, Store(tmp_path / "runs"), {sweep.key: [(0, 2), (2, 5)]})
    first, second = ((own, job) for own, job in board.sweeps.items() if own.startswith(f"{sweep.key}-"))
    assert (first[1].label, second[1].label) == tuple(f"{sweep.label}, images {n}" for n in ("1 to 2", "3 to 5"))
    assert board.ends(*first) == 0
    assert board.ends(*second) == len(sweep.cells)
