"""The sanity measurements of a sweep's source; see `segbench.reports.sanity`."""

from __future__ import annotations

from collections.abc import Sequence

from segbench.errors import StoreError
from segbench.evaluation.batching import Reader, packed
from segbench.evaluation.opened import Opened
from segbench.evaluation.probes import allowance, measure
from segbench.plan.plan import Sweep
from segbench.store import Store

CANDIDATES = 8
"""Images or crops of which the sanity measurements take the first few that have a label."""


def lacks_measurements(sweep: Sweep, store: Store) -> bool:
    """Whether the sanity measurements of a sweep's source are to be taken with it, and are not there."""
    own = any(cell.white for cell in sweep.cells) and not sweep.oblivious
    gradients = sweep.attack.attack().threat.access == "gradients"
    try:
        return own and gradients and store.measured(sweep.source.digest) is None
    except StoreError:
        return True


def measure_source(opened: Opened, store: Store, trajectory: Sequence[float]) -> None:
    """Measure the source of a sweep, and store what was found.

    Args:
        opened: the sweep.
        store: holds its records, and takes the measurements.
        trajectory: mean losses along the sweep's attack; empty where they were not recorded.
    """
    opened.reset()
    reader = Reader(opened.split, opened.protocol, opened.classes, opened.void)
    reads = [reader(index) for index in range(min(CANDIDATES, opened.length))]
    pack = next(packed(reads, CANDIDATES, opened.device))
    measured = measure(
        opened.protocol.network(opened.source),
        pack.images[:CANDIDATES].contiguous(),
        pack.masks[:CANDIDATES],
        passes=allowance(_passes(opened, store)),
        trajectory=trajectory,
        ignore_index=opened.void,
    )
    store.write_measured(opened.sweep.source.digest, measured)


def _passes(opened: Opened, store: Store) -> int:
    """Return how many images went through networks for a sweep, and for the clean images beside it."""
    found = [store.record(cell.digest) for cell in opened.sweep.cells]
    attack = max((sum(record.passes.values()) for record in found if record is not None), default=0)
    return attack + (len(opened.sweep.cells) + 1) * opened.length
