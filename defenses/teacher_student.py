"""Redundant teacher and students, one of which keeps learning at inference."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attacks.base import guarded
from defenses.base import Losses, defense, segmentation_loss
from model_zoo.base import Features, Segmenter


class Redundant(nn.Module):
    """Three networks at inference: a static teacher, a static student, and a student that keeps learning.

    Calling it changes nothing; `adapt` takes a step on incoming images. The adapting student follows the teacher's
    predictions while its features are driven away from the static student's ("inverse feature matching"), so that
    what attacks the static networks meets other features there.

    Args:
        teacher: the teacher.
        student: the static student; the adapting one starts as a copy of it.
        vote: give the pixel-wise majority of the three, not the adapting student.
        layer_weights: weight of inverse feature matching on the trunk's "auxiliary" and "main" features.
        lr: step size of the adapting student.
        steps: steps for each batch of incoming images.
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
        self.layer_weights = dict(layer_weights)
        self.lr = lr
        self.steps = steps

    def forward(self, images: Tensor) -> Tensor:
        """Return the adapting student's logits, or the scores of the vote, (N, C, H, W)."""
        adapting: Tensor = self.adapting(images)
        return majority([self.teacher(images), self.plain(images), adapting]) if self.vote else adapting

    def adapt(self, images: Tensor) -> None:
        """Let the adapting student learn from incoming images; see `defenses.base.Dynamic`."""
        parameters = list(self.adapting.parameters())
        frozen = [parameter for parameter in parameters if not parameter.requires_grad]
        self.adapting.requires_grad_()
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
        """Weighted sum over layers of the mean squared cosine between two networks' features."""
        total = features.main.new_zeros(())
        for layer, weight in self.layer_weights.items():
            ours, theirs = getattr(features, layer), getattr(static, layer)
            if ours is not None and theirs is not None:
                total = total + weight * F.cosine_similarity(ours.float(), theirs.float(), dim=1).square().mean()
        return total

    def reset(self) -> None:
        """Make the adapting student a copy of the static one again."""
        self.adapting.load_state_dict(self.plain.state_dict())


class TeacherAndStudent(nn.Module):
    """Training of a teacher from labels and of a student from the teacher, at the same time.

    Args:
        segmenter: the teacher; the student is a network of the same architecture with weights of its own.
        vote: see `Redundant`.
        layer_weights: see `Redundant`.
        lr: see `Redundant`.
        steps: see `Redundant`.
        aux_weight: weight of the teacher's auxiliary classifier.
        ignore_index: label of void pixels.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        vote: bool,
        layer_weights: Mapping[str, float],
        lr: float,
        steps: int,
        aux_weight: float,
        ignore_index: int,
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.student = copy.deepcopy(segmenter)
        self.student.auxiliary = None
        for module in self.student.modules():
            restart = getattr(module, "reset_parameters", None)
            if restart is not None:
                restart()
        self.vote = vote
        self.layer_weights = layer_weights
        self.lr = lr
        self.steps = steps
        self.aux_weight = aux_weight
        self.ignore_index = ignore_index

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Losses:
        """Return the teacher's loss on labels and the student's on the teacher's predictions.

        See `defenses.base.TrainingDefense`.
        """
        supervised = segmentation_loss(
            self.segmenter, images, masks, aux_weight=self.aux_weight, ignore_index=self.ignore_index
        )
        with guarded(self.segmenter, images.device), torch.no_grad():
            target = F.softmax(self.segmenter(images).float(), 1)
        student = distillation(self.student(images), target)
        return Losses(supervised.total + student, {**supervised.terms, "distillation": student.detach()})

    def deploy(self) -> Redundant:
        """Return the three networks; the adapting student starts as the static one."""
        return Redundant(
            self.segmenter,
            self.student,
            vote=self.vote,
            layer_weights=self.layer_weights,
            lr=self.lr,
            steps=self.steps,
        )


def distillation(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over pixels of the KL divergence from `target` probabilities to the predicted ones, both (N, C, H, W)."""
    pixels = F.kl_div(F.log_softmax(logits.float(), 1), target, reduction="none").sum(1)
    return pixels.mean()


def majority(logits: list[Tensor]) -> Tensor:
    """Votes per class plus the mean probability, which decides ties, (N, C, H, W).

    Votes have no gradient of use: backward, this is the logarithm of the mean probability.

    Args:
        logits: of each voter, (N, C, H, W).
    """
    stacked = torch.stack(logits).float()
    mean = F.softmax(stacked, 2).mean(0)
    votes = F.one_hot(stacked.argmax(2), stacked.shape[2]).sum(0).movedim(-1, 1)
    surrogate = F.log_softmax(stacked, 2).logsumexp(0)
    return surrogate + (votes + mean - surrogate).detach()


@defense("teacher-student")
def teacher_student(
    segmenter: Segmenter,
    *,
    weight: float = 1.0,
    lr: float = 0.01,
    steps: int = 1,
    aux_weight: float = 0.4,
    ignore_index: int = 255,
) -> TeacherAndStudent:
    """Teacher, student, and a student that adapts to the incoming images and alone is asked (dynamic).

    A dynamic defense: its answers depend on the images before, and it costs three networks and their training at
    inference. Compare it with other dynamic defenses only.

    Published: static teacher and student, an adapting student trained online with an inverse feature matching loss,
    attacks on the static networks.

    Our reconstruction (no equations or code are public): all losses. The student is distilled from the teacher's
    probabilities while the teacher still learns, both of one architecture; the adapting student follows the teacher's
    probabilities on incoming images and is driven from the static student's last features by their mean squared
    cosine, by plain gradient steps with batch normalisation fixed.

    Args:
        segmenter: the network to train, as teacher.
        weight: of inverse feature matching.
        lr: step size of the adapting student.
        steps: steps for each batch of incoming images.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Source: Bar et al. 2019, On the Robustness of Redundant Teacher-Student Frameworks for Semantic Segmentation, CVPRW.
    Departs from it in: see above.
    """
    return TeacherAndStudent(
        segmenter,
        vote=False,
        layer_weights={"main": weight},
        lr=lr,
        steps=steps,
        aux_weight=aux_weight,
        ignore_index=ignore_index,
    )
