"""What a task of an array runs on a node: its job, a checkpoint when it is asked to end, and back into the queue.

SLURM sends USR1 before the time limit; the task then puts itself back into the queue. It sends TERM when it preempts,
requeues or cancels the task, and decides itself what becomes of it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from segbench.errors import Stopped
from segbench.execution.engines import remote, sbatch
from segbench.processors import wait_passively
from segbench.store import Store
from segbench.store.arrays import Task


def main(root: str, name: str) -> None:
    """Do the job of this task.

    Args:
        root: folder of the store.
        name: of the array.
    """
    stop, limit = threading.Event(), threading.Event()

    def hear(number: int, frame: Any) -> None:
        if number == signal.SIGUSR1:
            limit.set()
        stop.set()

    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, hear)
    store = Store(Path(root))
    content = store.array(name)
    index = int(os.environ["SLURM_ARRAY_TASK_ID"])
    own = content["jobs"][index]
    task = Task(name, os.environ["SLURM_ARRAY_JOB_ID"], index, own["key"], own["label"])
    if store.task_ended(task) is not None:
        return
    try:
        ended = remote.do(content["shared"], task.key, own["job"], remote.Ear(store.stop_file, stop))
    except Stopped:
        if limit.is_set() and not sbatch.requeue(task.name):
            store.write_task_ended(task, {"stopped": True})
        return
    if ended.elsewhere:
        return
    store.write_task_ended(task, {"error": ended.error, "said": list(ended.said)})


if __name__ == "__main__":
    wait_passively()
    main(*sys.argv[1:])
