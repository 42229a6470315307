"""Dynamic divide-and-conquer adversarial training (DDC-AT)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.attacks.base import BoundAttack
from segbench.attacks.tools.guard import guarded
from segbench.defenses.base import Losses, attacked, auxiliary_loss, defense
from segbench.defenses.sat import PAPER_ATTACK
from segbench.defenses.tools.first_pass import FirstPass, first_pass
from segbench.model_zoo.base import Segmenter

Divided = Literal["clean", "adversarial", "both"]
"""Images whose flipped pixels go to the auxiliary branch: "clean" in DDC-AT, "adversarial" in -N, "both" in -M."""


class Branches(NamedTuple):
    """Logits of the three branches, each at the size of the images."""

    main: Tensor
    auxiliary: Tensor
    mask: Tensor

    def merged(self) -> Tensor:
        """Return the auxiliary branch's logits where the mask branch predicts 1, and the main branch's elsewhere."""
        return torch.where(self.gate().unsqueeze(1), self.auxiliary, self.main)

    def gate(self) -> Tensor:
        """Return the pixels that the mask branch assigns to the auxiliary branch, (N, H, W) bool."""
        return self.mask[:, 1] > self.mask[:, 0]


class DivideAndConquer(nn.Module):
    """The training network of DDC-AT and its variants: three classifiers on one trunk. Only the main one is deployed.

    Args:
        segmenter: the network to train; its classifier is the main branch.
        divided: images whose flipped pixels the mask branch learns to assign to the auxiliary branch; the mask labels
            of all other images are 0.
        attack: the attack used in training.
        lambda_main: weight of L_n in eq. 5.
        lambda_aux: weight of L_a in eq. 5.
        lambda_mask: weight of L_m in eq. 5.
        aux_weight: weight of the loss of the auxiliary classifier (on the trunk's earlier features).
        ignore_index: label of void pixels.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        divided: Divided,
        attack: BoundAttack,
        lambda_main: float,
        lambda_aux: float,
        lambda_mask: float,
        aux_weight: float,
        ignore_index: int,
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.auxiliary_branch = segmenter.make_classifier(segmenter.num_classes)
        self.mask_branch = segmenter.make_classifier(2)
        self.divided = divided
        self.attack = attack
        self.lambdas = (lambda_main, lambda_aux, lambda_mask)
        self.aux_weight = aux_weight
        self.ignore_index = ignore_index

    def branches(self, images: Tensor, features: Tensor) -> Branches:
        """Run the three classifiers on the trunk's main features."""
        heads = (self.segmenter.classifier, self.auxiliary_branch, self.mask_branch)
        return Branches(*(self.segmenter.classify(head, features, images) for head in heads))

    def predict(self, images: Tensor) -> Tensor:
        """Return the label maps (N, H, W) of the merged logits, computed in eval mode."""
        with guarded(self, images.device), torch.no_grad():
            return self.branches(images, self.segmenter.features(images).main).merged().max(1).indices

    def _predict_clean(self, images: Tensor, passes: Sequence[FirstPass]) -> Tensor:
        """Return what `predict` does; a pass that began with these images serves again."""
        count = len(images)
        if not passes or not torch.equal(passes[0].images[:count], images):
            return self.predict(images)
        features, main = passes[0].features[:count], passes[0].logits[:count]
        with guarded(self, images.device), torch.no_grad():
            others = (self.segmenter.classify(h, features, images) for h in (self.auxiliary_branch, self.mask_branch))
            return Branches(main, *others).merged().max(1).indices

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Losses:
        """Return the loss of a batch whose second half is attacked; see `defenses.base.TrainingDefense`.

        The terms include `mask_predicted` and `mask_real`: the share of the divided images' pixels that the mask
        branch, or the mask labels, assign to the auxiliary branch (figure 4 of the paper). The attack runs only on
        images that are trained on in adversarial form or that need a mask label. Where it starts at the clean images,
        as BIM does, its first pass serves for their prediction too.
        """
        count, half = len(images), len(images) // 2
        divided = {"clean": slice(0, half), "adversarial": slice(half, count), "both": slice(0, count)}[self.divided]
        start = divided.start
        with first_pass(self.segmenter) as passes:
            adversarial = attacked(
                self.attack,
                self.segmenter,
                images[start:],
                masks[start:],
                ignore_index=self.ignore_index,
                generator=generator,
            )
        mixed = torch.cat([images[:half], adversarial[half - start :]])
        flipped = self._predict_clean(images[divided], passes) != self.predict(adversarial[: divided.stop - start])
        mask_labels = torch.zeros_like(masks)
        mask_labels[divided] = flipped.long()

        features = self.segmenter.features(mixed)
        branches = self.branches(mixed, features.main)
        gate = branches.gate()
        segmentation = self._segmentation_loss(branches, gate, masks)
        mask = F.cross_entropy(branches.mask.float(), mask_labels)
        auxiliary = auxiliary_loss(self.segmenter, features.auxiliary, mixed, masks, self.ignore_index)
        terms = {
            "merged": segmentation,
            "mask": mask,
            "auxiliary": auxiliary,
            "mask_predicted": gate[divided].float().mean(),
            "mask_real": mask_labels[divided].float().mean(),
        }
        total = segmentation + self.lambdas[2] * mask + self.aux_weight * auxiliary
        return Losses(total, {name: value.detach() for name, value in terms.items()})

    def _segmentation_loss(self, branches: Branches, gate: Tensor, masks: Tensor) -> Tensor:
        """Return lambda_main L_n + lambda_aux L_a of eq. 3, as a mean over the valid pixels of both branches."""
        lambda_main, lambda_aux, _ = self.lambdas
        losses = F.cross_entropy(branches.merged().float(), masks, ignore_index=self.ignore_index, reduction="none")
        weights = torch.where(gate, lambda_aux, lambda_main)
        return (losses * weights).sum() / (masks != self.ignore_index).sum().clamp_min(1)

    def deploy(self) -> Segmenter:
        """Return the main branch: the plain network without any extra parameter."""
        return self.segmenter


@defense("ddcat")
def ddcat(
    segmenter: Segmenter,
    *,
    attack: BoundAttack = PAPER_ATTACK,
    lambda_main: float = 1.0,
    lambda_aux: float = 1.0,
    lambda_mask: float = 1.0,
    aux_weight: float = 0.4,
    ignore_index: int = 255,
) -> DivideAndConquer:
    """Dynamic divide-and-conquer adversarial training: pixels that flip under attack are trained in a separate branch.

    Half of each batch is clean, half is attacked. A mask branch learns which pixels of the clean images change their
    prediction under attack. It assigns these pixels to an auxiliary branch and all others to the main branch, and the
    merged logits are trained. Only the main branch is deployed.

    Args:
        segmenter: the network to train; its classifier is the main branch.
        attack: the attack used in training.
        lambda_main: weight of L_n in eq. 5.
        lambda_aux: weight of L_a in eq. 5.
        lambda_mask: weight of L_m in eq. 5.
        aux_weight: weight of the loss of the auxiliary classifier (on the trunk's earlier features).
        ignore_index: label of void pixels.

    Source: Xu et al. 2021, algorithms 2 and 3, eq. 3-5, https://arxiv.org/abs/2003.06555.
    """
    return DivideAndConquer(
        segmenter,
        divided="clean",
        attack=attack,
        lambda_main=lambda_main,
        lambda_aux=lambda_aux,
        lambda_mask=lambda_mask,
        aux_weight=aux_weight,
        ignore_index=ignore_index,
    )


@defense("ddcat-m")
def ddcat_m(
    segmenter: Segmenter,
    *,
    attack: BoundAttack = PAPER_ATTACK,
    lambda_main: float = 1.0,
    lambda_aux: float = 1.0,
    lambda_mask: float = 1.0,
    aux_weight: float = 0.4,
    ignore_index: int = 255,
) -> DivideAndConquer:
    """DDC-AT-M: DDC-AT that assigns flipped pixels of clean and of adversarial images to the auxiliary branch.

    Args:
        segmenter: the network to train; its classifier is the main branch.
        attack: the attack used in training.
        lambda_main: weight of L_n in eq. 5.
        lambda_aux: weight of L_a in eq. 5.
        lambda_mask: weight of L_m in eq. 5.
        aux_weight: weight of the loss of the auxiliary classifier (on the trunk's earlier features).
        ignore_index: label of void pixels.

    Source: Xu et al. 2021, section 6.4 and table 3, https://arxiv.org/abs/2003.06555.
    """
    return DivideAndConquer(
        segmenter,
        divided="both",
        attack=attack,
        lambda_main=lambda_main,
        lambda_aux=lambda_aux,
        lambda_mask=lambda_mask,
        aux_weight=aux_weight,
        ignore_index=ignore_index,
    )


@defense("ddcat-n")
def ddcat_n(
    segmenter: Segmenter,
    *,
    attack: BoundAttack = PAPER_ATTACK,
    lambda_main: float = 1.0,
    lambda_aux: float = 1.0,
    lambda_mask: float = 1.0,
    aux_weight: float = 0.4,
    ignore_index: int = 255,
) -> DivideAndConquer:
    """DDC-AT-N: DDC-AT that assigns flipped pixels of adversarial images only to the auxiliary branch.

    Args:
        segmenter: the network to train; its classifier is the main branch.
        attack: the attack used in training.
        lambda_main: weight of L_n in eq. 5.
        lambda_aux: weight of L_a in eq. 5.
        lambda_mask: weight of L_m in eq. 5.
        aux_weight: weight of the loss of the auxiliary classifier (on the trunk's earlier features).
        ignore_index: label of void pixels.

    Source: Xu et al. 2021, section 6.4 and table 3, https://arxiv.org/abs/2003.06555.
    """
    return DivideAndConquer(
        segmenter,
        divided="adversarial",
        attack=attack,
        lambda_main=lambda_main,
        lambda_aux=lambda_aux,
        lambda_mask=lambda_mask,
        aux_weight=aux_weight,
        ignore_index=ignore_index,
    )
