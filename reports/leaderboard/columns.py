"""The columns of a board, one per attack. Their names stay stable, because links to a board contain them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from segbench.reports.leaderboard.entries import Entry, EntryResult, slug

FIXED = ("rank", "model", "defense", "architecture", "clean", "worst", "status", "weights", "extra")
"""Names of the columns that every board has."""

AttackKey = tuple[str, int, str | None, bool]


@dataclass(frozen=True)
class AttackColumn:
    """A column of a board: one attack.

    Attributes:
        name: its name in links to the board; no other column has it.
        label: its heading.
        key: key that all its results share (see `attack_key`).
        strong: the attack is strong enough to rank at least one entry.
    """

    name: str
    label: str
    key: AttackKey
    strong: bool


def columns(entries: Sequence[Entry]) -> tuple[AttackColumn, ...]:
    """Return a column for every attack in some entries: strong ones first, oblivious ones last.

    Args:
        entries: the entries of a board.
    """
    strong: dict[AttackKey, bool] = {}
    for entry in entries:
        for result in entry.results:
            key = attack_key(result)
            if key is not None:
                strong[key] = strong.get(key, False) or result.strong
    versions = defaultdict(set)
    for short, version, *_ in strong:
        versions[short].add(version)
    found: list[AttackColumn] = []
    taken = set(FIXED)
    for key in sorted(strong, key=lambda key: (not strong[key], key[3], natural(f"{key[0]} {key[2] or ''}"), key[1])):
        label = attack_label(key, versioned=len(versions[key[0]]) > 1)
        name = base = slug(label)
        while name in taken:
            name = f"{base}-{len(taken)}"
        taken.add(name)
        found.append(AttackColumn(name, label, key, strong[key]))
    return tuple(found)


def attack_key(result: EntryResult) -> AttackKey | None:
    """Return a key that is equal for results of one column; None for clean images."""
    if result.attack is None:
        return None
    return result.attack.short, result.attack.version, result.source, result.adaptive is False


def attack_label(key: AttackKey, *, versioned: bool = False) -> str:
    """Return the heading of an attack.

    Args:
        key: key of the attack.
        versioned: the board also has another version of this attack, so that the heading names the version.
    """
    short, version, source, oblivious = key
    label = f"{short} version {version}" if versioned else short
    label += f" on {source}" if source is not None else ""
    return f"{label}, oblivious" if oblivious else label


def natural(text: str) -> list[tuple[float, str]]:
    """Return a key that sorts text as people do: "steps=9" before "steps=10"."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text.lower())
    return [(float(part), "") if index % 2 else (-1.0, part) for index, part in enumerate(parts)]
