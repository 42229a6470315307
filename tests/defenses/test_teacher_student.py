from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from segbench.attacks.fgsm import fgsm
from segbench.defenses.base import Dynamic, Wrapped, cross_entropy, segmentation_loss
from segbench.defenses.teacher_student import teacher_student
from segbench.defenses.teacher_student_vote import teacher_student_vote
from segbench.defenses.tools.redundant import distillation, majority
from segbench.model_zoo.base import ModelError
from segbench.model_zoo.pspnet import pspnet

MAKERS = {"teacher-student": teacher_student, "teacher-student-vote": teacher_student_vote}


def logits_of(probabilities: list[float]) -> Tensor:
    return torch.tensor(probabilities).log().view(1, -1, 1, 1)


def test_two_of_three_win_against_the_most_certain() -> None:
    voters = [[0.4, 0.35, 0.25], [0.4, 0.3, 0.3], [0.0001, 0.0001, 0.9998]]
    assert majority([logits_of(p) for p in voters]).argmax(1).item() == 0


def test_a_three_way_tie_goes_to_the_highest_mean_probability() -> None:
    voters = [[0.5, 0.3, 0.2], [0.1, 0.5, 0.4], [0.2, 0.38, 0.42]]
    scores = majority([logits_of(p) for p in voters])
    torch.testing.assert_close(scores.flatten(), torch.tensor([1 + 0.8 / 3, 1 + 1.18 / 3, 1 + 1.02 / 3]))
    assert scores.argmax(1).item() == 1


def test_gradient_of_the_vote_is_that_of_the_mean_probability() -> None:
    voters = [torch.randn(2, 3, 4, 4).requires_grad_() for _ in range(3)]
    weights = torch.randn(2, 3, 4, 4)
    through = torch.autograd.grad((majority(voters) * weights).sum(), voters)
    mean = torch.stack([v.softmax(1) for v in voters]).mean(0).log()
    expected = torch.autograd.grad((mean * weights).sum(), voters)
    for ours, theirs in zip(through, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_distillation_is_zero_at_the_teacher_and_by_hand_elsewhere() -> None:
    target = torch.tensor([0.5, 0.5]).view(1, 2, 1, 1)
    assert distillation(target.log(), target).item() == pytest.approx(0, abs=1e-7)
    student = torch.tensor([0.8, 0.2]).view(1, 2, 1, 1)
    expected = 0.5 * torch.tensor(0.5 / 0.8).log() + 0.5 * torch.tensor(0.5 / 0.2).log()
    assert distillation(student.log(), target).item() == pytest.approx(expected.item())


def test_distillation_does_not_train_the_teacher(segmenter, batch) -> None:
    images, masks = batch
    defense = teacher_student(segmenter)
    defense.loss(images, torch.full_like(masks, 255), torch.Generator()).total.backward()
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in defense.segmenter.parameters())
    assert any(p.grad.abs().sum() > 0 for p in defense.student.parameters())


def test_student_learns_from_labels_and_teacher(segmenter, batch) -> None:
    images, masks = batch
    defense = teacher_student(segmenter).eval()
    losses = defense.loss(images, masks, torch.Generator())
    teacher = segmentation_loss(segmenter, images, masks, aux_weight=0.4, ignore_index=255).total
    labels = cross_entropy(defense.student(images), masks, 255)
    follows = distillation(defense.student(images), segmenter(images).softmax(1))
    torch.testing.assert_close(losses.total, teacher + labels + follows)


def test_student_is_a_second_network_of_the_same_factory(tmp_path: Path) -> None:
    torch.save(pspnet(3, encoder="tiny").trunk.encoder.state_dict(), tmp_path / "encoder.pth")
    for weights in (None, str(tmp_path / "encoder.pth")):
        torch.manual_seed(0)
        teacher, second = (pspnet(3, encoder="tiny", weights=weights) for _ in range(2))
        torch.manual_seed(0)
        defense = teacher_student(pspnet(3, encoder="tiny", weights=weights))
        second.auxiliary = None
        expected, student = second.state_dict(), defense.student.state_dict()
        assert student.keys() == expected.keys()
        assert all(torch.equal(value, student[key]) for key, value in expected.items())
        stem = "trunk.encoder.stem.0.weight"
        assert torch.equal(student[stem], teacher.state_dict()[stem]) is (weights is not None)
        # Initialised as its teacher is: 432 values tell their spread to some per cent.
        assert float(student[stem].std()) == pytest.approx(float(teacher.state_dict()[stem].std()), rel=0.15)


def test_a_network_that_cannot_be_built_again_is_refused(pixel_segmenter) -> None:
    with pytest.raises(ModelError, match="cannot be built a second time"):
        teacher_student(pixel_segmenter)


@pytest.mark.parametrize("name", MAKERS)
def test_adapting_changes_one_network_and_reset_undoes_it(name: str, segmenter, batch) -> None:
    network = MAKERS[name](segmenter).deploy().eval()
    assert isinstance(network, Dynamic)
    assert isinstance(network, Wrapped)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.adapt(batch[0])
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all(key.startswith("adapting.") for key in changed)
    assert not any("running" in key or "num_batches" in key for key in changed)
    network.reset()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_order_of_images_changes_the_answer(segmenter, batch) -> None:
    images, _ = batch
    network = teacher_student(segmenter, lr=0.1).deploy().eval()
    answers = []
    for order in (images, images.flip(0), images):
        network.reset()
        for image in order:
            network.adapt(image[None])
        answers.append(network(images))
    assert not torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def test_adapting_follows_the_teacher_and_leaves_the_static_features(segmenter, batch) -> None:
    images, _ = batch
    network = teacher_student(segmenter, lr=0.1, weight=1.0).deploy().eval()

    def measure() -> tuple[float, float]:
        with torch.no_grad():
            target = network.teacher(images).softmax(1)
            matching = network.inverse_matching(network.adapting.features(images), network.plain.features(images))
            return distillation(network.adapting(images), target).item(), matching.item()

    first_distance, first_matching = measure()
    assert first_matching == pytest.approx(1)
    for _ in range(60):
        network.adapt(images)
    distance, matching = measure()
    assert distance < 0.5 * first_distance
    assert matching < 0.9


def test_adapting_works_under_no_grad_and_leaves_no_gradients(segmenter, batch) -> None:
    network = teacher_student(segmenter).deploy().train().requires_grad_(False)
    before = network.adapting.trunk.last[0].weight.clone()
    with torch.no_grad():
        network.adapt(batch[0])
    assert not torch.equal(network.adapting.trunk.last[0].weight, before)
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())
    assert all(module.training for module in network.modules())


def test_both_attackers_of_the_papers_can_be_run(segmenter, batch) -> None:
    """The one who knows the static student, and the one who attacks through the vote."""
    network = teacher_student_vote(segmenter).deploy().eval()
    oblivious = fgsm(network.plain, *batch, eps=0.1)
    adaptive = fgsm(network, *batch, eps=0.1)
    assert not torch.equal(oblivious, adaptive)
