"""Redundant teacher and student, with a second student that keeps learning at inference."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.attacks.tools.guard import guarded
from segbench.defenses.base import Losses, cross_entropy, defense, segmentation_loss
from segbench.defenses.tools.redundant import Redundant, distillation
from segbench.model_zoo.base import Segmenter


class TeacherAndStudent(nn.Module):
    """Joint training of a teacher on labels, and of a student on labels and the teacher's predictions.

    Args:
        segmenter: the teacher. The student is a second network from the same factory (`Segmenter.rebuild`), without
            its auxiliary classifier.
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
        self.student = segmenter.rebuild()
        self.student.auxiliary = None
        self.vote = vote
        self.layer_weights = layer_weights
        self.lr = lr
        self.steps = steps
        self.aux_weight = aux_weight
        self.ignore_index = ignore_index

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Losses:
        """Return the sum of the teacher's loss on labels and the student's on labels and on the teacher's predictions.

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
        """Return the three networks; the adapting student starts as a copy of the static one."""
        return Redundant(
            self.segmenter,
            self.student,
            vote=self.vote,
            layer_weights=self.layer_weights,
            lr=self.lr,
            steps=self.steps,
        )


@defense("teacher-student", version=2)
def teacher_student(
    segmenter: Segmenter,
    *,
    weight: float = 0.1,
    lr: float = 0.01,
    steps: int = 1,
    aux_weight: float = 0.4,
    ignore_index: int = 255,
) -> TeacherAndStudent:
    """Prediction by a student that adapts to incoming images, next to a static teacher and student (dynamic).

    A dynamic defense: its predictions depend on the images that it has received before. Deployment holds three
    networks. A prediction runs the adapting student only; adapting runs all three and trains one. Compare this defense
    with other dynamic defenses only.

    Published: a static teacher and student, an adapting student that is trained online with an inverse feature matching
    loss, and attacks on the static networks.

    Our reconstruction (no equations or code are public): all losses. Teacher and student are two networks of the same
    architecture, trained at the same time. The student learns from labels and from the teacher's probabilities, with
    weight 1 each. The adapting student learns the teacher's probabilities on incoming images, plus `weight` times the
    mean squared cosine similarity of its last features with those of the static student. It takes plain gradient steps
    in eval mode, so that the statistics of batch normalisation stay fixed.

    Args:
        segmenter: the network to train, as the teacher.
        weight: weight of inverse feature matching.
        lr: step size of the adapting student.
        steps: gradient steps for each batch of incoming images.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Raises:
        ModelError: the network does not know its factory, so that a student cannot be built.

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
