"""The guard around an attack: check its arguments, seed the network's random numbers, restore everything afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segbench.attacks.tools.noise import Generators, per_image


@contextlib.contextmanager
def prepared(arguments: dict[str, Any], generator: torch.Generator | Generators | None = None) -> Iterator[None]:
    """Check an attack's arguments, give each image its own generator, and run the attack under `guarded`.

    Args:
        arguments: the arguments of the attack by name; `images`, `masks` and `generator` are replaced.
        generator: the caller's generator or generators. They also determine the random numbers that the network itself
            draws during the attack.

    Raises:
        ValueError: images or masks have the wrong shape or no images, images are not floats in [0, 1], or masks are not
            whole numbers, or hold a negative label that is not `ignore_index`.
    """
    model, images, masks = arguments["model"], arguments["images"], arguments["masks"]
    for name, value in (("images", images), ("masks", masks)):
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} must be a tensor, got {type(value).__name__}")
    if images.ndim != 4 or masks.shape != (len(images), *images.shape[2:]):
        raise ValueError(
            f"images must be (N, 3, H, W) and masks (N, H, W), got {tuple(images.shape)} and {tuple(masks.shape)}"
        )
    if not images.numel():
        raise ValueError("there is no image in the batch")
    if not images.is_floating_point() or not (images.min() >= 0 and images.max() <= 1):
        raise ValueError("images must be floats in [0, 1]: divide 0-255 images by 255, normalise in the model")
    if masks.is_floating_point() or masks.is_complex():
        raise ValueError(f"masks must be whole numbers, got {masks.dtype}")
    void = arguments.get("ignore_index", 255)
    arguments["masks"] = masks = masks.long()
    lowest = masks.min() if void >= 0 else masks.masked_fill(masks == void, 0).min()
    if lowest < 0:
        raise ValueError(f"masks hold the label {int(lowest)}; if it means void, pass ignore_index={int(lowest)}")
    seed = stream_seed(generator, "attack")
    if "generator" in arguments:
        arguments["generator"] = per_image(arguments["generator"], len(images))
    arguments["images"] = images.detach()
    with guarded(model, images.device, seed):
        yield


@contextlib.contextmanager
def guarded(model: nn.Module, device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Run with the network in eval mode and gradients enabled, and restore everything afterwards.

    The mode of every module and the global random state are restored; the parameters' `.grad` is not touched. Autocast
    to float16 is disabled inside, because small input gradients underflow in float16.

    Args:
        model: the network.
        device: device of the network.
        seed: seed of the global random generators inside (see `seeded`). Give one wherever a network that draws random
            numbers must not draw those that it will draw again after the guard. None continues the current stream.
    """
    training = [module for module in model.modules() if module.training]
    fp16 = torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type) == torch.float16
    with contextlib.ExitStack() as stack:
        if fp16:
            stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(seeded(seed, device))
        stack.enter_context(torch.enable_grad())
        model.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True


@contextlib.contextmanager
def seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Seed the global random generators of PyTorch, NumPy and Python, and restore their states afterwards.

    A network may draw random numbers in its forward pass, for example for a randomised defense. Code that seeds these
    draws gets the same logits every time it runs. Use different seeds for an attack and for the scoring of its images:
    otherwise the attack knows the noise that it is scored with, and looks stronger than it is.

    Args:
        seed: the seed, such as a `stream_seed`; None restores the states without seeding.
        device: the device that the network runs on; its generator is seeded as well if it is a CUDA device.
    """
    devices = [device] if device.type == "cuda" else []
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 - networks may draw from it
    try:
        with torch.random.fork_rng(devices):
            if seed is not None:
                # Not torch.manual_seed: it would seed every CUDA device, and only this one is restored.
                torch.default_generator.manual_seed(seed)
                for one in devices:
                    index = torch.cuda.current_device() if one.index is None else one.index
                    torch.cuda.default_generators[index].manual_seed(seed)
                np.random.seed(seed % 2**32)  # noqa: NPY002 - see above
                random.seed(seed)
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002 - see above
        random.setstate(python_state)


def stream_seed(generator: torch.Generator | Generators | None, purpose: str) -> int:
    """Derive a seed for `seeded` from the state of generators, without drawing from them.

    Args:
        generator: one generator, one per image, or None.
        purpose: what the random numbers are for. Different purposes, such as "attack" and "scores", give different
            seeds for the same generators.
    """
    generators = [generator] if isinstance(generator, torch.Generator) else list(generator or ())
    digest = hashlib.sha256(purpose.encode())
    for one in generators:
        digest.update(one.get_state().numpy().tobytes())
    return int.from_bytes(digest.digest()[:7], "big")
