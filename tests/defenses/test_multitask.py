from __future__ import annotations

import pytest
import torch

from segbench.defenses.base import LearnsFromDepth, segmentation_loss
from segbench.defenses.multitask import Multitask, edges, inverse_depth_loss


def test_edges_by_hand() -> None:
    masks = torch.tensor([[[0, 0, 1, 1], [0, 2, 1, 255], [255, 2, 2, 255]]])
    expected = torch.tensor([[[0, 1, 0, 0], [1, 1, 1, 255], [255, 0, 0, 255]]])
    assert torch.equal(edges(masks, 255), expected)


def test_loss_adds_the_mean_of_the_tasks(segmenter, batch) -> None:
    images, masks = batch
    defense = Multitask(segmenter, weight=0.6).eval()
    losses = defense.loss(images, masks, torch.Generator())
    plain = segmentation_loss(segmenter, images, masks, aux_weight=0.4, ignore_index=255).total
    features = segmenter.features(images).main
    rebuilt = segmenter.classify(defense.heads["reconstruction"], features, images)
    found = segmenter.classify(defense.heads["edges"], features, images)
    first = (rebuilt - images).abs().mean()
    second = torch.nn.functional.cross_entropy(found, edges(masks, 255), ignore_index=255)
    torch.testing.assert_close(losses.total, plain + 0.6 / 2 * (first + second))


def test_tasks_are_optional_and_train_the_trunk(segmenter, batch) -> None:
    defense = Multitask(segmenter, tasks=("reconstruction",), weight=1.0)
    assert list(defense.heads) == ["reconstruction"]
    images, masks = batch
    void = torch.full_like(masks, 255)
    defense.loss(images, void, torch.Generator()).total.backward()
    assert segmenter.trunk.encoder[0].weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="at least one of reconstruction, edges, depth"):
        Multitask(segmenter, tasks=())


def test_with_an_attack_the_clean_image_is_rebuilt_from_the_attacked_one(segmenter, batch, spy) -> None:
    images, masks = batch
    defense = Multitask(segmenter, tasks=("reconstruction",), attack=spy.bound).eval()
    losses = defense.loss(images, masks, torch.Generator())
    features = segmenter.features((images + 0.1).clamp(0, 1)).main
    rebuilt = segmenter.classify(defense.heads["reconstruction"], features, images)
    torch.testing.assert_close(losses.terms["reconstruction"], (rebuilt - images).abs().mean().detach())
    assert spy.counts == [4]


def test_inverse_depth_by_hand() -> None:
    # 1 / depth is 1, 0.5 and 0.25 at the known pixels, over their mean 7/12: 12/7, 6/7, 3/7. The second image has none.
    depth = torch.tensor([[[1.0, 2], [4, 0]], [[0, 0], [0, 0]]])
    output = torch.tensor([[[1.0, 1], [1, 9]], [[9, 9], [9, 9]]])
    expected = torch.tensor((5 + 1 + 4) / 7 / 3)
    torch.testing.assert_close(inverse_depth_loss(output, depth), expected)
    torch.testing.assert_close(inverse_depth_loss(output, 1000 * depth), expected)
    assert inverse_depth_loss(output, 0 * depth) == 0


def test_the_depth_task_learns_what_the_dataset_knows(segmenter, batch) -> None:
    images, masks = batch
    defense = Multitask(segmenter, tasks=("edges", "depth"), weight=1.0)
    assert isinstance(defense, LearnsFromDepth)
    assert defense.uses_depth
    assert not Multitask(segmenter).uses_depth
    void, depth = torch.full_like(masks, 255), 1 + images[:, 0]
    losses = defense.loss(images, void, torch.Generator(), depth)
    assert set(losses.terms) == {"main", "auxiliary", "edges", "depth"}
    losses.total.backward()
    assert segmenter.trunk.encoder[0].weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="needs a dataset with depth"):
        defense.loss(images, masks, torch.Generator())
