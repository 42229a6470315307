"""A watch on a network under attack: which image each input belongs to, and whether it keeps the budget."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from torch import Tensor, nn

from segbench.attacks.tools.budget import Norm, distance

PROBED = 256
"""How many values of an image tell it from the other images of the batch."""
TOLERANCE = 1e-6
"""Allowance for rounding errors, in [0, 1] units; see `tools.budget.check_budget`."""


class Candidates(NamedTuple):
    """What went through the network in one forward pass.

    Attributes:
        images: (K, 3, H, W), detached.
        logits: (K, C, H, W), detached.
        own: index of the attacked image that each of them is a change of, (K,).
        inside: whether each keeps the budget, (K,) bool.
    """

    images: Tensor
    logits: Tensor
    own: Tensor
    inside: Tensor


@contextlib.contextmanager
def watching(
    model: nn.Module, images: Tensor, *, norm: Norm, eps: float, see: Callable[[Candidates], None]
) -> Iterator[None]:
    """Show every forward pass of a network to a function, as long as the context lasts.

    Attacks drop images that they have finished, so that a row of a batch may belong to any image: it belongs to the one
    that is nearest. Inputs of another size, such as those of attacks that resize, are not shown.

    Args:
        model: network, images -> logits.
        images: clean images, (N, 3, H, W).
        norm: norm of the budget.
        eps: the budget, in [0, 1] units.
        see: called with the candidates of each forward pass; it must not call the network.
    """
    stride = max(images[0].numel() // PROBED, 1)
    clean = images.flatten(1)[:, ::stride]

    def show(module: nn.Module, inputs: Any, logits: Tensor) -> None:
        rows = inputs[0].detach()
        if rows.shape[1:] != images.shape[1:]:
            return
        apart = (rows.flatten(1)[:, ::stride].unsqueeze(1) - clean.unsqueeze(0)).abs().amax(2)
        own = apart.argmin(1)
        inside = distance(rows, images[own], norm) <= eps + TOLERANCE
        see(Candidates(rows, logits.detach(), own, inside))

    handle = model.register_forward_hook(show)
    try:
        yield
    finally:
        handle.remove()
