"""The sanity measurements of a sweep's source; see `segbench.reports.sanity`."""

from __future__ import annotations

from collections.abc import Sequence

from segbench.errors import StoreError
from segbench.evaluation.batching import Reader, packed
from segbench.evaluation.opened import Opened
from segbench.evaluation.probes import allowance, measure
from segbench.plan.evaluations import EvalCell
from segbench.plan.networks import ExternalCell
from segbench.plan.plan import Sweep
from segbench.store import Store

CANDIDATES = 8
"""Images or crops of which the sanity measurements take the first few that have a label."""


def lacks_measurements(sweep: Sweep, store: Store) -> bool:
    """Whether the sanity measurements of a sweep's source are to be taken with it, and are not there."""
    try:
        return sweep.watched is not None and store.measured(sweep.source.digest) is None
    except StoreError:
        return True


def measure_source(opened: Opened, watched: EvalCell, store: Store, trajectory: Sequence[float]) -> None:
    """Measure the source of a sweep, and store what was found.

    Args:
        opened: the sweep.
        watched: the evaluation whose passes the measurements are sized by.
        store: holds its records, and takes the measurements.
        trajectory: mean losses along the sweep's attack; empty where they were not recorded.
    """
    opened.reset()
    reader = Reader(opened.split, opened.protocol, opened.classes, opened.void)
    reads = [reader(index) for index in range(min(CANDIDATES, opened.length))]
    pack = next(packed(reads, CANDIDATES, opened.device))
    source = opened.sweep.source
    # The answers of before were made in fp32.
    before = source.answers if isinstance(source, ExternalCell) and opened.precision == "fp32" else ()
    measured = measure(
        opened.protocol.network(opened.source),
        pack.images[:CANDIDATES].contiguous(),
        pack.masks[:CANDIDATES],
        passes=allowance(_passes(watched, opened.length, store)),
        trajectory=trajectory,
        before=before,
        ignore_index=opened.void,
    )
    store.write_measured(source.digest, measured)


def _passes(cell: EvalCell, length: int, store: Store) -> int:
    """Return how many images went through networks for an evaluation, and for the clean images beside it."""
    record = store.record(cell.digest)
    return (0 if record is None else sum(record.passes.values())) + 2 * length
