from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from segbench.attacks.tools.descent import iou_harm
from segbench.attacks.tools.keeper import Keeper
from segbench.attacks.tools.watch import Candidates, told_apart, watching

VOID = 255


class Grey(nn.Module):
    """Two classes: dark and bright pixels."""

    def forward(self, images: Tensor) -> Tensor:
        grey = images.mean(1) - 0.5
        return torch.stack([-grey, grey], 1)


def test_rows_belong_to_the_nearest_image_and_say_whether_they_keep_the_budget() -> None:
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    seen: list[Candidates] = []
    network = Grey()
    noise = 0.02 * torch.ones_like(images)
    rows = torch.stack([images[2] + noise[2], images[0] - 3 * noise[0], images[3]])
    with watching(network, images, norm="linf", eps=0.03, see=seen.append):
        network(rows)
        network(images[:, :, :4])  # another size: not shown
    network(rows)  # after the context: not shown
    (found,) = seen
    assert found.own.tolist() == [2, 0, 3]
    assert found.inside.tolist() == [True, False, True]
    assert torch.equal(found.logits, network(rows))


def test_images_are_told_apart_where_no_change_can_confuse_them() -> None:
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images[2] = images[0]
    images[4] = (images[0] + 0.05).clamp(0, 1)
    assert [part.tolist() for part in told_apart(images, 0.02)] == [[0, 1, 3, 4], [2]]
    assert [part.tolist() for part in told_apart(images, 0.03)] == [[0, 1, 3], [2], [4]]
    assert [part.tolist() for part in told_apart(images[1:2], 0.03)] == [[0]]


def test_the_keeper_keeps_the_best_candidate_inside_the_ball_and_counts_every_pass() -> None:
    images = torch.full((2, 3, 2, 2), 0.49)
    images[1] = 0.2
    masks = torch.zeros(2, 2, 2, dtype=torch.long)
    masks[1, 0] = VOID
    network, harm = Grey(), iou_harm(torch.tensor([3, 1]), torch.full((2,), 0.25))
    keeper = Keeper(images, network(images), masks, harm, ignore_index=VOID)
    half = images[:1].clone()
    half[0, :, 0] += 0.02
    with watching(network, images, norm="linf", eps=0.03, see=keeper.see):
        network(half)  # half of the pixels of the first image are wrong
        network(images[:1] + 0.2)  # all are, outside the ball
        network(images[:1])
    assert keeper.passes.tolist() == [4, 1]
    assert keeper.right.tolist() == [2, 2]
    assert torch.equal(keeper.by_pixels, torch.cat([half, images[1:]]))
    assert torch.equal(keeper.by_harm, keeper.by_pixels)
    assert torch.equal(keeper.by_iou, keeper.by_pixels)
    assert keeper.iou.tolist() == [0.25, 1.0]
    assert keeper.left.tolist() == [[0.5, 0.5], [1.0, 1.0]]
    # A pixel that is called the rarer class does 0.25 of that class's worth, which is 3 times that of a right pixel.
    assert keeper.harm.tolist() == pytest.approx([-0.5 + 0.5 * 0.25 * 3, -1.0])


def test_the_ious_of_an_image_are_those_of_a_slow_loop() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(5, 4, 6, 7, generator=generator)
    masks = torch.randint(3, (5, 6, 7), generator=generator)  # one class is in no mask
    masks[torch.rand(masks.shape, generator=generator) < 0.2] = VOID
    masks[4] = VOID
    means, left = [], []
    for preds, labels in zip(logits.argmax(1), masks, strict=True):
        valid = labels != VOID
        ious = {}
        for label in torch.cat([labels[valid], preds[valid]]).unique().tolist():
            true, predicted = labels == label, (preds == label) & (labels != VOID)
            ious[label] = float((true & predicted).sum() / (true | predicted).sum())
        means.append(sum(ious.values()) / max(len(ious), 1))
        known = {label: iou for label, iou in ious.items() if (labels == label).any()}
        left.append([known.get(label, sum(known.values()) / max(len(known), 1)) for label in range(4)])
    harm = iou_harm(torch.ones(4), torch.full((4,), 0.25))
    keeper = Keeper(torch.rand(5, 3, 6, 7), logits, masks, harm, ignore_index=VOID)
    assert torch.allclose(keeper.iou, torch.tensor(means, dtype=torch.double), atol=1e-6)
    assert torch.allclose(keeper.left, torch.tensor(left, dtype=torch.double), atol=1e-6)
