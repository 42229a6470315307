"""The table of mIoU against passes: whether each attack had converged."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from segbench.reports.convergence import at, last_fall, verdict
from segbench.reports.flags import attack_label
from segbench.reports.labels import Labels
from segbench.reports.numbers import number
from segbench.reports.page.facts import Facts
from segbench.reports.records import Record

FIFTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


def passes(records: Sequence[Record], labels: Labels) -> Facts:
    """Return a table of the mIoU that each white-box attack left after each fifth of its passes, as means over runs.

    Args:
        records: the records; those without a curve are left out.
        labels: the labels of components and networks.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.curve:
            groups.setdefault((attack_label(record, labels), labels.network(record.target)), []).append(record)
    rows = tuple((*names, *_row(runs)) for names, runs in groups.items())
    shares = tuple(f"after {100 * share:.0f} %" for share in FIFTHS)
    caption = (
        "mIoU of the best images that an attack had looked at so far (of each image that with the fewest right "
        "pixels), after shares of its forward passes; each image counts its own passes. Means over runs."
    )
    return Facts("Passes", ("attack", "network", "runs", "passes", *shares, "convergence"), rows, caption)


def _row(runs: Sequence[Record]) -> tuple[str, ...]:
    most = max(run.curve[-1][0] for run in runs)
    values = [[at(run.curve, share * run.curve[-1][0]) for run in runs] for share in FIFTHS]
    shown = ["-" if None in own else f"{fmean(value for value in own if value is not None):.1f}" for own in values]
    falls = [last_fall(run.curve) for run in runs]
    known = [fall for fall in falls if fall is not None]
    return str(len(runs)), number(most), *shown, verdict(fmean(known) if len(known) == len(falls) else None)
