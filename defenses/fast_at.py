"""Adversarial training with one-step attacks (Fast-AT)."""

from __future__ import annotations

from segbench.attacks.base import BoundAttack
from segbench.attacks.pgd import pgd
from segbench.defenses.base import defense
from segbench.defenses.tools.adversarial import AdversarialTraining
from segbench.model_zoo.base import Segmenter

ONE_STEP = pgd.bind(eps=0.03, alpha=0.0375, steps=1)
"""One step of 1.25 eps from a uniform random start."""


@defense("fast-at")
def fast_at(
    segmenter: Segmenter,
    *,
    attack: BoundAttack = ONE_STEP,
    warmup: int = 0,
    aux_weight: float = 0.4,
    ignore_index: int = 255,
) -> AdversarialTraining:
    """Fast adversarial training: every image is attacked with one step of 1.25 eps from a random start.

    Training can fail suddenly (catastrophic overfitting): accuracy under one-step attacks rises while accuracy under
    iterative attacks drops to zero. Evaluate this defense with an iterative attack.

    Args:
        segmenter: the network to train.
        attack: the attack used in training.
        warmup: number of batches over which the attack's `eps` and `alpha` grow linearly to their values.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Source: Wong et al. 2020, algorithm 3, https://arxiv.org/abs/2001.03994.
    Departs from it in: the attack runs in eval mode, like every attack here; the authors' code attacks in train mode.
    """
    return AdversarialTraining(
        segmenter, attack=attack, warmup=warmup, aux_weight=aux_weight, ignore_index=ignore_index
    )
