"""Many like things in few words."""

from __future__ import annotations

import re
from collections.abc import Sequence

NAMED = 2
"""Names that a sentence tells of many."""
SHOWN = 3
"""Lines that are shown of many that say the same of different files."""

_PARTICULAR = re.compile(r"'[^']*'|\"[^\"]*\"|\d+|\S*\.\S+")


def count(names: Sequence[str], noun: str) -> str:
    """Write names as "12 files (a.txt, b.npy and 10 more)".

    Args:
        names: the names, at least one.
        noun: what each is, in the singular.
    """
    told = [name.encode("utf-8", "backslashreplace").decode() for name in names[:NAMED]]
    rest = len(names) - len(told)
    noun = noun if len(names) == 1 else f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{len(names):,} {noun} ({', '.join(told)}{f' and {rest:,} more' if rest else ''})"


def fold(lines: Sequence[str]) -> list[str]:
    """Return lines of the form "file: what is wrong", of many like ones the first and how many more there are."""
    alike: dict[str, list[str]] = {}
    for line in dict.fromkeys(lines):
        _, _, message = line.partition(": ")
        alike.setdefault(_PARTICULAR.sub("", message), []).append(line)
    folded: list[str] = []
    for group in alike.values():
        shown = group if len(group) <= SHOWN + 1 else group[:SHOWN]
        folded += shown
        if len(group) > len(shown):
            folded.append(f"... and {len(group) - len(shown):,} more lines like the last")
    return folded
