"""Long sweeps in shards of images, so that one evaluation keeps many workers busy.

Shards follow from the whole plan and the number of workers. What of it is done already has no say, so that jobs which
wait in a queue are known again by the next run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from segbench.execution.cost import Lengths, job_passes
from segbench.plan.plan import Sweep

PARTS = 4
"""Shards into which the work of each worker falls at least: none waits much longer than one of them takes."""
LEAST = 2000
"""Passes of a shard at least, in images: starting one takes as long as hundreds."""


def shards(sweeps: Iterable[Sweep], known: Lengths, workers: int, batch: int) -> dict[str, list[tuple[int, int]]]:
    """Return the first image and the one after the last of every shard, by the keys of those sweeps that are split.

    A sweep stays whole where its images depend on each other: a dynamic target learns from one after the other, and a
    fitted attack would be fitted by every shard.

    Args:
        sweeps: of the plan.
        known: sizes that passes depend on.
        workers: jobs that can run at once.
        batch: most images attacked at once; the whole sweep begins a batch at each of its multiples, and so do shards,
            so that they attack the same batches.
    """
    if workers == 1:
        return {}
    jobs = {sweep.key: sweep for sweep in sweeps}
    passes = job_passes(jobs, known)
    most = max(LEAST, sum(passes.values()) // (PARTS * workers))
    found = {}
    for key, sweep in jobs.items():
        images = known.images[sweep.cells[0].digest]
        together = any(cell.dynamic for cell in sweep.cells) or sweep.attack.attack().attack.fit is not None
        if images is None or together or passes[key] <= most:
            continue
        size = batch * math.ceil(math.ceil(images / batch) / math.ceil(passes[key] / most))
        if size < images:
            found[key] = [(first, min(first + size, images)) for first in range(0, images, size)]
    return found
