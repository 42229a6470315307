"""The main promise of a store: killed at any moment and run again, a matrix ends with the same report."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

RECIPE = {"optimizer": "adamw", "lr": 0.01, "batch_size": 4, "iterations": 120}
DATA = {"name": "digits", "size": 32, "train": 40, "val": 60, "dev": 2, "digits": [0, 1]}
RUNTIME = {"workers": 2, "device": "cpu", "eval_batch": 2, "checkpoint_every": 0.2}


def start(matrix: Path, store: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "segbench", "run", str(matrix), "--store", str(store)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
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
