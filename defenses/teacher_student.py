"""Redundant teacher and students, one of which keeps learning at inference."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.attacks.tools.guard import guarded
from segbench.defenses.base import Losses, cross_entropy, defense, segmentation_loss
from segbench.defenses.tools.redundant import Redundant, distillation
from segbench.model_zoo.base import Segmenter


class TeacherAndStudent(nn.Module):
    """Training of a teacher from labels and of a student from labels and teacher, at the same time.

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
        """Return the teacher's loss on labels and the student's on labels and the teacher's predictions.

        See `defenses.base.TrainingDefense`.
        """
        supervised = segmentation_loss(
            self.segmenter, images, masks, aux_weight=self.aux_weight, ignore_index=self.ignore_index
        )
        with guarded(self.segmenter, images.device), torch.no_grad():
            target = F.softmax(self.segmenter(images).float(), 1)
        logits = self.student(images)
        student = cross_entropy(logits, masks, self.ignore_index)
        distilled = distillation(logits, target)
        terms = {**supervised.terms, "student": student.detach(), "distillation": distilled.detach()}
        return Losses(supervised.total + student + distilled, terms)

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


@defense("teacher-student")
def teacher_student(
    segmenter: Segmenter,
    *,
    weight: float = 0.1,
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

    Our reconstruction (no equations or code are public): all losses. The student learns from labels and from the
    teacher's probabilities (weight 1 each) while the teacher still learns, both of one architecture; the adapting
    student follows the teacher's probabilities on incoming images and is driven from the static student's last
    features by their mean squared cosine, by plain gradient steps with batch normalisation fixed.

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
