"""Passes of the attacked network: what an attack costs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass
class Passes:
    """Forward and backward passes of the attacked network, counted in images."""

    forward: int = 0
    backward: int = 0


@contextlib.contextmanager
def count_passes(model: nn.Module) -> Iterator[Passes]:
    """Count the passes through `model`: forward per call, backward per gradient that reaches its logits."""
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
