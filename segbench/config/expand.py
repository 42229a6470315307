"""One entry of a matrix that stands for several attacks: a robustness curve, or many corruptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal, get_args, get_origin

from segbench.components import catalog, specs
from segbench.errors import SegbenchError

ALL = "all"
"""Stands for every choice of an option that has a fixed set of them, such as the kind of a corruption."""


def expanded(values: Sequence[Any], most: int) -> list[tuple[int | None, Any]]:
    """Replace attacks that stand for several by those attacks, and number them all.

    An `eps` may be a list. So may an option with a fixed set of choices, or it may be "all". Several such options give
    all combinations. `corruption(kind=all)` has all severities unless it says which.

    Args:
        values: attacks as they were written.
        most: number of attacks that one may stand for; one that stands for more is left as it is.
    """
    found: list[tuple[int | None, Any]] = []
    for index, value in enumerate(values):
        try:
            name, options = specs.parse(value)
        except SegbenchError:
            found.append((index, value))
            continue
        if name == "corruption" and options.get("kind") == ALL:
            options = {**options, "severity": options.get("severity", ALL)}
        axes = _axes(name, options)
        number = 1
        for choices in axes.values():
            number *= len(choices)
        if axes and 0 < number <= most:
            found += [
                (index, {"name": name, **options, **dict(zip(axes, own, strict=True))})
                for own in product(*axes.values())
            ]
        else:
            found.append((index, value))
    return found


def _axes(name: str, options: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    """Return the options that stand for several values, each with its values."""
    component = catalog.components("attack").get(name)
    known = component.options if component is not None else {}
    axes: dict[str, Sequence[Any]] = {}
    for option, value in options.items():
        annotation = known[option].annotation if option in known else None
        choices = get_args(annotation) if get_origin(annotation) is Literal else ()
        if isinstance(value, list) and (option == "eps" or choices):
            axes[option] = value
        elif value == ALL and choices and ALL not in choices:
            axes[option] = choices
    return axes
