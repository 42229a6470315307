"""What is asked of SLURM, with commands that only write down what they were given."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from segbench.errors import SegbenchError
from segbench.execution.engines import sbatch


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def command(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_an_array_depends_on_trainings_and_keeps_what_the_user_asks_for(commands: Path) -> None:
    command(commands, "sbatch", f'printf "%s\\n" "$@" > {commands}/asked; cat > {commands}/script; echo "12;cluster"')
    options = {"partition": "gpu", "cpus_per_task": "4", "array_parallelism": "2", "exclusive": ""}
    assert sbatch.submit("run me", commands, 3, options, ("7_0", "7_2")) == "12"
    asked = (commands / "asked").read_text().split()
    assert {"--array=0-2%2", "--dependency=afterany:7_0:7_2", "--partition=gpu", "--cpus-per-task=4"} <= set(asked)
    assert {"--exclusive", "--requeue"} <= set(asked)
    assert (commands / "script").read_text() == "run me"


def test_a_folder_is_named_as_it_is(commands: Path, tmp_path: Path) -> None:
    command(commands, "sbatch", f'printf "%s\\n" "$@" > {commands}/asked; echo 12')
    sbatch.submit("run me", Path("/shared/my runs/50%are"), 1, {})
    assert "--output=/shared/my runs/50%%are/output/%a.txt" in (commands / "asked").read_text().splitlines()


def test_a_refusal_is_one_sentence(commands: Path) -> None:
    command(commands, "sbatch", "echo 'sbatch: error: invalid partition specified: gpu' >&2; exit 1")
    with pytest.raises(SegbenchError, match=r"refuses the jobs \(invalid partition specified: gpu\)"):
        sbatch.submit("run me", commands, 1, {})


@pytest.mark.parametrize("told", ["", "Usage: sbatch [OPTIONS(0)...]", "slurm-wlm 22.05.8"])
def test_what_names_no_number_has_submitted_no_jobs(commands: Path, told: str) -> None:
    command(commands, "sbatch", f"echo '{told}'")
    with pytest.raises(SegbenchError, match="refuses the jobs"):
        sbatch.submit("run me", commands, 1, {})


def test_ctrl_c_of_a_terminal_does_not_reach_a_command(commands: Path) -> None:
    command(commands, "sbatch", "cut -d' ' -f5 /proc/$$/stat")
    assert int(sbatch.submit("run me", commands, 1, {})) != os.getpgrp()


def test_a_command_that_does_not_end_is_told_in_its_own_words(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sbatch, "PATIENCE", 0.3)
    command(commands, "sbatch", "echo 'sbatch: error: SLURM takes no more, retrying' >&2; exec sleep 9")
    with pytest.raises(SegbenchError, match=r"\(no answer within 0.3 s SLURM takes no more, retrying\)"):
        sbatch.submit("run me", commands, 1, {})


@pytest.mark.parametrize(("told", "found"), [("4", 4), ("1001", 1000), ("200000", 1000), ("0", 1000)])
def test_arrays_are_no_larger_than_slurm_takes_them(commands: Path, told: str, found: int) -> None:
    command(commands, "scontrol", f"echo 'MaxArraySize            = {told}'")
    assert sbatch.largest_array() == found


def test_a_queue_that_does_not_answer_is_no_empty_queue(commands: Path) -> None:
    command(commands, "squeue", "exit 1")
    assert sbatch.alive() is None
    command(commands, "squeue", "echo 12_0 CG TimeLimit; echo '12_1 PD ReqNodeNotAvail, UnavailableNodes:n2'")
    assert sbatch.alive() == {"12_0": "", "12_1": "ReqNodeNotAvail, UnavailableNodes:n2"}
    command(commands, "squeue", "true")
    assert sbatch.alive() == {}


def test_slurm_remembers_for_a_while_how_tasks_ended_and_where(commands: Path) -> None:
    command(commands, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert sbatch.verdicts(["12_0"]) == {}
    command(commands, "squeue", f"echo $@ > {commands}/asked; echo '12_0 CANCELLED n/a'; echo '12_1 FAILED n1'")
    assert sbatch.verdicts(["12_0", "12_1"]) == {"12_0": ("CANCELLED", ""), "12_1": ("FAILED", "n1")}
    assert "--states=all --jobs=12_0,12_1" in (commands / "asked").read_text()


def test_a_controller_that_is_away_for_a_moment_is_asked_again(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    command(commands, "scontrol", f"echo $@ >> {commands}/asked; [ $(wc -l < {commands}/asked) = 2 ]")
    assert sbatch.requeue("12_0")
    assert (commands / "asked").read_text().split() == ["requeue", "12_0"] * 2
    command(commands, "scontrol", "exit 1")
    assert not sbatch.requeue("12_0")
    command(commands, "squeue", f"echo $@ >> {commands}/queued; [ $(wc -l < {commands}/queued) = 3 ] && echo 12_0")
    assert sbatch.alive(patient=True) == {"12_0": ""}
