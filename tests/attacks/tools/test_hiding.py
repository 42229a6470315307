from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from segbench.attacks.tools.hiding import changeable, instances, surroundings


def slow(mask: Tensor, hidden: Tensor) -> Tensor:
    """Every pixel of an object looks at all others: nearest of another class outside of objects, or void."""
    painted = mask.clone()
    height, width = mask.shape
    free = [(r, c) for r in range(height) for c in range(width) if mask[r, c] != 255 and not hidden[r, c]]
    free = free or [(r, c) for r in range(height) for c in range(width) if mask[r, c] != 255]
    for r in range(height):
        for c in range(width):
            if hidden[r, c]:
                others = [((r - i) ** 2 + (c - j) ** 2, int(mask[i, j])) for i, j in free if mask[i, j] != mask[r, c]]
                near = {label for far, label in others if far == min(others)[0]}
                assert not others or len(near) >= 1
                painted[r, c] = min(near) if near else 255
    return painted


def nearest(mask: Tensor, hidden: Tensor, painted: Tensor) -> bool:
    """Whether every painted label is one of the nearest; several may be as near."""
    reference = slow(mask, hidden)
    for r, c in hidden.nonzero().tolist():
        if painted[r, c] == reference[r, c]:
            continue
        free = (mask != 255) & ~hidden if ((mask != 255) & ~hidden).any() else mask != 255
        far = {
            int(mask[i, j]): (r - i) ** 2 + (c - j) ** 2
            for i, j in (free & (mask != mask[r, c])).nonzero().tolist()
            if int(mask[i, j]) in (int(painted[r, c]), int(reference[r, c])) and (r - i) ** 2 + (c - j) ** 2 <= 10**6
        }
        least = {label: 10**6 for label in far}
        for i, j in (free & (mask != mask[r, c])).nonzero().tolist():
            label = int(mask[i, j])
            if label in least:
                least[label] = min(least[label], (r - i) ** 2 + (c - j) ** 2)
        if least[int(painted[r, c])] != least[int(reference[r, c])]:
            return False
    return bool((painted == mask)[~hidden].all())


def test_objects_take_the_nearest_other_class() -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(4, (3, 4, 5), generator=generator)
    masks = coarse.repeat_interleave(3, 1).repeat_interleave(3, 2)
    masks[:, :2, :4] = 255
    for source in (2, None):
        numbers = instances(masks, source)
        painted = surroundings(masks, numbers)
        for mask, own, result in zip(masks, numbers > 0, painted, strict=True):
            assert nearest(mask, own, result)
    assert not (surroundings(masks, instances(masks, 2)) == 2).any()


def test_a_map_names_objects_whatever_their_class(tmp_path: Path) -> None:
    masks = torch.zeros(1, 6, 6, dtype=torch.long)
    masks[:, :, 3:] = 1
    masks[:, 5] = 2
    objects = np.zeros((6, 6), np.uint8)
    objects[1:3, 4:6], objects[4, 0:2] = 255, 7
    Image.fromarray(objects).save(tmp_path / "objects.png")
    numbers = instances(masks, tmp_path / "objects.png")
    assert torch.equal(numbers[0], torch.from_numpy(objects).long())
    painted = surroundings(masks, numbers)
    assert (painted[0, 1:3, 4:6] == 0).all()
    assert (painted[0, 4, 0:2] == 2).all()
    assert torch.equal(painted[numbers == 0], masks[numbers == 0])


def test_nothing_around_means_void() -> None:
    masks = torch.ones(1, 4, 4, dtype=torch.long)
    assert (surroundings(masks, instances(masks, 1)) == 255).all()
    assert torch.equal(surroundings(masks, instances(masks, 3)), masks)


def test_void_belongs_to_no_object_and_is_never_taken() -> None:
    masks = torch.full((1, 3, 7), 9)
    masks[:, :, 3], masks[:, :, 6] = 1, 0
    for void in (9, 255):
        own = masks.where(masks != 9, void)
        numbers = instances(own, None, ignore_index=void)
        assert (numbers[own == void] == 0).all()
        painted = surroundings(own, numbers, ignore_index=void)
        assert (painted[0, :, 3] == 0).all()
        assert (painted[own == void] == void).all()


def test_regions() -> None:
    masks = torch.zeros(2, 4, 6, dtype=torch.long)
    masks[:, 1:3, 1:3] = 1
    masks[0, 0, 0] = 255
    numbers = instances(masks, 1)
    assert changeable(masks, numbers, "all").all()
    assert torch.equal(changeable(masks, numbers, "object"), masks == 1)
    assert torch.equal(changeable(masks, numbers, "surroundings"), masks != 1)
    half = torch.zeros(2, 3, dtype=torch.long)
    half[:, 0] = 255
    allowed = changeable(masks, numbers, half)
    assert allowed[:, :, :2].all()
    assert not allowed[:, :, 2:].any()
