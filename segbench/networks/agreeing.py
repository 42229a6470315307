"""A faster network in place of another, for those kinds of images that both were seen to answer alike."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from segbench.attacks.tools.guard import guarded
from segbench.attacks.tools.losses import known_classes
from segbench.torch_settings import rounded

TOLERANCE = 1e-4
"""Share of the largest logit by which a faster network may differ."""


def alike(found: Tensor, expected: Tensor) -> bool:
    """Whether logits (N, C, H, W) agree, up to rounding; classes that the network does not know have no say.

    A class that it does not know has a logit such as -1e4, of which `TOLERANCE` would be more than any difference.
    """
    unknown = ~known_classes(expected)
    # Class by class: of large images with many classes, a further copy of all logits would be gigabytes.
    pairs = list(zip(found.unbind(1), expected.unbind(1), strict=True))
    apart, largest = (
        torch.stack([own.abs().amax((1, 2)) for own in values], 1).masked_fill(unknown, 0).max()
        for values in ((one - other for one, other in pairs), expected.unbind(1))
    )
    return bool(apart <= TOLERANCE * largest)


def kind_of(images: Tensor) -> str:
    """Return what the path of images (N, 3, H, W) through a network may depend on: their size, and if it is one."""
    return f"{images.shape[-2]}x{images.shape[-1]}{' each' if len(images) > 1 else ''}"


class Instead:
    """The forward pass of a faster copy of a network, or the network's own where they do not agree.

    A network may take another path for another size of images, or for one image than for several. What was changed in
    the copy need not hold there, so that the first images of each kind go through both.

    Args:
        network: in eval mode.
        copied: the forward pass of the copy.
        fast: the same, as it is run.
        agreed: kinds of images and whether they agree; takes in what is found.
        learnt: is called when a kind was added.
    """

    def __init__(
        self,
        network: nn.Module,
        copied: Callable[[Tensor], Tensor],
        fast: Callable[[Tensor], Tensor],
        agreed: dict[str, bool],
        learnt: Callable[[], None],
    ) -> None:
        self.network, self.copied, self.fast = network, copied, fast
        self.agreed, self.learnt = agreed, learnt

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits (N, C, H, W)."""
        kind = kind_of(images)
        if kind not in self.agreed:
            self.agreed[kind] = self._agree(images.detach())
            self.learnt()
        return self.fast(images) if self.agreed[kind] else self.network.forward(images)

    def _agree(self, images: Tensor) -> bool:
        device = images.device
        with torch.no_grad(), torch.autocast(device.type, enabled=False), rounded(matrices=False, convolutions=False):
            passes = []
            for forward in (self.network.forward, self.copied):
                with guarded(self.network, device, seed=0), torch.no_grad():
                    passes.append(forward(images[:2]))
        return alike(passes[1], passes[0])
