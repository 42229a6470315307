from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from segbench.config.matrix import Matrix
from segbench.errors import SegbenchError
from segbench.execution.prepare import checked_plan
from segbench.plan.as_data import job_from_plain, job_to_plain
from segbench.plan.plan import Plan, Sweep
from segbench.store import Store

NETWORK = """
import torch

def build():
    torch.manual_seed(0)
    return torch.nn.Conv2d(3, 3, 3, padding=1)
"""


def jobs(plan: Plan) -> list[object]:
    return [*plan.trainings, *plan.sweeps]


def test_jobs_of_trained_networks_survive_json(tiny_plan: Callable[..., Plan]) -> None:
    for job in jobs(tiny_plan(defenses=["none", "ddcat", "randomized-smoothing"], transfer=None)):
        again = job_from_plain(json.loads(json.dumps(job_to_plain(job))))  # type: ignore[arg-type]
        assert again == job
        if isinstance(job, Sweep):
            assert isinstance(again, Sweep)
            assert [cell.expected() for cell in again.cells] == [cell.expected() for cell in job.cells]
            assert again.key == job.key


def test_jobs_of_given_networks_survive_json(tiny_matrix: Callable[..., Matrix], tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    given = {"load": f"{tmp_path / 'net.py'}:build", "check": False}
    matrix = tiny_matrix(models=None, defenses=None, transfer=None, recipe=None, networks=[given])
    plan = checked_plan(matrix, Store(tmp_path / "runs"))
    for job in plan.sweeps:
        again = job_from_plain(json.loads(json.dumps(job_to_plain(job))))
        assert isinstance(again, Sweep)
        assert [cell.expected() for cell in again.cells] == [cell.expected() for cell in job.cells]


def test_a_job_that_means_something_else_on_this_machine_is_refused(tiny_plan: Callable[..., Plan]) -> None:
    plain = job_to_plain(tiny_plan().trainings[0])
    plain["training"]["trained"]["recipe"]["lr"] = 0.5
    with pytest.raises(SegbenchError, match="means something else on this machine"):
        job_from_plain(plain)
