"""Redundant networks: a teacher, a student and a student that adapts at inference, with an optional vote."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.attacks.tools.guard import guarded
from segbench.model_zoo.base import Features, Segmenter


class Redundant(nn.Module):
    """Three networks at inference: a static teacher, a static student, and a student that keeps learning.

    Only `adapt` changes the networks. The adapting student learns to predict like the teacher while its features move
    away from those of the static student ("inverse feature matching"), so that an attack on the static networks
    transfers less to it.

    Args:
        teacher: the teacher.
        student: the static student; the adapting student starts as a copy of it.
        vote: predict by the majority of the three networks at each pixel, not by the adapting student alone.
        layer_weights: weight of inverse feature matching for the trunk's "auxiliary" and "main" features.
        lr: step size of the adapting student.
        steps: gradient steps for each batch of incoming images.
    """

    def __init__(
        self,
        teacher: Segmenter,
        student: Segmenter,
        *,
        vote: bool,
        layer_weights: Mapping[str, float],
        lr: float,
        steps: int,
    ) -> None:
        super().__init__()
        self.teacher = teacher
        self.plain = student
        self.adapting = copy.deepcopy(student)
        self.vote = vote
        self.has_confidence = not vote
        self.layer_weights = dict(layer_weights)
        self.lr = lr
        self.steps = steps

    def forward(self, images: Tensor) -> Tensor:
        """Return the adapting student's logits, or the scores of the vote, (N, C, H, W)."""
        adapting: Tensor = self.adapting(images)
        return majority([self.teacher(images), self.plain(images), adapting]) if self.vote else adapting

    def adapt(self, images: Tensor) -> None:
        """Train the adapting student on incoming images; see `defenses.base.Dynamic`."""
        parameters = list(self.adapting.parameters())
        frozen = [parameter for parameter in parameters if not parameter.requires_grad]
        self.adapting.requires_grad_()
        images = images.contiguous()  # the order of the weights decides; see `model_zoo.layout`
        with guarded(self, images.device):
            with torch.no_grad():
                target = F.softmax(self.teacher(images).float(), 1)
                static = self.plain.features(images)
            for _ in range(self.steps):
                features = self.adapting.features(images)
                logits = self.adapting.classify(self.adapting.classifier, features.main, images)
                loss = distillation(logits, target) + self.inverse_matching(features, static)
                gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
                with torch.no_grad():
                    for parameter, gradient in zip(parameters, gradients, strict=True):
                        if gradient is not None:
                            parameter.sub_(self.lr * gradient)
        for parameter in frozen:
            parameter.requires_grad_(False)

    def inverse_matching(self, features: Features, static: Features) -> Tensor:
        """Return the weighted sum over layers of the mean squared cosine similarity between two networks' features."""
        total = features.main.new_zeros(())
        for layer, weight in self.layer_weights.items():
            ours, theirs = getattr(features, layer), getattr(static, layer)
            if ours is not None and theirs is not None:
                total = total + weight * F.cosine_similarity(ours.float(), theirs.float(), dim=1).square().mean()
        return total

    def reset(self) -> None:
        """Reset the adapting student to a copy of the static student."""
        self.adapting.load_state_dict(self.plain.state_dict())


def distillation(logits: Tensor, target: Tensor) -> Tensor:
    """KL divergence KL(target || prediction), mean over pixels.

    Args:
        logits: logits of the student, (N, C, H, W).
        target: probabilities of the teacher, (N, C, H, W).
    """
    pixels = F.kl_div(F.log_softmax(logits.float(), 1), target, reduction="none").sum(1)
    return pixels.mean()


def majority(logits: list[Tensor]) -> Tensor:
    """Return the number of votes per class plus the mean probability, which decides ties, (N, C, H, W).

    The gradient of votes is zero, so the backward pass uses the gradient of the logarithm of the mean probability.

    Args:
        logits: logits of each voter, each (N, C, H, W).
    """
    stacked = torch.stack(logits).float()
    mean = F.softmax(stacked, 2).mean(0)
    votes = torch.zeros_like(mean)
    for own in stacked:
        votes.scatter_add_(1, own.argmax(1, keepdim=True), torch.ones_like(votes[:, :1]))
    surrogate = F.log_softmax(stacked, 2).logsumexp(0)
    return surrogate + (votes + mean - surrogate).detach()
