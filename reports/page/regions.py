"""Tables of attacks with a region: scores without the patch's own pixels, and objects that were hidden."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from segbench.reports.flags import attack_label
from segbench.reports.labels import Labels
from segbench.reports.metrics.objects import SIZES
from segbench.reports.page.facts import Facts
from segbench.reports.records import Record
from segbench.reports.threats import bound_in_words, region_in_words


def regions(records: Sequence[Record], labels: Labels) -> tuple[Facts, ...]:
    """Return a table of patches and one of hidden objects, each where there are any; means over runs.

    Args:
        records: the records.
        labels: the labels of components and networks.
    """
    return tuple(own for own in (_patches(records, labels), _hidden(records, labels)) if own.rows)


def _patches(records: Sequence[Record], labels: Labels) -> Facts:
    rows = [
        (*names, bound_in_words(runs[0].threat), str(len(runs)), _miou(runs), _mean(runs, "miou_outside_patch"))
        for names, runs in _groups(records, labels, "miou_outside_patch").items()
    ]
    caption = (
        "mIoU with and without the pixels that the patch covers: the difference is what the patch spoils under itself. "
        "Compare with clean images, on which no pixel is left out."
    )
    columns = ("attack", "network", "what may change", "runs", "mIoU", "mIoU outside of the patch")
    return Facts("Patches", columns, tuple(rows), caption)


def _hidden(records: Sequence[Record], labels: Labels) -> Facts:
    rows = [
        (
            *names,
            region_in_words(runs[0].threat),
            _mean(runs, "objects", "g"),
            *(_mean(runs, f"hidden_{still}") for still in (10, 25, 50)),
            *(f"{_mean(runs, f'hidden_10.{size}')} of {_mean(runs, f'objects.{size}', 'g')}" for size in SIZES),
            _mean(runs, "miou_outside_objects"),
        )
        for names, runs in _groups(records, labels, "miou_outside_objects").items()
    ]
    caption = (
        "Objects are connected pixels of one class of which the network finds at least half on the clean image. An "
        "object is hidden if less than 10, 25 or 50 % of its pixels are still predicted as its class: per cent of the "
        "objects. Small objects have fewer than 32 x 32 pixels, large ones at least 96 x 96. The mIoU of the rest "
        "leaves the objects out, and shows what hiding them spoils elsewhere."
    )
    columns = (
        *("attack", "network", "where it changes", "objects", "below 10 %", "below 25 %", "below 50 %"),
        *(f"{size}, below 10 %" for size in SIZES),
        "mIoU of the rest",
    )
    return Facts("Hidden objects", columns, tuple(rows), caption)


def _groups(records: Sequence[Record], labels: Labels, extra: str) -> dict[tuple[str, str], list[Record]]:
    """Return the runs that have a further number, by attack and network."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.scores and extra in record.extras:
            name = labels.network(record.target) + (", oblivious attack" if record.oblivious else "")
            found.setdefault((attack_label(record, labels), name), []).append(record)
    return found


def _miou(runs: Sequence[Record]) -> str:
    return f"{fmean(run.scores.miou for run in runs if run.scores):.1f}"


def _mean(runs: Sequence[Record], extra: str, form: str = ".1f") -> str:
    """Return the mean of a further number over the runs that have it; a dash where none has."""
    values = [float(value) for run in runs if (value := run.extras.get(extra)) is not None]
    return format(fmean(values), form) if values else "-"
