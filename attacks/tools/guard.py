"""What surrounds an attack: its arguments are checked, and the network is left as it was found."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from segbench.attacks.tools.noise import per_image


@contextlib.contextmanager
def prepared(arguments: dict[str, Any]) -> Iterator[None]:
    """Check an attack's arguments, give each image its generator, and guard the world while it runs."""
    model, images, masks = arguments["model"], arguments["images"], arguments["masks"]
    if images.ndim != 4 or masks.shape != (len(images), *images.shape[2:]):
        raise ValueError(
            f"images must be (N, 3, H, W) and masks (N, H, W), got {tuple(images.shape)} and {tuple(masks.shape)}"
        )
    if not images.is_floating_point() or images.min() < 0 or images.max() > 1:
        raise ValueError("images must be floats in [0, 1]: divide 0-255 images by 255, normalise in the model")
    if "generator" in arguments:
        arguments["generator"] = per_image(arguments["generator"], len(images))
    arguments["images"] = images.detach()
    with guarded(model, images.device):
        yield


@contextlib.contextmanager
def guarded(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Run with the network in eval mode and gradients on; afterwards all is as it was found.

    The mode of every module, the global random state and the parameters' `.grad` are restored or untouched.
    Autocast to float16 is off inside, because small input gradients underflow in it.
    """
    training = [module for module in model.modules() if module.training]
    fp16 = torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type) == torch.float16
    devices = [device] if device.type == "cuda" else []
    with contextlib.ExitStack() as stack:
        if fp16:
            stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(torch.enable_grad())
        model.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True
