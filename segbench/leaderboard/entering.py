"""Writing entries into a folder. An entry there that was verified, or comes from others, is never overwritten."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from segbench.leaderboard import entry_files
from segbench.leaderboard.entry_files import LeaderboardError
from segbench.reports.leaderboard.entries import Entry, Links, Verification

NUMBERS = ("data", "protocol", "threat", "results")
"""Fields that hold the numbers of an entry, and what they measure."""


def enter(entries: Iterable[Entry], folder: Path) -> list[tuple[Path, str]]:
    """Write entries into a folder; if one of them must not be written, none is.

    Where an entry with the same numbers exists, its date, its status and the fields that were filled in by hand stay.

    Args:
        entries: the entries.
        folder: the folder of all entries.

    Returns:
        The files, each with "added", "updated" or "unchanged".

    Raises:
        LeaderboardError: an entry that was verified, or comes from others, has other numbers at the same path.
    """
    outcomes, problems = [], []
    for entry in entries:
        path = folder / entry.path
        old = entry_files.read(path) if path.is_file() else None
        if old is None:
            outcomes.append((path, "added", entry))
        elif not differing(old, entry):
            kept = _kept(old, entry)
            outcomes.append((path, "unchanged" if kept == old else "updated", kept))
        elif reason := _protected(old, entry):
            problems.append(
                f"{path}: holds other numbers, {reason}; remove it first, or give this network another name"
            )
        else:
            outcomes.append((path, "updated", entry.model_copy(update=_by_hand(old, entry))))
    if problems:
        raise LeaderboardError("\n".join(problems))
    for path, outcome, entry in outcomes:
        if outcome != "unchanged":
            entry_files.write(entry, path)
    return [(path, outcome) for path, outcome, _ in outcomes]


def mark(path: Path, entry: Entry, verification: Verification) -> None:
    """Mark an entry as verified in its file.

    Args:
        path: the file.
        entry: its content.
        verification: the outcome of the review.
    """
    entry_files.write(entry.model_copy(update={"status": "verified", "verification": verification}), path)


def differing(a: Entry, b: Entry) -> list[str]:
    """Return the fields of `NUMBERS` in which two entries differ, and "model" if their networks differ."""
    fields = [name for name in NUMBERS if getattr(a, name) != getattr(b, name)]
    return fields if _network(a) == _network(b) else [*fields, "model"]


def _network(entry: Entry) -> dict[str, Any]:
    """Return the properties of a model that identify its network; addresses and training data are left out."""
    described = entry.model.model_dump(mode="json", exclude={"parameters", "extra_data", "weights"})
    return {**described, "weights": [(weights.seed, weights.sha256) for weights in entry.model.weights]}


def _protected(old: Entry, new: Entry) -> str:
    """Return the reason why an entry must not be replaced; "" if it may be."""
    if old.verification is not None:
        return f"verified on {old.verification.date}"
    if old.source is not None:
        return f"reported by {old.source.citation}"
    if not {weights.sha256 for weights in old.model.weights} & {weights.sha256 for weights in new.model.weights}:
        return "of other weights"
    return ""


def _kept(old: Entry, new: Entry) -> Entry:
    """Return the old entry with the new provenance and the new details."""
    changed: dict[str, Any] = {**_by_hand(old, new), "provenance": new.provenance}
    return old.model_copy(update=changed)


def _by_hand(old: Entry, new: Entry) -> dict[str, Any]:
    """Return the fields that records do not hold: the new value if there is one, else the old one."""
    known = {weights.sha256: weights for weights in old.model.weights}
    weights = tuple(known.get(own.sha256, own) for own in new.model.weights)
    extra_data = old.model.extra_data if new.model.extra_data in ("none", "not stated") else new.model.extra_data
    model = new.model.model_copy(update={"weights": weights, "extra_data": extra_data})
    return {
        "model": model,
        "links": Links(paper=new.links.paper or old.links.paper, code=new.links.code or old.links.code),
        "licence": new.licence or old.licence,
        "notes": new.notes or old.notes,
        "source": old.source,
    }
