"""Redundant teacher and students under a majority vote."""

from __future__ import annotations

from segbench.defenses.base import defense
from segbench.defenses.teacher_student import TeacherAndStudent
from segbench.model_zoo.base import Segmenter


@defense("teacher-student-vote")
def teacher_student_vote(
    segmenter: Segmenter,
    *,
    early_weight: float = 0.1,
    main_weight: float = 0.1,
    lr: float = 0.01,
    steps: int = 1,
    aux_weight: float = 0.4,
    ignore_index: int = 255,
) -> TeacherAndStudent:
    """Pixel-wise majority of teacher, student and adapting student, with layer-wise feature matching (dynamic).

    A dynamic defense: its answers depend on the images before, and it costs three networks and their training at
    inference. Compare it with other dynamic defenses only.

    Published: the triple of `teacher-student`, a weight for every layer in inverse feature matching, a majority vote
    of the three.

    Our reconstruction (no equations or code are public): what `teacher-student` reconstructs; two layers (the features
    that the auxiliary classifier sees, and the last) and their weights; where all three disagree, the class of the
    highest mean probability; gradients of the vote are those of the mean probability.

    Args:
        segmenter: the network to train, as teacher.
        early_weight: of inverse feature matching on the features that the auxiliary classifier sees.
        main_weight: of inverse feature matching on the last features.
        lr: step size of the adapting student.
        steps: steps for each batch of incoming images.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Source: Bar et al. 2020, Robust Semantic Segmentation by Redundant Networks With a Layer-Specific Loss Contribution
        and Majority Vote, CVPRW.
    Departs from it in: see above.
    """
    return TeacherAndStudent(
        segmenter,
        vote=True,
        layer_weights={"auxiliary": early_weight, "main": main_weight},
        lr=lr,
        steps=steps,
        aux_weight=aux_weight,
        ignore_index=ignore_index,
    )
