"""Counts of forward and backward passes: the cost of an attack."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass
class Passes:
    """Forward and backward passes through the attacked network, in images: a batch of 4 counts as 4."""

    forward: int = 0
    backward: int = 0


@contextlib.contextmanager
def count_passes(model: nn.Module) -> Iterator[Passes]:
    """Count the images that pass through `model`: forward per call, backward per gradient that reaches the logits."""
    passes = Passes()

    def count(module: nn.Module, inputs: Any, logits: Tensor) -> None:
        passes.forward += len(logits)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: _add_backward(passes, len(gradient)))  # type: ignore[no-untyped-call]

    handle = model.register_forward_hook(count)
    try:
        yield passes
    finally:
        handle.remove()


def _add_backward(passes: Passes, count: int) -> None:
    passes.backward += count
