"""Damage at any place of a store is said or made good; the numbers of a report are never others."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from segbench.config.load import load_matrix
from segbench.config.matrix import Runtime
from segbench.errors import SegbenchError, Stopped
from segbench.evaluation.sweep import run_sweep
from segbench.execution import execute
from segbench.execution.prepare import checked_plan
from segbench.plan.plan import Plan
from segbench.result import stored_result
from segbench.store import Store
from segbench.store.verify import InspectedStore, check
from segbench.training.train import run_training

CHANGES: dict[str, Any] = {
    "models": [{"name": "pspnet", "encoder": "tiny", "widths": [4, 4, 6, 6], "bins": [1, 2], "channels": 4}],
    "transfer": None,
    "worst_of": {"worst": ["bim"]},
    "runtime": {"workers": 1, "device": "cpu", "eval_batch": 2, "keep_images": 2},
}


class Heard:
    """A reporter and a display that keep what is said, and count the jobs that are done."""

    def __init__(self, stop: bool = False) -> None:
        self.stop, self.said, self.jobs = stop, list[str](), 0

    def start(self, jobs: Any, cells: int, cached: int, passes: Any) -> None:
        self.jobs = len(jobs)

    def update(self, *told: Any) -> None:
        if self.stop and told[0] >= 2:
            raise Stopped

    def check(self) -> None:
        pass

    def finish(self, job: str, cells: int, error: str | None) -> None:
        if error:
            self.said.append(error)

    def say(self, text: str) -> None:
        self.said.append(text)


@dataclass(frozen=True)
class Stores:
    """A plan, its store when it was finished, one that was interrupted, and the table that both lead to."""

    plan: Plan
    runtime: Runtime
    finished: Path
    interrupted: Path
    truth: str


def table(store: Store) -> str:
    result = stored_result(store, "tiny")
    assert result is not None
    return result.table.to_csv(index=False)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, write_tiny: Callable[..., Path]) -> Stores:
    folder = tmp_path_factory.mktemp("stores")
    matrix = load_matrix(str(write_tiny(folder, **CHANGES)), [f"runtime.store={folder / 'finished'}"])
    finished = Store(folder / "finished")
    plan = checked_plan(matrix, finished)
    execute.run(plan, finished, matrix.runtime, Heard())
    result = stored_result(finished, "tiny")
    assert result is not None
    result.report()
    cpu = torch.device("cpu")
    interrupted = Store(shutil.copytree(folder / "finished", folder / "interrupted"))
    shutil.rmtree(interrupted.root / "eval")
    shutil.rmtree(interrupted.train_dir(plan.trainings[1].digest))
    for sweep in plan.sweeps:
        if sweep.source.digest == plan.trainings[0].digest:
            with pytest.raises(Stopped):
                run_sweep(sweep, interrupted, matrix.runtime, cpu, Heard(stop=True))
    with pytest.raises(Stopped):
        run_training(plan.trainings[1], interrupted, matrix.runtime, cpu, Heard(stop=True))
    assert list(interrupted.root.glob("cache/sweeps/*/partial.npz"))
    assert list(interrupted.root.glob("train/*/checkpoint.pt"))
    assert not check(finished.root).damages
    assert not check(interrupted.root).damages
    return Stores(plan, matrix.runtime, finished.root, interrupted.root, table(finished))


def kind(path: Path, root: Path) -> str:
    parts = path.relative_to(root).parts
    return "/".join((parts[0], "images" if path.parent.name == "images" else path.name))


def corrupt(path: Path, how: str, rng: random.Random, others: list[Path]) -> bool:
    """Damage a file; return whether what it holds is another thing now."""
    before = path.read_bytes()
    if how == "delete":
        path.unlink()
        return True
    if how == "swap":
        content = rng.choice(others).read_bytes() if others else before[::-1]
    elif how == "flip":
        at, bit = rng.randrange(len(before)), rng.randrange(8)
        content = bytes([*before[:at], before[at] ^ 1 << bit, *before[at + 1 :]])
    else:
        cut = before[: rng.randrange(len(before))]
        content = {"truncate": cut, "empty": b"", "append": before + rng.randbytes(1 + rng.randrange(9))}[how]
    path.write_bytes(content)
    if path.suffix == ".json":
        try:
            return bool(json.loads(content) != json.loads(before))
        except ValueError:
            return True
    return content != before


def damages(stores: Stores, count: int, folder: Path) -> Iterator[str]:
    """Damage copies of the stores in `count` ways, each the same in every run; yield what went by in silence."""
    for seed in range(count):
        rng = random.Random(seed)
        whole = stores.interrupted if seed % 3 == 0 else stores.finished
        root = Path(shutil.copytree(whole, folder / "store"))
        kinds: dict[str, list[Path]] = {}
        for path in InspectedStore(root).files():
            kinds.setdefault(kind(path, root), []).append(path)
        chosen = sorted(kinds)[seed // 3 % len(kinds)]
        path = rng.choice(kinds[chosen])
        how = ("flip", "truncate", "empty", "delete", "swap", "append")[seed % 6 if seed % 2 else rng.randrange(6)]
        told = f"{seed}: {how} {path.relative_to(root)}"
        changed = corrupt(path, how, rng, [other for other in kinds[chosen] if other != path])
        yield from (f"{told}: {problem}" for problem in _silent(stores, whole, Store(root), changed, chosen, how))
        shutil.rmtree(root)


def _silent(stores: Stores, whole: Path, store: Store, changed: bool, chosen: str, how: str) -> Iterator[str]:
    found, before = check(store.root), check(whole)
    counted = (len(found.unsealed), found.undone, found.unasked)
    noticed = bool(found.damages) or counted != (len(before.unsealed), before.undone, before.unasked)
    try:
        shown = table(store).splitlines()
    except SegbenchError:
        noticed = True
    except AssertionError:  # the manifest is gone, which the report says
        noticed = True
    else:
        true = set(stores.truth.splitlines())
        odd = [row for row in shown if row not in true and "missing" not in row and "not-measured" not in row]
        if odd and whole == stores.finished:
            yield f"the report shows {odd}"
    heard = Heard()
    try:
        execute.run(stores.plan, store, stores.runtime, heard)
        after = table(store)
    except SegbenchError:
        noticed = True
    else:
        if after != stores.truth:
            yield "the report after a run has other numbers"
    # Where unfinished work or a check that passed is gone, there is nothing of it that could be read wrongly, and
    # nothing where measurements are gone before an evaluation rests on them.
    gone = {"train/checkpoint.pt"} | ({"train/sanity.json"} if whole == stores.interrupted else set())
    lost = chosen.startswith("cache/") or (how == "delete" and chosen in gone)
    redone = whole == stores.finished and heard.jobs > 0
    noticed = noticed or redone or bool(heard.said)
    if changed and not noticed and not lost:
        yield "nothing was said"


def test_no_damage_is_silent(stores: Stores, tmp_path: Path) -> None:
    assert list(damages(stores, 20, tmp_path)) == []


@pytest.mark.slow
def test_none_of_200_damages_is_silent(stores: Stores, tmp_path: Path) -> None:
    assert list(damages(stores, 200, tmp_path)) == []
