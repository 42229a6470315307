"""The columns of a board: an attack each, named so that links to a board keep their meaning."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from segbench.reports.leaderboard.entries import Entry, EntryResult, slug

FIXED = ("rank", "model", "defense", "architecture", "clean", "worst", "status", "extra")
"""Columns that every board has, as links to a board call them."""

AttackKey = tuple[str, int, str | None, bool]


@dataclass(frozen=True)
class AttackColumn:
    """An attack, as a board shows it.

    Attributes:
        name: as links to the board call it; unique on the board.
        label: its head.
        key: what the results in it share.
        strong: some entry's rank rests on it.
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
    """Return what two attacked results share if they are of one column; None for clean images."""
    if result.attack is None:
        return None
    return result.attack.short, result.attack.version, result.source, result.adaptive is False


def attack_label(key: AttackKey, *, versioned: bool = False) -> str:
    """Write an attack as a board's head does.

    Args:
        key: the attack.
        versioned: another version of it stands beside it.
    """
    short, version, source, oblivious = key
    label = f"{short} version {version}" if versioned else short
    label += f" on {source}" if source is not None else ""
    return f"{label}, oblivious" if oblivious else label


def natural(text: str) -> list[tuple[float, str]]:
    """Return a key that sorts text as people do: "steps=9" before "steps=10"."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text.lower())
    return [(float(part), "") if index % 2 else (-1.0, part) for index, part in enumerate(parts)]
