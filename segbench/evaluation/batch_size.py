"""How many images or crops go through a network at once: found by a trial, remembered, and halved where memory ends."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from segbench import memory
from segbench.attacks.tools.guard import guarded
from segbench.errors import CellError, describe
from segbench.memory import out_of_memory, release
from segbench.provenance import device_name
from segbench.store import Store

T = TypeVar("T")

MOST = 25
"""Largest number that is found; more can be asked for."""
CPU_PIXELS = 1 << 20
"""Pixels of a batch on a CPU, where larger batches are no faster."""
SHARE = 0.8
"""Part of a GPU's free memory that a batch may take; what is left is for fragments and for what a trial misses."""


class BatchSizes:
    """Numbers of images for the networks of a store on one device.

    A network that draws random numbers gets one image at a time, so that its draws do not depend on the batch.

    Args:
        store: remembers what was found.
        device: where the networks are.
        asked: number to begin with; None to find it.
        how: what the memory of a pass depends on beside the network, such as the protocol.
    """

    def __init__(self, store: Store, device: torch.device, asked: int | None, how: str = "") -> None:
        self.store, self.device, self.asked, self.how = store, device, asked, how
        self.known: dict[str, dict[str, Any]] = {}

    def most(self, digest: str, network: nn.Module, image: Tensor) -> int:
        """Return how many images like one go through a network at once.

        Args:
            digest: identity of the network.
            network: the network as it is run.
            image: (1, 3, H, W), on the device.
        """
        found = self._found(digest)
        if "draws" not in found:
            draws = _draws(network, image)
            if draws is None:
                return 1
            self._keep(digest, draws=draws)
        if found["draws"]:
            return 1
        size = _size(image)
        if size in found:
            return min(int(found[size]), self.asked or MOST)
        if self.asked is not None:
            return self.asked
        if self.device.type != "cuda":
            return on_processor(image)
        if "bytes" not in found:
            self._keep(digest, bytes=_bytes_of_a_pixel(network, image))
        return _fitting(found["bytes"] * image.shape[-2] * image.shape[-1], _free(self.device))

    def in_parts(
        self, digest: str, network: nn.Module, images: Tensor, label: str, work: Callable[[slice], T]
    ) -> list[T]:
        """Do some work on as many images at once as fit, and return what it gave, in order.

        Args:
            digest: identity of the network.
            network: the network as it is run.
            images: (N, 3, H, W), on the device.
            label: what an error calls the network.
            work: does the images of a slice; it is called again with fewer where memory did not suffice.

        Raises:
            CellError: one image alone takes more memory than there is.
        """
        size = _size(images)
        try:
            return memory.in_parts(
                len(images),
                self.most(digest, network, images[:1]) if len(images) else 1,
                work,
                self.device,
                lambda most: self._keep(digest, **{size: most}),
            )
        except Exception as error:
            if not out_of_memory(error):
                raise
            raise CellError(
                f"{label}: one image of {size} takes more memory than {self.device} has ({describe(error)[:200]}); use "
                "a protocol that cuts images, such as whole-v1(window=[512, 512])"
            ) from error

    def _found(self, digest: str) -> dict[str, Any]:
        if digest not in self.known:
            self.known[digest] = self.store.remembered("batches", self._key(digest)) or {}
        return self.known[digest]

    def _keep(self, digest: str, **found: Any) -> None:
        self._found(digest).update(found)
        self.store.remember("batches", self._key(digest), self.known[digest])

    def _key(self, digest: str) -> str:
        text = "/".join((digest, self.how, device_name(self.device)))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def on_processor(images: Tensor) -> int:
    """Return how many images like those of a batch (N, 3, H, W) go through a network at once on a processor."""
    return max(1, min(MOST, CPU_PIXELS // images[0, 0].numel()))


def _size(images: Tensor) -> str:
    return f"{images.shape[-2]}x{images.shape[-1]}"


def _draws(network: nn.Module, image: Tensor) -> bool | None:
    """Whether a network draws random numbers when it predicts; None where not even one image fits."""

    def states() -> list[bytes]:
        kinds = [torch.get_rng_state()]
        if image.device.type == "cuda":
            kinds.append(torch.cuda.get_rng_state(image.device))
        others = repr(np.random.get_state()) + repr(random.getstate())  # noqa: NPY002 - networks may draw from it
        return [*(state.numpy().tobytes() for state in kinds), others.encode()]

    with guarded(network, image.device, seed=0), torch.no_grad():
        before = states()
        try:
            network(image)
        except Exception as error:
            if not out_of_memory(error):
                raise
            return None
        return states() != before


def _bytes_of_a_pixel(network: nn.Module, image: Tensor) -> float:
    """Return the memory that a forward and a backward pass take for each pixel of a further image, on a GPU."""

    def peak(count: int) -> int:
        torch.cuda.reset_peak_memory_stats(image.device)
        images = image.repeat(count, 1, 1, 1).requires_grad_()
        logits = network(images)
        if logits.requires_grad:
            torch.autograd.grad(logits.sum(), images)
        return torch.cuda.max_memory_allocated(image.device)

    pixels = image.shape[-2] * image.shape[-1]
    try:
        with guarded(network, image.device, seed=0):
            return max(1.0, (peak(2) - peak(1)) / pixels)
    except Exception as error:
        if not out_of_memory(error):
            raise
        reason = error
    release(reason, image.device)
    return _free(image.device) / pixels  # two do not fit


def _free(device: torch.device) -> int:
    """Return the bytes of a GPU that nobody uses, those that torch holds in reserve included."""
    free: int = torch.cuda.mem_get_info(device)[0]
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _fitting(each: float, free: int) -> int:
    """Return how many images fit.

    Args:
        each: bytes of an image.
        free: bytes that are free.
    """
    return max(1, min(MOST, int(SHARE * free / each)))
