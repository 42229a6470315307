from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from segbench.execution import work, workers
from segbench.execution.heartbeat import Heartbeat
from segbench.plan.plan import Plan, Sweep
from segbench.store import Store


@pytest.mark.parametrize("kind", ["training", "sweep"])
def test_a_job_that_another_process_does_keeps_that_one_s_sign_of_life(
    kind: str, tiny_plan: Callable[..., Plan], silent: Callable[[], Any]
) -> None:
    plan = tiny_plan(defenses=["none"], transfer=None)
    store, runtime = Store(plan.matrix.runtime.store), plan.matrix.runtime
    job: Any = plan.trainings[0] if kind == "training" else plan.sweeps[0]
    key = job.key if isinstance(job, Sweep) else job.digest
    lock = store.sweep_lock(key, None) if isinstance(job, Sweep) else store.training_lock(key)
    workers.set_up(workers.DirectChannel(silent(), threading.Event()), torch.device("cpu"), torch.get_num_threads())
    with lock, Heartbeat(store, key, job, "ray"):
        assert work.work(key, job, store.root, runtime).elsewhere
        found = store.running_job(key)
        assert found is not None
        assert found.engine == "ray"
