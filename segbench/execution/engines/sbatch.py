"""The commands of SLURM that segbench needs: sbatch, squeue, scancel and scontrol.

Source: https://slurm.schedmd.com/sbatch.html, squeue.html and scontrol.html
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segbench.errors import SegbenchError

PATIENCE = 60
"""Seconds that a command of SLURM may take."""
WARNING = 90
"""Seconds before a time limit at which a job hears of it."""
LARGEST = 1000
"""Tasks of an array at most."""
USUAL = {
    "", "None", "Priority", "Resources", "Dependency", "BeginTime", "JobArrayTaskLimit", "Prolog", "Cleaning",
}  # fmt: skip
"""Why tasks wait that start when others have ended."""


def available() -> None:
    """See that this machine can submit jobs.

    Raises:
        SegbenchError: it has no sbatch.
    """
    missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        raise SegbenchError(
            f"--engine slurm: this machine has no {', '.join(missing)}; run it on a login node of the cluster"
        )


def submit(
    script: str, folder: Path, count: int, options: Mapping[str, str], after: Sequence[str] = (), name: str = "segbench"
) -> str:
    """Submit an array of jobs and return its number.

    Args:
        script: what each task runs.
        folder: where output goes.
        count: number of tasks.
        options: options of sbatch; `array_parallelism` is the number of tasks that may run at once.
        after: names of tasks that must have ended before one of these starts.
        name: of the jobs.

    Raises:
        SegbenchError: SLURM refuses it.
    """
    output = str(folder).replace("%", "%%")  # in the names of files, SLURM replaces %a and the like
    given = {key.replace("_", "-"): value for key, value in options.items()}
    parallel = given.pop("array-parallelism", None)
    command = [
        "sbatch",
        "--parsable",
        f"--job-name={name}",
        f"--array=0-{count - 1}{'' if parallel is None else f'%{parallel}'}",
        f"--output={output}/output/%a.txt",
        "--open-mode=append",
        "--requeue",
        f"--signal=B:USR1@{WARNING}",
        *([f"--dependency={_dependency(after)}"] if after else []),
        *(f"--{key}={value}" if value else f"--{key}" for key, value in given.items()),
    ]
    done = _run(command, script)
    number = done.stdout.strip().split(";")[0]
    if done.returncode or not number.isdecimal():
        reason = " ".join(done.stderr.replace("sbatch: error:", "").split()) or "it names no reason"
        raise SegbenchError(f"--engine slurm: sbatch refuses the jobs ({reason}); correct --slurm")
    return number


def largest_array() -> int:
    """Return how many tasks an array may have: SLURM's own limit, and no more than it has by default."""
    found = re.search(r"^MaxArraySize\s*=\s*([1-9]\d*)", _run(["scontrol", "show", "config"]).stdout, re.MULTILINE)
    return min(LARGEST, int(found[1])) if found else LARGEST


def alive(waiting: bool = False, patient: bool = False) -> dict[str, str] | None:
    """Return this user's tasks that wait or run, and why those wait that do, or None where SLURM does not answer.

    Args:
        waiting: whether only those that wait are asked for.
        patient: whether SLURM is asked again where it does not answer at once.
    """
    states = ["--states=PENDING"] if waiting else []
    ask = _again if patient else _run
    done = ask(["squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i %t %r", *states])
    tasks = ((*line.split(maxsplit=2), "", "")[:3] for line in done.stdout.splitlines())
    return None if done.returncode else {name: why.strip() if state == "PD" else "" for name, state, why in tasks}


def cancel(names: Iterable[str]) -> None:
    """Ask tasks to end; they write their checkpoints first."""
    listed = list(names)
    for first in range(0, len(listed), 200):
        _run(["scancel", *listed[first : first + 200]])


def depend(number: str, after: Sequence[str]) -> None:
    """Let an array that waits in the queue depend on other tasks than before, or on none."""
    _run(["scontrol", "update", f"JobId={number}", f"Dependency={_dependency(after)}"])


def avoid(number: str, nodes: str) -> None:
    """Keep those tasks of an array that wait in the queue from nodes, whose names are separated by commas."""
    _run(["scontrol", "update", f"JobId={number}", f"ExcNodeList={nodes}"])


def requeue(name: str) -> bool:
    """Put a running task back into its queue; whether SLURM does so."""
    return _again(["scontrol", "requeue", name]).returncode == 0


def verdicts(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return how tasks ended, in SLURM's word, and on which node, "" for none: of those that SLURM still remembers."""
    command = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(names)}", "--format=%i %T %B"]
    told = (line.split() for line in _run(command).stdout.splitlines())
    return {name: (state, node.replace("n/a", "")) for name, state, node, *_ in told}


def _dependency(after: Sequence[str]) -> str:
    return f"afterany:{':'.join(after)}" if after else ""


def _again(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command up to three times: a controller that starts anew is away for some seconds."""
    for pause in (2.0, 8.0):
        done = _run(command)
        if done.returncode == 0:
            return done
        time.sleep(pause)
    return _run(command)


def _run(command: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    how: Any = {"capture_output": True, "text": True, "start_new_session": True}  # Ctrl-C is for segbench alone
    try:
        return subprocess.run(command, input=text, timeout=PATIENCE, **how)
    except subprocess.TimeoutExpired as error:
        told = (error.stderr or b"").decode(errors="replace")
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {PATIENCE:g} s {told}")
    except OSError as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))
