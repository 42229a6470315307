"""The sentences below the tables of a board."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from segbench.reports.leaderboard.entries import Entry
from segbench.reports.sanity import explained


def remarks(entries: Sequence[Entry], groups: int) -> Iterator[str]:
    """Yield the sentences that a reader needs to understand a board.

    Args:
        entries: the entries of the board.
        groups: number of groups of entries that may be compared.
    """
    if groups > 1:
        yield (
            "The entries were not all attacked and scored alike. Only those that were are ranked and plotted together; "
            "other numbers are not to be compared."
        )
    unknown = [entry for entry in entries if entry.data.fingerprint is None]
    if unknown and len({entry.data.fingerprint for entry in entries}) > 1:
        yield (
            f"It is not known whether these were scored on the same files as the others: {_names(unknown)}. Their "
            "ranks hold only if they were."
        )
    if dynamic := [entry for entry in entries if entry.model.dynamic]:
        yield f"These change with the images that they see, and cost more than one network: {_names(dynamic)}."
    if any(result.adaptive is False for entry in entries for result in entry.results):
        yield "Oblivious attacks were made on a network without its defense: they are shown, and do not count."
    if uneven := [entry for entry in entries if _uneven(entry)]:
        yield f"Not all attacks were made on all training seeds of these, whose pages list the runs: {_names(uneven)}."
    said: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        for result in entry.results:
            for flag in result.flags:
                said[f"⚑ {explained(flag)}"].append(entry)
            if result.note:
                said[f"† {result.note.rstrip('.')}"].append(entry)
    for sentence, own in said.items():
        yield f"{sentence}: {_names(own) if {e.path for e in own} != {e.path for e in entries} else 'all entries'}."


def _uneven(entry: Entry) -> bool:
    """Return whether the results of an entry cover different sets of training seeds, which can hide a weak seed."""
    return len({frozenset(run.seed for run in result.runs) for result in entry.results if result.runs}) > 1


def _names(entries: Iterable[Entry]) -> str:
    return ", ".join(dict.fromkeys(entry.model.name for entry in entries))
