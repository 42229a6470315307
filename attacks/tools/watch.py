"""A watch on a network under attack: which image each input belongs to, and whether it keeps the budget."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
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
    that is nearest. Images that are nearly the same may be taken for each other; see `told_apart`. Inputs of another
    size, such as those of attacks that resize, are not shown.

    Args:
        model: network, images -> logits.
        images: clean images, (N, 3, H, W).
        norm: norm of the budget.
        eps: the budget, in [0, 1] units.
        see: called with the candidates of each forward pass; it must not call the network.
    """
    clean = _probed(images)

    def show(module: nn.Module, inputs: Any, logits: Tensor) -> None:
        rows = inputs[0].detach()
        if rows.shape[1:] != images.shape[1:]:
            return
        apart = (_probed(rows).unsqueeze(1) - clean.unsqueeze(0)).abs().amax(2)
        own = apart.argmin(1)
        inside = distance(rows, images[own], norm) <= eps + TOLERANCE
        see(Candidates(rows, logits.detach(), own, inside))

    handle = model.register_forward_hook(show)
    try:
        yield
    finally:
        handle.remove()


def told_apart(images: Tensor, eps: float) -> list[Tensor]:
    """Split a batch into parts in which every change of at most eps per value is nearest to its own image.

    Most batches are one part. Two images that are the same are in different ones.

    Args:
        images: (N, 3, H, W).
        eps: in [0, 1] units.

    Returns:
        Places in the batch, (K,) for each part.
    """
    probes = _probed(images)
    parts: list[list[int]] = []
    for place, own in enumerate(probes):
        for part in parts:
            if float((probes[part] - own).abs().amax(1).amin()) > 2 * (eps + TOLERANCE):
                part.append(place)
                break
        else:
            parts.append([place])
    return [torch.tensor(part, device=images.device) for part in parts]


def _probed(images: Tensor) -> Tensor:
    """Return the values that tell images apart, (N, about `PROBED`)."""
    return images.flatten(1)[:, :: max(images[0].numel() // PROBED, 1)]
