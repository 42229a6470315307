"""Any network, from images in [0, 1] to logits at their size, with a channel for every class of the dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.config.network import Convention
from segbench.errors import CellError

ABSENT = -1e4
"""Logit of a class that the network does not know."""


class Adapter(nn.Module):
    """A network under the contract of this house; gradients flow through.

    Args:
        network: input of its own convention (N, 3, H, W) -> logits (N, K, h, w); or a mapping that holds them as `out`,
            or an object that holds them as `logits`. Logits of another size are resized, bilinear.
        convention: that input.
        num_classes: classes C of the dataset; null to take the network's own.
        classes: for each of them the network's channels, of which the largest logit counts; null where K is C.
        name: what errors call it.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: Callable[[Tensor], Any],
        convention: Convention,
        num_classes: int | None,
        *,
        classes: Sequence[Sequence[int]] | None = None,
        name: str = "the network",
    ) -> None:
        super().__init__()
        self.network = network
        self.convention = convention
        self.num_classes = num_classes
        self.classes = classes
        self.name = name
        std = torch.tensor(convention.std or (1.0, 1.0, 1.0))
        mean = torch.tensor(convention.mean or (0.0, 0.0, 0.0))
        self.register_buffer("scale", std.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", mean.view(1, 3, 1, 1), persistent=False)

    def under(self, convention: Convention) -> Adapter:
        """Return the same network under another convention."""
        other = Adapter(self.network, convention, self.num_classes, classes=self.classes, name=self.name)
        return other.to(self.scale.device).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, C, H, W) of images (N, 3, H, W) in [0, 1].

        Raises:
            CellError: the network's output has no logits, or not as many channels as there are classes.
        """
        height, width = images.shape[-2:]
        multiple, remainder = self.convention.multiple, self.convention.remainder
        bottom, right = (remainder - height) % multiple, (remainder - width) % multiple
        shown = F.pad(self._normalised(images), (0, right, 0, bottom))
        logits = self._mapped(self._logits(self.network(shown), len(images)))
        if logits.shape[-2:] != shown.shape[-2:]:
            logits = F.interpolate(logits, shown.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width]

    def _normalised(self, images: Tensor) -> Tensor:
        ordered = images.flip(1) if self.convention.channels == "bgr" else images
        scaled = ordered * 255 if self.convention.range == "0-255" else ordered
        return (scaled - self.shift) / self.scale

    def _logits(self, output: Any, count: int) -> Tensor:
        if isinstance(output, Mapping) and "out" in output:
            output = output["out"]
        elif not isinstance(output, Tensor):
            output = getattr(output, "logits", output)
        if not isinstance(output, Tensor):
            keys = f" with {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
            raise CellError(
                f"{self.name} returns a {type(output).__name__}{keys}, not logits: give a network whose output is a "
                "tensor (N, C, H, W), or holds one as out or logits"
            )
        if output.ndim != 4 or len(output) != count:
            raise CellError(
                f"{self.name} returns a tensor {tuple(output.shape)} for {count} image(s); expected logits (N, C, H, W)"
            )
        return output

    def _mapped(self, logits: Tensor) -> Tensor:
        found = logits.shape[1]
        if self.classes is None:
            if self.num_classes is not None and found != self.num_classes:
                raise CellError(
                    f"{self.name} has {found} channels, the dataset {self.num_classes} classes; build it for "
                    f"{self.num_classes} classes, or say with 'classes' which channels mean which class"
                )
            return logits
        highest = max((channel for group in self.classes for channel in group), default=0)
        if highest >= found:
            raise CellError(
                f"{self.name} has {found} channels, but 'classes' names channel {highest}; they count from 0"
            )
        absent = torch.full_like(logits[:, 0], ABSENT)
        return torch.stack([logits[:, list(group)].amax(1) if group else absent for group in self.classes], 1)
