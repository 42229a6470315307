"""Maps of keys: from the names in this package to the names in a published checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from segbench.model_zoo.base import ModelError, Segmenter
from segbench.model_zoo.weights import LISTED

COUNTER = "num_batches_tracked"
"""End of the keys of batch counters, which old files lack and no computation here uses."""


class Rule(NamedTuple):
    r"""How keys of this package are called in a file.

    Attributes:
        ours: regular expression that matches a whole key of this package.
        theirs: the key in the file, with groups of the expression as \1, \2 ...
        change: the tensor in the file -> the tensor of this package, or None if they are the same.
    """

    ours: str
    theirs: str
    change: Callable[[Tensor], Tensor] | None = None


def conv_bn(ours: str, theirs: str, *, first: int = 0, conv: str = "conv", norm: str = "bn") -> tuple[Rule, Rule]:
    """Return the rules of a convolution followed by batch normalisation.

    Args:
        ours: regular expression of the name of the sequence that holds both.
        theirs: its name in the file.
        first: place of the convolution in the sequence.
        conv: name of the convolution in the file.
        norm: name of the batch normalisation in the file.
    """
    return (
        Rule(rf"{ours}\.{first}\.weight", rf"{theirs}.{conv}.weight"),
        Rule(rf"{ours}\.{first + 1}\.(?P<part>\w+)", rf"{theirs}.{norm}.\g<part>"),
    )


def load_mapped(
    segmenter: Segmenter, state: Mapping[str, Tensor], rules: Sequence[Rule], ignored: str, *, where: str
) -> tuple[str, ...]:
    """Load a published state dict into a network; every key has to fit, in both directions.

    Args:
        segmenter: the network.
        state: the published weights, without a common prefix.
        rules: how the network's keys are called there; the first that matches a key counts.
        ignored: regular expression of keys that are left out, because no prediction depends on them.
        where: name of the source in error messages, usually the file.

    Returns:
        What was left out or changed, one sentence each.

    Raises:
        ModelError: keys are missing, unexpected or of another shape, or values are not finite; the message lists them.
    """
    expected = segmenter.state_dict()
    used: set[str] = set()
    loaded: dict[str, Tensor] = {}
    faults: dict[str, list[str]] = {"missing": [], "unexpected": [], "misshapen": [], "not finite": []}
    for ours, wanted in expected.items():
        theirs, change = renamed(ours, rules)
        used.add(theirs)
        if theirs in state:
            value = changed(state[theirs], change, wanted)
            if value is None:
                instead = f" instead of {tuple(wanted.shape)}" if change is None else ""
                faults["misshapen"].append(f"{theirs} is {tuple(state[theirs].shape)}{instead}")
            elif value.is_floating_point() and not torch.isfinite(value).all():
                faults["not finite"].append(theirs)
            else:
                loaded[ours] = value
        elif theirs.endswith(COUNTER):
            loaded[ours] = wanted
        else:
            faults["missing"].append(theirs)
    others = sorted(state.keys() - used)
    left_out = [key for key in others if re.fullmatch(ignored, key)]
    faults["unexpected"] = [key for key in others if key not in left_out]
    if any(faults.values()):
        found = {kind: list(dict.fromkeys(keys)) for kind, keys in faults.items() if keys}
        text = "; ".join(f"{len(keys)} {kind}: {_listed(keys)}" for kind, keys in found.items())
        raise ModelError(f"{where}: these weights do not fit the network; of {len(state)} keys {text}")
    segmenter.load_state_dict(loaded)
    halves = {str(v.dtype).removeprefix("torch.") for v in loaded.values() if v.is_floating_point()} - {"float32"}
    notes = [f"converted {kind} to float32" for kind in sorted(halves)]
    if left_out:
        notes.append(f"left out {len(left_out)} keys that no prediction depends on: {_listed(left_out)}")
    return tuple(notes)


def renamed(ours: str, rules: Sequence[Rule]) -> tuple[str, Callable[[Tensor], Tensor] | None]:
    """Return the published name of a key, and how its tensor changes.

    Raises:
        KeyError: no rule matches the key.
    """
    for rule in rules:
        if match := re.fullmatch(rule.ours, ours):
            return match.expand(rule.theirs), rule.change
    raise KeyError(ours)


def changed(value: Tensor, change: Callable[[Tensor], Tensor] | None, wanted: Tensor) -> Tensor | None:
    """Return the tensor in the shape of this package, or None if it does not fit."""
    if value.is_floating_point() != wanted.is_floating_point():
        return None
    try:
        given = value if change is None else change(value)
    except (RuntimeError, IndexError):  # of another number of axes
        return None
    return given if given.shape == wanted.shape else None


def _listed(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return ", ".join(keys[:LISTED]) + more
