"""Adversarial training at the cost of clean training (Free-AT)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from segbench.defenses.base import Losses, defense, segmentation_loss
from segbench.model_zoo.base import Segmenter


@defense("free-at")
class FreeAT(nn.Module):
    """Free adversarial training: each batch is replayed, and the backward pass that trains also moves the attack.

    One perturbation lives on from replay to replay and from batch to batch. An iteration costs one forward and one
    backward pass, as without a defense. Of `replays` batches given, the first is used and the others are passed over,
    so that a number of iterations means the same as for every other defense.

    Args:
        segmenter: the network to train.
        eps: radius of the linf ball and size of a step, in [0, 1] units.
        replays: how often a batch is used ("m" in the paper).
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Source: Shafahi et al. 2019, algorithm 1, https://arxiv.org/abs/1904.12843.
    Departs from it in: the perturbation climbs the loss that trains, the auxiliary classifier's part included; it
        starts anew when the shape of the batch changes.
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
        """Return the loss of the perturbed batch; its backward pass moves the perturbation.

        See `defenses.base.TrainingDefense`.
        """
        if self.batch is None or self.uses == self.replays:
            self.batch, self.uses = (images.detach(), masks), 0
        self.uses += 1
        images, masks = (held.to(images.device) for held in self.batch)
        if self.perturbation is None or self.perturbation.shape != images.shape:
            self.perturbation = torch.zeros_like(images)
        perturbed = (images + self.perturbation.to(images)).clamp(0, 1)
        if torch.is_grad_enabled():
            perturbed.requires_grad_().register_hook(self._climb)  # type: ignore[no-untyped-call]
        return segmentation_loss(
            self.segmenter, perturbed, masks, aux_weight=self.aux_weight, ignore_index=self.ignore_index
        )

    def _climb(self, gradient: Tensor) -> None:
        if self.perturbation is not None:
            moved = self.perturbation.to(gradient) + self.eps * gradient.nan_to_num().sign()
            self.perturbation = moved.clamp(-self.eps, self.eps)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the batch that is replayed and the perturbation, so that a checkpoint resumes between replays."""
        return {"uses": self.uses, "batch": self.batch, "perturbation": self.perturbation}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take what `get_extra_state` gave."""
        self.uses, self.batch, self.perturbation = state["uses"], state["batch"], state["perturbation"]

    def deploy(self) -> Segmenter:
        """Return the network."""
        return self.segmenter
