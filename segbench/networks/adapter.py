"""Any network, from images in [0, 1] to logits at their size, with a channel for every class of the dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.config.network import Convention, NetworkAccess
from segbench.errors import CellError
from segbench.networks import mask_classes
from segbench.networks.label_maps import as_scores, holds_labels
from segbench.networks.mask_classes import MaskClassifier

ABSENT = -1e4
"""Logit of a class that the network does not know."""


class Adapter(nn.Module):
    """A network under the contract of this house; gradients flow through.

    Args:
        network: input of its own convention (N, 3, H, W) -> logits (N, K, h, w), or a label map (N, h, w) of whole
            numbers, as a tensor or a numpy array; or a mapping, an object or a sequence that holds them. Logits of
            another size are resized, bilinear; labels, nearest.
        convention: that input.
        num_classes: classes C of the dataset; null to take the network's own.
        classes: for each of them the network's channels, of which the largest logit counts; null where K is C.
        name: the network's name in errors.
        output: key, attribute or place of the logits in what the network returns; null to look for them.
        binary: the network has one channel, the logit of the second of two classes; the first is its complement.
        access: what the network gives; one that answers with label maps is known as such from its first answer on.

    Attributes:
        access: "gradients", "scores" or "labels"; of labels, the logits here are 1 for the predicted class and 0 for
            all others, so that they say nothing of confidence.
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
        output: str | None = None,
        binary: bool = False,
        access: NetworkAccess = "gradients",
    ) -> None:
        super().__init__()
        self.network = network
        self.convention = convention
        self.num_classes = num_classes
        self.classes = classes
        self.name = name
        self.output = output
        self.binary = binary
        self.access: NetworkAccess = access
        self.contiguous = False
        self.notes: dict[str, None] = {}
        std = torch.tensor(convention.std or (1.0, 1.0, 1.0), dtype=torch.float32)
        mean = torch.tensor(convention.mean or (0.0, 0.0, 0.0), dtype=torch.float32)
        self.register_buffer("scale", std.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", mean.view(1, 3, 1, 1), persistent=False)

    def under(self, convention: Convention) -> Adapter:
        """Return the same network under another convention."""
        other = Adapter(
            self.network,
            convention,
            self.num_classes,
            classes=self.classes,
            name=self.name,
            output=self.output,
            binary=self.binary,
            access=self.access,
        )
        return other.to(self.scale.device).eval()

    @property
    def has_confidence(self) -> bool:
        """Whether the logits say how sure the network is; those of labels do not."""
        return self.access != "labels"

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, C, H, W) of images (N, 3, H, W) in [0, 1].

        Raises:
            CellError: the network's output has no logits, or not as many channels as there are classes.
        """
        own = images.shape[-2:]
        height, width = self.convention.size or own
        shown = self._normalised(images)
        if (height, width) != own:
            shown = F.interpolate(shown, (height, width), mode="bilinear", antialias=True)
        multiple, remainder = self.convention.multiple, self.convention.remainder
        bottom, right = (remainder - height) % multiple, (remainder - width) % multiple
        shown = F.pad(shown, (0, right, 0, bottom))
        found = self._part(self._answer(shown)).to(images.device)
        if self.access == "labels" or holds_labels(found):
            self.access = "labels"
            scores = as_scores(found, len(images), self.num_classes, self.classes, self.name)
        else:
            scores = self._mapped(self._checked(found, len(images)))
        if bottom or right:
            scores = self._resized(scores, shown.shape[-2:])[..., :height, :width]
        return self._resized(scores, own)

    def _resized(self, scores: Tensor, size: Sequence[int]) -> Tensor:
        """Return scores at another size; label maps by their nearest pixel, class scores of masks as logarithms."""
        if scores.shape[-2:] == tuple(size):
            return scores
        if self.access == "labels":
            return F.interpolate(scores, tuple(size), mode="nearest-exact")
        if isinstance(self.network, MaskClassifier):
            return mask_classes.resized(scores, (size[0], size[1]))
        return F.interpolate(scores, tuple(size), mode="bilinear", align_corners=False)

    def _normalised(self, images: Tensor) -> Tensor:
        ordered = images.flip(1) if self.convention.channels == "bgr" else images
        scaled = ordered * 255 if self.convention.range == "0-255" else ordered
        return (scaled - self.shift) / self.scale

    def _answer(self, shown: Tensor) -> Any:
        """Run the network; one that cannot view channels_last images gets contiguous ones from then on."""
        if self.contiguous:
            return self.network(shown.contiguous())
        try:
            return self.network(shown)
        except RuntimeError as error:
            if shown.is_contiguous() or "view" not in str(error):
                raise
        self.contiguous = True
        return self.network(shown.contiguous())

    def _part(self, answer: Any) -> Tensor:
        """Find the logits or labels in what the network returned."""
        found = self._named(answer) if self.output is not None else self._looked_for(answer)
        if isinstance(found, np.ndarray):
            if found.dtype.kind not in "biuf":
                raise CellError(f"{self.name} returns an array of {found.dtype}; expected numbers")
            found = torch.from_numpy(np.ascontiguousarray(found, found.dtype.newbyteorder("=")))
        if not isinstance(found, Tensor):
            raise CellError(
                f"{self.name} returns {_described(answer)}, not logits: give a network whose output is a tensor "
                "(N, C, H, W), or name the part that holds one with --output (in a matrix: output)"
            )
        return found

    def _checked(self, found: Tensor, count: int) -> Tensor:
        if found.ndim != 4 or len(found) != count:
            raise CellError(
                f"{self.name} returns a tensor {tuple(found.shape)} for {count} image(s); expected logits (N, C, H, W) "
                "or whole numbers (N, H, W) as labels; of labels in floats, say --access labels (in a matrix: access)"
            )
        return found

    def _named(self, answer: Any) -> Any:
        """Return the part of an answer that the user named."""
        name = str(self.output)
        if isinstance(answer, Mapping) and name in answer:
            return answer[name]
        if isinstance(answer, list | tuple) and name.isdecimal() and int(name) < len(answer):
            return answer[int(name)]
        if hasattr(answer, name):
            return getattr(answer, name)
        raise CellError(f"{self.name} returns {_described(answer)}, which has no output {name!r}")

    def _looked_for(self, answer: Any) -> Any:
        """Return the part of an answer that holds logits by the conventions of the common libraries."""
        if isinstance(answer, Tensor | np.ndarray):
            return answer
        if isinstance(answer, Mapping):
            for key in ("out", "logits"):
                if key in answer:
                    if len(answer) > 1:
                        self.notes[
                            f"of the outputs {', '.join(map(str, answer))} the logits are taken from {key!r}"
                        ] = None
                    return answer[key]
            return next(iter(answer.values())) if len(answer) == 1 else None
        logits = getattr(answer, "logits", None)
        if logits is not None:
            return logits
        if isinstance(answer, list | tuple) and answer:
            if len(answer) > 1:
                self.notes[f"of {len(answer)} outputs the logits are taken from the first"] = None
            return answer[0]
        return None

    def _mapped(self, logits: Tensor) -> Tensor:
        found = logits.shape[1]
        if self.binary:
            if found != 1 or self.num_classes not in (None, 2):
                raise CellError(
                    f"{self.name} has {found} channels and the dataset {self.num_classes} classes; --binary is for "
                    "networks of one channel and two classes"
                )
            return torch.cat([torch.zeros_like(logits), logits], 1)
        if self.classes is None:
            if self.num_classes is not None and found != self.num_classes:
                hint = (
                    "say --binary (in a matrix: binary: true) if its one channel is the logit of the second class"
                    if found == 1 and self.num_classes == 2
                    else f"build it for {self.num_classes} classes, or say with 'classes' which channels mean what"
                )
                raise CellError(f"{self.name} has {found} channels, the dataset {self.num_classes} classes; {hint}")
            return logits
        highest = max((channel for group in self.classes for channel in group), default=0)
        if highest >= found:
            raise CellError(
                f"{self.name} has {found} channels, but 'classes' names channel {highest}; they count from 0"
            )
        # One channel is the logit of its class against all others: a class without a channel is its complement.
        absent = torch.zeros_like(logits[:, 0]) if found == 1 else torch.full_like(logits[:, 0], ABSENT)
        return torch.stack([logits[:, list(group)].amax(1) if group else absent for group in self.classes], 1)


def _described(answer: Any) -> str:
    """Say what a network returned."""
    if isinstance(answer, Mapping):
        return f"a {type(answer).__name__} with {', '.join(map(str, answer)) or 'nothing in it'}"
    if isinstance(answer, list | tuple):
        return f"a {type(answer).__name__} of {len(answer)}"
    return f"a {type(answer).__name__}"
