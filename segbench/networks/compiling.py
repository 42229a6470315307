"""Passes of networks compiled by `torch.compile`, on a GPU into CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from segbench.attacks.tools.guard import guarded
from segbench.networks.agreeing import alike

_told: set[str] = set()


def compile_passes(networks: Iterable[nn.Module], images: Tensor, say: Callable[[str], None]) -> None:
    """Compile the forward passes of networks in place; where that fails or changes logits, leave them as they are.

    Of each network two compilations are made: of passes that take gradients, and of those that do not. They hold for
    any number of images at once from two on; images of another size, and one by itself, compile anew.

    Args:
        networks: in eval mode.
        images: (N, 3, H, W) in [0, 1], at least two, of the size that follows.
        say: hears why passes are not compiled, each reason once in a process.
    """
    torch.compiler.reset()  # few compilations of one forward pass are kept: those of earlier networks go
    for network in networks:
        reason = _compile(network, images)
        if reason not in _told | {""}:
            _told.add(reason)
            say(f"{reason}; networks run without it")


def _compile(network: nn.Module, images: Tensor) -> str:
    """Compile the forward pass of a network; return why it was left as it is, or ""."""
    seen, followed = images.detach().clone(), images.detach().clone().requires_grad_()
    for own in (seen, followed):
        torch._dynamo.maybe_mark_dynamic(own, 0)
    compiled = torch.compile(network.forward, mode="reduce-overhead" if images.is_cuda else None)
    try:
        with guarded(network, images.device, seed=0), torch.no_grad():
            expected = network(images)
        # The next run of a CUDA graph writes over what the last one returned.
        network.forward = lambda images: compiled(images).clone()
        with guarded(network, images.device, seed=0):
            logits = network(followed)
            torch.autograd.grad(logits.sum(), followed)
            with torch.no_grad():
                found = [logits.detach(), network(seen)]
    except Exception as error:  # whatever tracing, a backend or a C++ compiler raises
        reason = f"torch.compile raised {type(error).__name__}"
    else:
        if all(alike(own, expected) for own in found):
            return ""
        reason = "compiled passes give other logits"
    vars(network).pop("forward", None)
    return reason
