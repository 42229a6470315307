"""Captions: sentences that say what the numbers of a table are, and over how many runs and images they were taken."""

from __future__ import annotations

from collections.abc import Sequence

from segbench.reports.labels import Labels
from segbench.reports.records import Record
from segbench.reports.tables.grid import Cell
from segbench.reports.threats import bound_in_words


def caption(setting: str, records: Sequence[Record], cells: Sequence[Cell], labels: Labels) -> str:
    """Return the caption of a table.

    Args:
        setting: "white-box", "black-box" or "both".
        records: the table's records.
        cells: the table's cells.
        labels: the labels of the components.
    """
    seeds = {record.target.seed for record in records}
    images = {record.n_images for record in records if record.n_images is not None}
    most = max(cell.expected for cell in cells)
    parts = [_mean_of(setting, most, len(seeds))]
    if images:
        parts.append(f"{_span(images)} {'image' if images == {1} else 'images'}")
    parts.append(f"protocol {labels.component('protocol', records[0].protocol)}")
    parts.append(f"classes in neither truth nor prediction {'left out' if records[0].absent == 'skip' else 'count 0'}")
    text = f"mIoU in per cent; {'; '.join(parts)}."
    if budget := _budget(records, labels):
        text += f" {budget}"
    if any(cell.rank for cell in cells):
        text += " Best of each model in bold, second underlined."
    if any(cell.state == "partial" for cell in cells):
        text += " Values with fewer runs than asked for say so and are not ranked."
    if any(record.oblivious for record in records):
        text += (
            " An oblivious attack is made on the network without its defense at inference and scored on the network "
            "with it: it says nothing about robustness and is not ranked; all others go through the defense."
        )
    if records[0].precision != "fp32":
        text += f" Networks were attacked and evaluated in {records[0].precision}."
    if any(record.dynamic for record in records):
        text += (
            " A dynamic defense learns from the images that it is asked about, here one by one in their order, and "
            "costs more than one network: its values are not ranked with the others."
        )
    return text


def _mean_of(setting: str, runs: int, seeds: int) -> str:
    number = f"{seeds} seed{'s' if seeds > 1 else ''}"
    if runs == 1:
        return "one run each" if seeds == 1 else f"one run each, {number}"
    if setting == "white-box":
        return f"mean and sample standard deviation (n - 1) over {number}"
    deviation = "mean and sample standard deviation (n - 1)"
    if setting == "both":
        return f"{deviation} over {number}, black-box over up to {runs} pairs of target and source"
    return f"{deviation} over up to {runs} pairs of target and source, clean over {number}"


def _budget(records: Sequence[Record], labels: Labels) -> str:
    """Return a sentence with the bound of every attack, because the label of an attack may not show it."""
    bounds: dict[str, dict[str, None]] = {}
    for record in records:
        if record.setting != "clean":
            bounds.setdefault(bound_in_words(record.threat), {})[labels.component("attack", record.attack)] = None
    if len(bounds) == 1:
        return f"All attacks: {next(iter(bounds))}."
    return "; ".join(f"{bound}: {', '.join(attacks)}" for bound, attacks in bounds.items()) + "." if bounds else ""


def _span(values: set[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
