"""TRADES: a clean loss, and a penalty on how far an attack moves the predictions."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.attacks.tools.guard import guarded
from segbench.attacks.tools.losses import input_gradient
from segbench.attacks.tools.projections import project
from segbench.defenses.base import Losses, auxiliary_loss, cross_entropy, defense
from segbench.model_zoo.base import Segmenter


@defense("trades")
class Trades(nn.Module):
    """TRADES: cross-entropy on clean images plus beta times the KL divergence to predictions under attack.

    The attack inside training climbs the same divergence, needs no labels and starts from Gaussian noise of standard
    deviation 0.001. Both the clean and the attacked prediction receive the gradient of the divergence.

    Args:
        segmenter: the network to train.
        beta: weight of the divergence ("1 / lambda" in the paper).
        eps: radius of the linf ball, in [0, 1] units.
        alpha: size of a step, in [0, 1] units.
        steps: number of steps.
        aux_weight: weight of the auxiliary classifier's loss, on clean images.
        ignore_index: label of void pixels; they have no part in the divergence either.

    Source: Zhang et al. 2019, eq. 5 and algorithm 1, https://arxiv.org/abs/1901.08573.
    Departs from it in: the divergence is a mean over pixels, theirs is of one label per image; eps, alpha and steps
        are those of Xu et al. 2021 and of our other defenses.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        beta: float = 6.0,
        eps: float = 0.03,
        alpha: float = 0.01,
        steps: int = 5,
        aux_weight: float = 0.4,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.beta = beta
        self.eps = eps
        self.alpha = alpha
        self.steps = steps
        self.aux_weight = aux_weight
        self.ignore_index = ignore_index

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Losses:
        """Return the clean loss and the divergence; see `defenses.base.TrainingDefense`."""
        adversarial = self.attack(images, masks, generator)
        features = self.segmenter.features(images)
        clean_logits = self.segmenter.classify(self.segmenter.classifier, features.main, images)
        main = cross_entropy(clean_logits, masks, self.ignore_index)
        auxiliary = auxiliary_loss(self.segmenter, features.auxiliary, images, masks, self.ignore_index)
        pixels = divergence(self.segmenter(adversarial), masks, clean_logits)
        valid = masks != self.ignore_index
        divergent = (pixels * valid).sum() / valid.sum().clamp_min(1)
        terms = {"main": main, "divergence": divergent, "auxiliary": auxiliary}
        total = main + self.beta * divergent + self.aux_weight * auxiliary
        return Losses(total, {name: value.detach() for name, value in terms.items()})

    def attack(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Tensor:
        """Return images of the ball, (N, 3, H, W), whose predictions diverge from those of `images`."""
        noise = torch.randn(images.shape, generator=generator).to(images) * 0.001
        adversarial = project(images + noise, images, "linf", self.eps)
        with guarded(self.segmenter, images.device):
            with torch.no_grad():
                clean_logits = self.segmenter(images)
            loss = partial(divergence, clean_logits=clean_logits)
            for _ in range(self.steps):
                gradient, _, _ = input_gradient(
                    self.segmenter, adversarial, masks, loss, ignore_index=self.ignore_index
                )
                adversarial = project(adversarial + self.alpha * gradient.sign(), images, "linf", self.eps)
        return adversarial

    def deploy(self) -> Segmenter:
        """Return the network."""
        return self.segmenter


def divergence(logits: Tensor, masks: Tensor, clean_logits: Tensor) -> Tensor:
    """KL divergence of every pixel from the clean to the given prediction, (N, H, W).

    Args:
        logits: predictions under attack, (N, C, H, W).
        masks: not used: the divergence needs no labels; here because losses of attacks take them.
        clean_logits: predictions of the clean images, (N, C, H, W).
    """
    under_attack = F.log_softmax(logits.float(), 1)
    clean = F.log_softmax(clean_logits.float(), 1)
    return F.kl_div(under_attack, clean, reduction="none", log_target=True).sum(1)
