"""Redundant teacher and students with a majority vote."""

from __future__ import annotations

from segbench.defenses.base import defense
from segbench.defenses.teacher_student import TeacherAndStudent
from segbench.model_zoo.base import Segmenter


@defense("teacher-student-vote", version=2)
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
    """Majority vote per pixel of a teacher, a student and a student that adapts at inference (dynamic).

    A dynamic defense: its predictions depend on the images that it has received before. A prediction runs three
    networks; adapting runs all three and trains one. Compare this defense with other dynamic defenses only.

    Published: the three networks of `teacher-student`, inverse feature matching with a weight per layer, and the
    majority vote of the three networks.

    Our reconstruction (no equations or code are public): everything that `teacher-student` reconstructs; inverse
    feature matching on two layers (the input of the auxiliary classifier, and the last features) and its weights; if
    all three networks disagree, the class with the highest mean probability; in the backward pass, the gradient of the
    log of the mean probability in place of the vote's.

    Args:
        segmenter: the network to train, as the teacher.
        early_weight: weight of inverse feature matching on the features that the auxiliary classifier receives.
        main_weight: weight of inverse feature matching on the last features.
        lr: step size of the adapting student.
        steps: gradient steps for each batch of incoming images.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Raises:
        ModelError: the network does not know its factory, so that a student cannot be built.

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
