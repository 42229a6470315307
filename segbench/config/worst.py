"""Sets of attacks whose worst case is a column: what their members mean, and which sets make no sense."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from segbench.components import specs
from segbench.components.specs import Bound, Problem
from segbench.errors import shown
from segbench.reports.worst_case import TRANSFER


def resolved(worst_of: Mapping[str, Sequence[str]], attacks: Iterable[Bound]) -> dict[str, tuple[str, ...]]:
    """Return the sets with every member as the records name it: a bare name, or an attack's short string.

    Args:
        worst_of: name of a column -> its members, which `problems_of` has found sound.
        attacks: the attacks of the matrix, those of its transfers among them.
    """
    names = {TRANSFER, *(bound.name for bound in attacks)}
    return {
        column: tuple(member if member in names else specs.bound("attack", member).short for member in members)
        for column, members in worst_of.items()
    }


def problems_of(worst_of: Any, sides: tuple[Sequence[Bound], Sequence[Bound]] | None) -> Iterator[Problem]:
    """Yield what is wrong with sets of attacks as they were written.

    Args:
        worst_of: name of a column -> its members; what is of another form is left to others.
        sides: the attacks that are made on each network itself, and those on other networks; None where something is
            wrong with them.
    """
    for column, members in worst_of.items() if isinstance(worst_of, Mapping) else ():
        if isinstance(members, list | tuple):
            yield from _of_column(column, members, sides)


def _of_column(
    column: Any, members: Sequence[Any], sides: tuple[Sequence[Bound], Sequence[Bound]] | None
) -> Iterator[Problem]:
    place = ("worst_of", column)
    among = {bound for side in sides or () for bound in side}
    if not members:
        yield Problem(place, f"worst_of: {shown(column)} names no attack")
    if column in {"clean", *(text for bound in among for text in (bound.name, bound.short))}:
        yield Problem(place, f"worst_of: {shown(column)} is the name of a column already; choose another")
    chosen: dict[int, frozenset[Bound]] = {}
    for index, member in enumerate(members):
        if not isinstance(member, str):
            continue
        if member == TRANSFER:
            if sides is not None and not sides[1]:
                yield Problem(
                    (*place, index), "worst_of: transfer is every attack made on another network; there is none"
                )
            continue
        bound, problems = specs.bind("attack", member)
        if bound is None:
            yield Problem((*place, index), problems[0].message)
        elif bound.name == "clean":
            yield Problem((*place, index), "clean is no attack, so that it is in no worst case; leave it out")
        elif sides is not None:
            meant = frozenset(own for own in among if own == bound or own.name == member)
            twice = next((other for other, own in chosen.items() if own & meant), None)
            if not meant:
                yield Problem((*place, index), _unknown(member, bound, among))
            elif twice is not None:
                both = f"{shown(members[twice])} and {shown(member)}"
                yield Problem((*place, index), f"worst_of: {both} name the same attack; keep one")
            else:
                chosen[index] = meant
    if sides is None or len(chosen) != sum(member != TRANSFER for member in members):
        return
    if TRANSFER in members and not chosen:
        yield Problem(place, f"worst_of: {shown(column)} needs an attack on the network itself beside transfer")
    elif members and not any(
        all(own & set(side) for own in chosen.values()) for side in (sides[:1] if TRANSFER in members else sides)
    ):
        yield Problem(place, f"worst_of: no network is under all attacks of {shown(column)} in one setting")


def _unknown(member: str, bound: Bound, among: set[Bound]) -> str:
    same = sorted(own.short for own in among if own.name == bound.name)
    hint = f"; there {'are' if len(same) > 1 else 'is'} {', '.join(same)}" if same else ""
    return f"{shown(member)} is not one of the matrix's attacks{hint}"
