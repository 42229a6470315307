from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from segbench.execution import execute
from segbench.execution.board import pending
from segbench.plan.plan import Plan
from segbench.store import Store, whole
from segbench.store.whole import Whole

TINY_MODEL = {"name": "pspnet", "encoder": "tiny", "widths": [4, 4, 6, 6], "bins": [1, 2], "channels": 4}


@pytest.fixture
def store(ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A finished store whose records were found whole, where a second reading of one would fail the test."""
    shutil.copytree(ran, tmp_path / "runs")
    store = Store(tmp_path / "runs")
    monkeypatch.setattr(whole, "SETTLED", 0.0)
    time.sleep(0.02)  # the clock of file times moves in steps
    first = Whole(store)
    assert {first.look(digest) for digest in store.evaluations()} == {(True, None)}
    first.keep()
    return store


def test_what_has_not_changed_is_not_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "examined", lambda *own: pytest.fail("read again"))
    again = Whole(store)
    assert all(again.look(digest) == (True, None) for digest in store.evaluations())
    assert not again.changed


@pytest.mark.parametrize("name", ["record.json", "counts.npz", "tallies.npz", "images"])
def test_a_file_that_changed_is_read_even_if_its_size_and_its_time_did_not(store: Store, name: str) -> None:
    digest = store.evaluations()[0]
    path = store.eval_dir(digest) / name
    path = path if path.is_file() else next(path.iterdir())
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    later = Whole(store)
    done, reason = later.look(digest)
    assert not done
    assert reason is not None
    later.keep()
    assert digest not in Whole(store).known


def test_other_weights_and_a_missing_file_are_noticed(store: Store) -> None:
    digest, other = store.evaluations()[:2]
    record = store.record(digest)
    assert record is not None
    store.write_training(record.target.digest, b"others", b"", {})
    assert (
        Whole(store).look(digest)[1] == f"{store.eval_dir(digest)}: made with other weights than its training has now"
    )
    (store.eval_dir(other) / "record.json").unlink()
    assert Whole(store).look(other) == (False, None)


def test_fresh_files_are_not_relied_on(ran: Path, tmp_path: Path) -> None:
    shutil.copytree(ran, tmp_path / "runs")
    found = Whole(Store(tmp_path / "runs"))
    digest = found.store.evaluations()[0]
    assert found.look(digest) == (True, None)
    assert digest not in found.known


def test_a_damaged_memory_is_no_memory(store: Store) -> None:
    (store.cache_dir / "whole").write_bytes(b"{}")
    assert Whole(store).known == {}


def test_a_run_leaves_nothing_to_read_for_the_next_one(
    tiny_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "SETTLED", -1.0)
    plan = tiny_plan(models=[TINY_MODEL], defenses=["none"], transfer=None)
    store = Store(plan.matrix.runtime.store)
    execute.run(plan, store, plan.matrix.runtime, execute.SILENT)
    monkeypatch.setattr(Store, "examined", lambda *own: pytest.fail("read again"))
    assert pending(plan, store).jobs == {}


def test_a_run_writes_down_what_it_has_done_while_it_goes_on(
    tiny_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tiny_plan(models=[TINY_MODEL], defenses=["none"], transfer=None)
    store = Store(plan.matrix.runtime.store)
    monkeypatch.setattr(whole, "SETTLED", -1.0)
    monkeypatch.setattr(whole, "FEW", 0)
    monkeypatch.setattr(execute, "keep_whole", lambda *own: None)  # as where the run is killed
    execute.run(plan, store, plan.matrix.runtime, execute.SILENT)
    assert set(Whole(store).known) == {cell.digest for cell in plan.evaluations}


def test_what_several_runs_find_is_kept(store: Store) -> None:
    digests = store.evaluations()
    (store.cache_dir / "whole").unlink()
    runs = [Whole(store), Whole(store)]
    for run, digest in zip(runs, digests, strict=False):
        run.look(digest)
        run.keep()
    assert set(Whole(store).known) == set(digests[:2])


def test_a_run_that_was_told_of_other_weights_looks_again(store: Store) -> None:
    run, digest = Whole(store), store.evaluations()[0]
    assert run.look(digest) == (True, None)
    record = store.record(digest)
    assert record is not None
    store.write_training(record.target.digest, b"others", b"", {})
    run.forget_weights()
    assert not run.look(digest)[0]
    run.keep()
    assert digest not in Whole(store).known
