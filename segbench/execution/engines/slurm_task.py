"""What a task of an array runs on a node: its job, a checkpoint when it is asked to end, and back into the queue.

SLURM sends USR1 before the time limit; the task then puts itself back into the queue. It sends TERM when it preempts,
requeues or cancels the task, and decides itself what becomes of it.

Starting a task takes as long as many a small job. So a task whose job has ended does jobs of tasks that still wait, and
takes these tasks out of the queue. If it dies meanwhile, they are still there.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segbench.errors import Stopped
from segbench.execution.board import PAUSE
from segbench.execution.engines import remote, sbatch
from segbench.execution.engines.base import Refused, Unfit
from segbench.store import Store
from segbench.store.arrays import Task

GO_ON = 300.0
"""Seconds after the start of a task within which it begins with jobs of others: its start takes a small part of that.
"""

TOO_SHORT = "its time limit came before a first iteration or images were done; ask for more time"
"""Why a job is not put back into the queue at its time limit."""


def main(root: str, name: str) -> None:
    """Do the job of this task, and then small ones of others.

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
    until = time.monotonic() + GO_ON
    store, ear = Store(Path(root)), remote.Ear(stop)
    content = store.array(name)
    index = int(os.environ["SLURM_ARRAY_TASK_ID"])
    own = content["jobs"][index]
    task = Task(name, os.environ["SLURM_ARRAY_JOB_ID"], index, own["key"], own["label"])
    node = os.environ["SLURMD_NODENAME"]
    store.write_task_begun(task, node)
    try:
        while store.task_ended(task) is None:
            ended = remote.do(content["shared"], task.key, own["job"], ear, own.get("patience", 0.0))
            if not ended.elsewhere:
                store.write_task_ended(task, {"error": ended.error, "said": list(ended.said)})
            elif ear.stopping():
                raise Stopped
            # Another task does this one's job, or a process that was taken for dead: others may wait meanwhile.
            elif not _more(store, task, content["shared"], until, ear):
                time.sleep(PAUSE)
        for array, after in store.depending(task).items():
            sbatch.depend(array, after)  # what waits for this training can begin on other nodes
        while _more(store, task, content["shared"], until, ear):
            pass
    except Refused as error:
        unfit = {"unfit": node} if isinstance(error, Unfit) else {}
        store.write_task_ended(task, {"refused": str(error), **unfit})
    except Stopped:
        if limit.is_set() and store.task_ended(task) is None:
            if not ear.moved:  # it would never end
                store.write_task_ended(task, {"stopped": TOO_SHORT})
            elif not sbatch.requeue(task.name):
                store.write_task_ended(task, {"stopped": "was stopped"})


def _more(store: Store, own: Task, shared: Mapping[str, Any], until: float, ear: remote.Ear) -> bool:
    """Do jobs of tasks that wait in the queue and run as this one does; whether there was one that could be done.

    Those of the same array come first, the last of them before the others, because SLURM starts with the first.
    """
    if time.monotonic() >= until or not (queued := sbatch.alive(waiting=True)):
        return False
    tasks = [task for task in store.tasks() if task.name in queued]
    tasks.sort(key=lambda task: (task.array != own.array, task.array, -task.index))
    contents = {name: store.array(name) for name in {task.array for task in tasks}}
    found = False
    for task in tasks:
        if time.monotonic() >= until or ear.stopping():
            break
        content = contents[task.array]
        if content["shared"] != shared or store.task_ended(task) is not None:
            continue
        try:
            ended = remote.do(shared, task.key, content["jobs"][task.index]["job"], ear)
        except Refused:  # as long as its networks are not trained
            continue
        if not ended.elsewhere:
            store.write_task_ended(task, {"error": ended.error, "said": list(ended.said)})
            if task.name in (sbatch.alive(waiting=True) or ()):  # else it does a job of others itself by now
                sbatch.cancel([task.name])
            found = True
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
