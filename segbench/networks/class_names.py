"""Which channels of a network are which classes of a dataset, by their names."""

from __future__ import annotations

from collections.abc import Sequence

from segbench.errors import SegbenchError

LISTED = 4
"""Names that a sentence lists."""


def match(name: str, own: Sequence[str], wanted: Sequence[str]) -> tuple[dict[str, tuple[int, ...]] | None, list[str]]:
    """Match the channels of a network with the classes of a dataset.

    Args:
        name: the network's name in errors.
        own: names of its channels; none where its library does not say them.
        wanted: names of the classes.

    Returns:
        The channel of every class, or None where channels are taken by their place; and what is to be said of it.

    Raises:
        SegbenchError: names differ, and so do the numbers, or the places of those that agree.
    """
    mine, theirs = _plain(own), _plain(wanted)
    if not own or mine == theirs or all(one == f"label {index}" for index, one in enumerate(mine)):
        return None, []
    lacking = [label for label, key in zip(wanted, theirs, strict=True) if mine.count(key) != 1]
    if not lacking and len(set(theirs)) == len(theirs):
        left = [label for label, key in zip(own, mine, strict=True) if key not in theirs]
        rest = f"; it has channels of other classes, which are left out: {_listed(left)}" if left else ""
        return (
            {label: (mine.index(key),) for label, key in zip(wanted, theirs, strict=True)},
            [f"its channels are taken by their names, which are those of the dataset's classes{rest}"],
        )
    moved = any(key != there and key in theirs for key, there in zip(mine, theirs, strict=False))
    if len(own) == len(wanted) and not moved:
        odd = [f"{a} for {b}" for a, b, x, y in zip(own, wanted, mine, theirs, strict=True) if x != y]
        return None, [f"its channels are named otherwise than the dataset's classes: {_listed(odd)}"]
    raise SegbenchError(
        f"{name}: of the dataset's {len(wanted)} classes, its {len(own)} channels ({_listed(own)}) do not name "
        f"{_listed(lacking)}; say with --classes and a file (in a matrix: classes) which channels each class has"
    )


def _plain(names: Sequence[str]) -> list[str]:
    return [" ".join(name.lower().replace("_", " ").replace("-", " ").split()) for name in names]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
