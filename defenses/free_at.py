"""Adversarial training at the cost of clean training (Free-AT)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from segbench.defenses.base import Losses, defense, segmentation_loss
from segbench.model_zoo.base import Segmenter


@defense("free-at", version=2)
class FreeAT(nn.Module):
    """Free adversarial training: one backward pass per iteration updates both the network and the perturbation.

    Every batch is used `replays` times in a row. The perturbation is kept from replay to replay and from batch to
    batch. An iteration costs one forward and one backward pass, as without a defense. Of every `replays` batches that
    training provides, the first one is used and the others are skipped, so that the number of iterations is comparable
    with other defenses.

    The perturbed images are clipped to [0, 1]. The gradient is taken through the clipping, as in the authors' code:
    where it cuts a value, the gradient is 0 and the perturbation does not move.

    Args:
        segmenter: the network to train.
        eps: radius of the L_inf ball and size of a step, in [0, 1] units.
        replays: number of times that a batch is used ("m" in the paper).
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Source: Shafahi et al. 2019, algorithm 1, https://arxiv.org/abs/1904.12843; clipping from the authors' code,
        https://github.com/mahyarnajibi/FreeAdversarialTraining.
    Departs from it in: the perturbation ascends the training loss including the auxiliary classifier's part; it
        restarts at zero when the shape of the batch changes.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        eps: float = 0.03,
        replays: int = 4,
        aux_weight: float = 0.4,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        if replays < 1:
            raise ValueError(f"free-at: replays must be at least 1, got {replays}")
        self.segmenter = segmenter
        self.eps = eps
        self.replays = replays
        self.aux_weight = aux_weight
        self.ignore_index = ignore_index
        self.uses = 0
        self.batch: tuple[Tensor, Tensor] | None = None
        self.perturbation: Tensor | None = None

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Losses:
        """Return the loss of the perturbed batch; its backward pass also updates the perturbation.

        See `defenses.base.TrainingDefense`.
        """
        if self.batch is None or self.uses == self.replays:
            self.batch, self.uses = (images.detach(), masks), 0
        self.uses += 1
        images, masks = (held.to(images.device) for held in self.batch)
        if self.perturbation is None or self.perturbation.shape != images.shape:
            self.perturbation = torch.zeros_like(images)
        moved = images + self.perturbation.to(images)
        perturbed = moved.clamp(0, 1)
        if torch.is_grad_enabled():
            # Written out, because the gradient of `clamp` at exactly 0 and 1 differs between versions of PyTorch.
            ascend = partial(self._ascend, inside=(moved >= 0) & (moved <= 1))
            perturbed.requires_grad_().register_hook(ascend)  # type: ignore[no-untyped-call]
        return segmentation_loss(
            self.segmenter, perturbed, masks, aux_weight=self.aux_weight, ignore_index=self.ignore_index
        )

    def _ascend(self, gradient: Tensor, inside: Tensor) -> None:
        if self.perturbation is not None:
            moved = self.perturbation.to(gradient) + self.eps * gradient.nan_to_num().sign() * inside
            self.perturbation = moved.clamp(-self.eps, self.eps)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the replayed batch and the perturbation, so that a checkpoint between two replays resumes exactly."""
        return {"uses": self.uses, "batch": self.batch, "perturbation": self.perturbation}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the state that `get_extra_state` returned."""
        self.uses, self.batch, self.perturbation = state["uses"], state["batch"], state["perturbation"]

    def deploy(self) -> Segmenter:
        """Return the network."""
        return self.segmenter
