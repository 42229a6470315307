"""The passes of a long run from those of a few short ones.

A run takes as many steps, restarts or samples as numbers in its options say. Where its passes grow by the same from one
short run to the next and to the one after, they are taken to go on like that. Otherwise the long run itself is counted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from segbench.attacks.base import BoundAttack
from segbench.attacks.tools.passes import Passes
from segbench.components.specs import Bound

APART = (4, 100)
"""By how much a number differs between short runs; by the larger one where the shortest runs do not lie on a line."""

Options = Mapping[str, Any]
Path = tuple[str, ...]
"""Name of an option, behind that of the component which it belongs to."""


def by_short_runs(count: Callable[..., Passes], **parts: Any) -> Passes:
    """Return `count(**parts)`, counted by short runs where these tell.

    Args:
        count: counts the passes of an attack, of a defense, or of both.
        parts: these by name, or None; any whole number in their options may make a run long.
    """
    found = dict(_numbers(parts))
    numbers = tuple(found.values())

    @cache
    def at(*own: int) -> Passes:
        changed: Options = parts
        for path, number in zip(found, own, strict=True):
            changed = _with(changed, path, number)
        return count(**changed)

    total = Passes()
    try:
        for corner in itertools.product(*(_points(at, numbers, place) for place in range(len(numbers)))):
            passes, weight = at(*(own for own, _ in corner)), math.prod(weight for _, weight in corner)
            total.forward += weight * passes.forward
            total.backward += weight * passes.backward
    except Exception:  # a user's attack may refuse small numbers
        return at(*numbers)
    return total


def shorter(part: Bound, count: Callable[[Bound], Passes]) -> Bound:
    """Return a component with small numbers in its options, where it takes fewer passes with them and accepts them."""
    options: Options = part.options
    for path, number in _numbers(options):
        options = _with(options, path, min(number, _short(number, APART[0])))
    short = replace(part, options=options)
    try:
        return part if count(short) == count(part) else short
    except Exception:  # see above
        return part


def _points(at: Callable[..., Passes], numbers: tuple[int, ...], place: int) -> list[tuple[int, int]]:
    """Return what stands for one of several numbers: itself, or two short ones, each with its weight in the passes."""
    shortest, number = [min(number, _short(number, APART[0])) for number in numbers], numbers[place]
    for apart in APART:
        short = [_short(number, apart, times) for times in range(3)]
        if short[-1] >= number:
            break
        low, middle, high = (at(*shortest[:place], own, *shortest[place + 1 :]) for own in short)
        if low == middle == high:
            break
        if high == Passes(2 * middle.forward - low.forward, 2 * middle.backward - low.backward):
            times = (number - short[0]) // apart
            return [(short[0], 1 - times), (short[1], times)]
    return [(number, 1)]


def _short(number: int, apart: int, times: int = 0) -> int:
    """Return a small number, of which shares are rounded as they are of a large one; the next one is `apart` larger."""
    return (2 + times) * apart + number % apart


def _numbers(options: Options) -> Iterator[tuple[Path, int]]:
    """Yield the whole numbers among options, and among those of the components in them."""
    for name, value in options.items():
        if type(value) is int:
            yield (name,), value
        elif isinstance(value, Bound | BoundAttack):
            yield from (((name, *path), number) for path, number in _numbers(value.options))


def _with(options: Options, path: Path, number: int) -> Options:
    """Return options with another number in one place; see `_numbers`."""
    name, inner = path[0], path[1:]
    value = replace(options[name], options=_with(options[name].options, inner, number)) if inner else number
    return {**options, name: value}
