"""The main promise of a store: killed at any moment and run again, a matrix ends with the same report."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

RECIPE = {"optimizer": "adamw", "lr": 0.01, "batch_size": 4, "iterations": 120}
DATA = {"name": "digits", "size": 32, "train": 40, "val": 60, "dev": 2, "digits": [0, 1]}
RUNTIME = {"workers": 2, "device": "cpu", "eval_batch": 2, "checkpoint_every": 0.2}


def start(matrix: Path, store: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "segbench", "run", str(matrix), "--store", str(store)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, cwd=store.parent
    )


def finish(matrix: Path, store: Path) -> dict[str, bytes]:
    process = start(matrix, store)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return {path.name: path.read_bytes() for path in (store / "reports" / "killed").iterdir()}


def kill_when(matrix: Path, store: Path, pattern: str) -> None:
    """Start a run and kill it and its workers with SIGKILL as soon as a file matches."""
    process = start(matrix, store)
    deadline = time.monotonic() + 300
    while not any(store.glob(pattern)):
        assert process.poll() is None, f"the run ended before {pattern} appeared: {process.communicate()[0]}"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_killed_twice_and_resumed_gives_the_same_bytes(write_matrix: Callable[..., Path], tmp_path: Path) -> None:
    matrix = write_matrix("killed", recipe=RECIPE, dataset=DATA, runtime=RUNTIME)
    whole = finish(matrix, tmp_path / "whole")

    store = tmp_path / "killed-store"
    kill_when(matrix, store, "train/*/checkpoint.pt")
    assert not list(store.glob("eval/*/record.json"))
    kill_when(matrix, store, "cache/sweeps/*/partial.npz")
    assert finish(matrix, store) == whole


STORM = {"run": 30, "report": 5, "zoo": 5, "leaderboard add": 5, "leaderboard build": 5}
"""How often each command is killed."""


def command(name: str, matrix: Path, folder: Path) -> list[str]:
    store, entries = str(folder / "runs"), str(folder / "entries")
    return {
        "run": ["run", str(matrix), "--store", store],
        "report": ["report", "--store", store],
        "zoo": ["zoo", "add", "storm", "--store", store, "--zoo", str(folder / "zoo")],
        "leaderboard add": ["leaderboard", "add", store, "--out", entries],
        "leaderboard build": ["leaderboard", "build", entries, "--out", str(folder / "site")],
    }[name]


WORK = """
import os, sys

def work(arguments, output):
    from segbench.cli import main
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(written, 1)
    os.dup2(written, 2)
    sys.argv = ["segbench", *arguments]
    main()
"""


class Shell:
    """Starts commands from a process that has imported segbench, so that a kill hits work and not imports."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "output.txt"
        (folder / "storm_work.py").write_text(WORK)
        self.work = importlib.import_module("storm_work").work
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["segbench.cli", "segbench.api", "segbench.cli.progress", "matplotlib"])

    def start(self, arguments: Sequence[str]) -> Any:
        process = self.context.Process(target=self.work, args=(arguments, self.output))
        process.start()
        return process

    def finish(self, arguments: Sequence[str]) -> float:
        """Let a command come to its end, and return the seconds that it took."""
        began = time.monotonic()
        process = self.start(arguments)
        process.join()
        assert process.exitcode == 0, self.output.read_text()
        return time.monotonic() - began

    def kill(self, arguments: Sequence[str], seconds: float) -> bool:
        """Kill a command after some seconds; return whether it was still at work."""
        process = self.start(arguments)
        process.join(seconds)
        alive = process.exitcode is None
        if alive:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:  # it has just ended by itself
                alive = False
            process.join()
        assert alive or process.exitcode == 0, self.output.read_text()
        return alive


def left(folder: Path) -> dict[str, object]:
    """Return all that a storm may not change: every file's bytes, without the times that records and cards hold."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or path.suffix in (".lock", ".tmp") or name.startswith("runs/cache"):
            continue
        if path.name in ("record.json", "done.json"):
            content = json.loads(path.read_text())
            assert content.pop("provenance")
            for timed in ("checksum", "seconds", "history_sha256"):
                content.pop(timed, None)
            found[name] = content
        elif path.name == "history.csv":
            rows = [line.split(",") for line in path.read_text().splitlines()]
            timed_column = rows[0].index("images_per_second")
            found[name] = [[*row[:timed_column], *row[timed_column + 1 :]] for row in rows]
        else:
            found[name] = path.read_bytes()
    return found


@pytest.mark.slow
def test_a_storm_of_kills_changes_no_byte(
    write_matrix: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    runtime = {"workers": 1, "device": "cpu", "eval_batch": 2, "checkpoint_every": 0.05, "keep_images": 2}
    matrix = write_matrix(
        "storm", recipe=RECIPE, dataset=DATA, runtime=runtime, models=["pspnet(encoder=tiny)"], transfer=None
    )
    shell, rng = Shell(tmp_path), random.Random(0)
    whole, stormy = tmp_path / "whole", tmp_path / "stormy"
    whole.mkdir()
    stormy.mkdir()
    alive = {}
    for name, kills in STORM.items():
        seconds = shell.finish(command(name, matrix, whole))
        # A run goes on where it was killed: each of its parts is to be short.
        longest = min(seconds, 1.0 + 2 * seconds / kills) if name == "run" else seconds
        hit = [shell.kill(command(name, matrix, stormy), rng.uniform(0.05, longest)) for _ in range(kills)]
        alive[name] = sum(hit)
        shell.finish(command(name, matrix, stormy))
    calm, after = left(whole), left(stormy)
    assert after.keys() == calm.keys()
    assert not [name for name, content in calm.items() if after[name] != content]
    assert sum(alive.values()) > 30, alive
    assert shell.finish(["store", "verify", str(stormy / "runs")]) > 0
    assert not list((stormy / "runs").rglob(".*.tmp"))
