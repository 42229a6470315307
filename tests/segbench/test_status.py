from __future__ import annotations

import json
import os
import shutil
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from segbench import cli
from segbench.cli.status import _line, shown
from segbench.store import Store
from segbench.store.running import Running
from segbench.store.status import status


@pytest.fixture
def store(ran: Path, tmp_path: Path) -> Store:
    shutil.copytree(ran, tmp_path / "runs")
    return Store(tmp_path / "runs")


def job(store: Store, digest: str, **changes: Any) -> Running:
    now = time.time() + 500  # the clock of the machine that it runs on goes wrong
    made = Running(digest, "a network", (digest,), "ray", "node7", 1, now - 10, now, 30, 100, 10, "loss 1.0")
    return replace(made, **changes)


def age(store: Store, digest: str, seconds: float) -> None:
    """Let a job be silent for a while, by the clock of the file system."""
    then = time.time() - seconds
    os.utime(store.cache_dir / "running" / f"{digest}.json", (then, then))


def test_what_is_done_runs_failed_and_is_left_adds_up(store: Store) -> None:
    assert status(store).matrices[0].done == status(store).matrices[0].total
    first, second, third, *_ = [record.digest for record in store.all_records()]
    for digest in (first, second, third):
        (store.eval_dir(digest) / "record.json").unlink()
    store.write_running(job(store, first))
    record = next(r for r in store.manifest("tiny", filled=False).records if r.digest == second)  # type: ignore[union-attr]
    store.write_failed_record(
        record.model_copy(update={"status": "failed", "error": "no memory"}), MemoryError("no memory")
    )
    found = status(store)
    (matrix,) = found.matrices
    assert (matrix.running, matrix.failed, matrix.left) == (1, 1, 1)
    assert matrix.total == matrix.done + 3
    assert [(failure.digest, failure.reason) for failure in found.failures] == [(second, "MemoryError: no memory")]


def test_the_time_that_is_left_follows_from_the_steps_of_this_process() -> None:
    now = time.time()
    made = Running("a", "a", ("a",), "local", "node7", 1, now - 10, now, 30, 100, 10)
    assert made.left() == pytest.approx(10 / 20 * 70)
    assert replace(made, done=10).left() is None


def test_a_job_is_lost_when_its_process_is_gone_or_it_is_silent(store: Store) -> None:
    digest = store.all_records()[0].digest
    (store.eval_dir(digest) / "record.json").unlink()
    gone = next(number for number in range(2**22 - 1, 1, -1) if not Path(f"/proc/{number}").exists())
    for changes, silent, lost in (
        ({}, 0, False),
        ({}, 61, True),
        ({"host": socket.gethostname(), "process": os.getpid()}, 20, False),
        ({"host": socket.gethostname(), "process": gone}, 20, True),
        ({"host": socket.gethostname(), "process": gone}, 0, False),  # of a container with numbers of its own
    ):
        store.write_running(job(store, digest, **changes))
        age(store, digest, silent)
        found = status(store)
        assert (len(found.running), len(found.lost)) == ((0, 1) if lost else (1, 0)), changes
        assert found.matrices[0].left == int(lost)


def test_the_verb_shows_it_and_prints_json(store: Store) -> None:
    digest = store.all_records()[0].digest
    (store.eval_dir(digest) / "record.json").unlink()
    store.write_running(job(store, digest))
    runner = CliRunner()
    shown = runner.invoke(cli.app, ["status", str(store.root)])
    assert shown.exit_code == 0, shown.output
    assert "on node7 (ray) since" in shown.output
    assert "30/100, 35 s left, loss 1.0" in " ".join(shown.output.split())
    told = json.loads(runner.invoke(cli.app, ["status", str(store.root), "--json"]).stdout)
    assert told["kind"] == "status"
    assert told["running"][0]["left_seconds"] == pytest.approx(35, abs=1)


def test_lines_fit_a_narrow_terminal_and_stay_whole_in_a_file(store: Store) -> None:
    digest = store.all_records()[0].digest
    (store.eval_dir(digest) / "record.json").unlink()
    store.write_running(job(store, digest, label="a network with a long name " * 4))
    age(store, digest, 30)
    for width in (None, 60):
        told = Console(width=500 if width is None else width)
        with told.capture() as capture:
            told.print(shown(status(store), width))
        lines = capture.get().splitlines()
        listed = lines[lines.index("running") + 1 :]
        if width is None:
            (line,) = listed
            assert line.startswith("  a network")
            assert line.endswith("loss 1.0")
        else:
            assert len(listed) > 1
            assert max(map(len, listed)) <= 60
            assert [line[:6].isspace() for line in listed] == [False, *[True] * (len(listed) - 1)]


def test_watching_without_a_terminal_tells_of_each_change_until_nothing_is_left(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = store.all_records()[0].digest
    record = store.eval_dir(digest) / "record.json"
    content, looks = record.read_bytes(), []

    def wait(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            record.write_bytes(content)

    monkeypatch.setattr(time, "sleep", wait)
    for options, tables in (([], 2), (["--json"], 0)):
        record.unlink()
        looks.clear()
        told = CliRunner().invoke(cli.app, ["status", str(store.root), "--watch", *options])
        assert told.exit_code == 0, told.output
        assert len(looks) == 3
        assert told.stdout.count("matrix  ") == tables
    assert json.loads(told.stdout)["matrices"][0]["left"] == 0


def test_a_job_of_another_day_has_its_date() -> None:
    now = time.time()
    made = Running("a", "a", ("a",), "local", "node7", 1, now - 2 * 24 * 3600, now)
    assert f"since {time.strftime('%Y-%m-%d ', time.localtime(made.started))}" in _line(made, now)
    assert "-" not in _line(replace(made, started=now), now)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"jobs": 3, "records": 3, "name": 5}', b"\xff\0"])
def test_a_damaged_file_is_named_and_hides_nothing_else(content: bytes, store: Store) -> None:
    manifest = store.manifest("tiny", filled=False)
    assert manifest is not None
    (store.eval_dir(manifest.records[0].digest) / "record.json").unlink()
    store.write_manifest(manifest.model_copy(update={"name": "other"}))
    for name, number in (("first", "7"), ("second", "8")):
        listed = [{"key": manifest.records[0].digest, "label": "waits", "job": {}}]
        store.write_array(name, {}, listed)
        store.submitted(name, number)
    (store.root / "matrices" / "other.json").write_bytes(content)
    (store.array_dir("first") / "jobs.json").write_bytes(content)
    shown = CliRunner().invoke(cli.app, ["status", str(store.root)])
    assert shown.exit_code == 1, shown.output
    assert all(text in shown.stdout for text in ("matrices/other.json: ", "slurm/first", "tiny  ", "waits (8_0)"))
    found = json.loads(CliRunner().invoke(cli.app, ["status", str(store.root), "--json"]).stdout)
    assert [matrix["name"] for matrix in found["matrices"]] == ["tiny"]
    assert len(found["damaged"]) == 2


def test_a_store_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["status", str(tmp_path / "none")])
    assert "there is no such store" in str(result.exception)
