"""Display names: which component or network each stands for, and which make no sense."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from segbench.components import specs
from segbench.components.specs import Bound, Problem
from segbench.errors import SegbenchError, shown, unknown
from segbench.reports.display import RESERVED, SPELLED
from segbench.reports.visible import one_line

LONGEST = 60
"""Characters of a display name."""


def resolved(labels: Mapping[str, str], bound: Iterable[Bound], others: Iterable[str]) -> dict[str, str]:
    """Return display names by what records call the component: a name, or a short string, "bim()" for defaults alone.

    Args:
        labels: component or network -> display name, which `problems_of` has found sound.
        bound: the components of the matrix.
        others: names of its networks, of their defenses, and of its columns of worst cases.
    """
    all_bound, names = list(bound), set(others)
    return {_key(written, all_bound, names) or written: label.strip() for written, label in labels.items()}


def problems_of(labels: Any, bound: Iterable[Bound], others: Iterable[str]) -> Iterator[Problem]:
    """Yield what is wrong with display names as they were written.

    Args:
        labels: component or network -> display name; what is of another form is left to others.
        bound: the components of the matrix.
        others: names of its networks, of their defenses, and of its columns of worst cases.
    """
    all_bound, names = list(bound), set(others)
    bare = {*names, *(one.component.name for one in all_bound)}
    meant: dict[str, str] = {}
    given: dict[str, str] = {}
    for written, label in labels.items() if isinstance(labels, Mapping) else ():
        if not isinstance(written, str) or not isinstance(label, str):
            continue
        place = ("labels", written)
        key = _key(written, all_bound, names)
        if key is None:
            known = dict.fromkeys(sorted({*bare, *(one.short for one in all_bound)}))
            message = unknown("component or network of this matrix", written, known)
            yield Problem(place, f"labels: {message}")
        elif key in meant:
            yield Problem(place, f"labels: {shown(meant[key])} and {shown(written)} are the same; keep one")
        elif reason := _unfit(label.strip()):
            yield Problem(place, f"labels: {shown(label)} {reason}")
        elif label.strip() in given:
            both = f"{given[label.strip()]} and {written}"
            yield Problem(place, f"labels: {both} would both be called {shown(label)}; choose another")
        else:
            meant[key], given[label.strip()] = written, written
    for name in sorted(bare - set(meant)):
        own = SPELLED.get(name, name)
        if own in given:
            yield Problem(("labels", given[own]), f"labels: {shown(own)} is what reports call {name}; choose another")


def _key(written: str, bound: list[Bound], others: set[str]) -> str | None:
    """Return what records call a component or network; None if the matrix has none of this name."""
    if written in others or any(one.component.name == written for one in bound):
        return written
    try:
        name = specs.parse(written)[0]
    except SegbenchError:
        return None
    for one in bound:
        if one.component.name == name:
            same, _ = specs.bind(one.component.kind, written)
            if same is not None and same.short == one.short:
                return one.short if one.short != name else f"{name}()"
    return None


def _unfit(label: str) -> str:
    """Return why a text cannot be a display name; empty if it can."""
    if not label or label != one_line(label):
        return "is no text on one line, without spaces at its ends"
    if len(label) > LONGEST:
        return f"has {len(label)} characters; a column has room for {LONGEST}"
    return f"means something else in a report (no {'attack' if label == 'clean' else 'defense'})" * (label in RESERVED)
