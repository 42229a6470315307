"""How commands end that do not end well: exit codes of real processes, one sentence, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from segbench import cli
from segbench.cli.endings import sentences
from segbench.errors import StoreError

LONG = "a" * 300
COMMAND = (sys.executable, "-m", "segbench")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", LONG], "name too long"),
        (["eval", LONG, "-d", "digits"], "aaa"),
        (["leaderboard", "check", LONG], "name too long"),
        (["store", "verify", "a-file"], "a-file: is a file; a store is a folder"),
        (["store", "verify", "nowhere"], "nowhere: there is no such store"),
        (["run", "quickstart", "--store", "/proc/nothing"], "cannot be written"),
        (["data", "check", "camvid(size=[0, 0])", "--data", "camvid=."], "each at least 1, got [0, 0]"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_mistake(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a-file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["segbench", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    for device in ("cuda", "cuda:3"):
        command = [*COMMAND, "run", "quickstart", "--device", device]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "torch finds no CUDA device" in ended.stderr


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device", "runs/x"), "runs/x: no space left on device"),
        (OSError(28, "No space left on device"), "no space left on device"),
        (ValueError("embedded null byte"), "a path holds a NUL character, which no file's name can hold"),
        (StoreError("runs: damaged"), "runs: damaged"),
    ],
)
def test_what_a_machine_refuses_is_a_mistake(error: Exception, sentence: str) -> None:
    assert sentences(error) == (sentence, 2)


@pytest.mark.parametrize("has_store", [True, False])
def test_a_mistake_of_segbench_leaves_its_traceback_in_a_file(tmp_path: Path, has_store: bool) -> None:
    code = (
        "import sys; sys.argv = ['segbench', 'list', 'attacks']\n"
        "from segbench.components import catalog\n"
        "from segbench import cli\n"
        "def broken(*given): raise RuntimeError('broken')\n"
        "catalog.components = broken\n"
        "cli.main()\n"
    )
    if has_store:
        (tmp_path / "runs").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path), "SEGBENCH_CACHE": str(tmp_path / "cache")}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 70
    assert ended.stderr.startswith("error: this is a mistake of segbench's, not yours: RuntimeError: broken; ")
    assert "Traceback" not in ended.stderr
    (file,) = tmp_path.glob("runs/crash-*.txt" if has_store else "segbench-crash-*.txt")
    assert "in broken" in file.read_text()
    assert file.name in ended.stderr


def test_ctrl_c_is_exit_code_130(tmp_path: Path, write_matrix: Callable[..., Path]) -> None:
    slow = {"lr": 0.01, "batch_size": 4, "iterations": 100000}
    command = [*COMMAND, "run", str(write_matrix(recipe=slow)), "--store", str(tmp_path / "runs")]
    output = subprocess.PIPE
    process = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/train/*/cell.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "To go on: segbench run" in said.replace("\n", " ")
    assert "Traceback" not in said


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([*COMMAND, "list"], cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert ended.stderr == b""


def test_a_full_disk_is_a_mistake(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [*COMMAND, "list", "attacks"]
        ended = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (2, "error: no space left on device\n")
