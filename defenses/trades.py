"""TRADES: a clean loss plus a penalty on the change of the predictions under attack."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.attacks.tools.guard import guarded, stream_seed
from segbench.attacks.tools.losses import input_gradient
from segbench.attacks.tools.projections import project
from segbench.defenses.base import Losses, auxiliary_loss, cross_entropy, defense
from segbench.model_zoo.base import Segmenter


@defense("trades")
class Trades(nn.Module):
    """TRADES: cross-entropy on clean images plus beta times the KL divergence between clean and attacked predictions.

    The training attack maximises the same divergence, so it needs no labels. It starts from Gaussian noise with
    standard deviation 0.001. The gradient of the divergence reaches both the clean and the attacked prediction.

    Args:
        segmenter: the network to train.
        beta: weight of the divergence ("1 / lambda" in the paper).
        eps: radius of the L_inf ball, in [0, 1] units.
        alpha: size of a step, in [0, 1] units.
        steps: number of attack steps.
        aux_weight: weight of the auxiliary classifier's loss, on clean images.
        ignore_index: label of void pixels; the training loss ignores them in the divergence as well.

    Source: Zhang et al. 2019, eq. 5 and algorithm 1, https://arxiv.org/abs/1901.08573.
    Departs from it in: the divergence is a mean over pixels, because a segmentation has a label per pixel; eps and
        alpha are those of Xu et al. 2021, as in our other defenses, with 5 steps.
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
        """Return images inside the ball, (N, 3, H, W), that maximise the divergence from the clean predictions."""
        seed = stream_seed(generator, "attack")
        noise = torch.randn(images.shape, generator=generator).to(images) * 0.001
        adversarial = project(images + noise, images, "linf", self.eps)
        with guarded(self.segmenter, images.device, seed):
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
    """KL divergence KL(clean || attacked) of every pixel, (N, H, W).

    Args:
        logits: logits of the attacked images, (N, C, H, W).
        masks: unused; attack losses take logits and masks.
        clean_logits: logits of the clean images, (N, C, H, W).
    """
    under_attack = F.log_softmax(logits.float(), 1)
    clean = F.log_softmax(clean_logits.float(), 1)
    return F.kl_div(under_attack, clean, reduction="none", log_target=True).sum(1)
