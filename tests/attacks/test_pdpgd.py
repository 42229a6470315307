from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from segbench.attacks.pdpgd import pdpgd
from segbench.attacks.tools.budget import distance


def test_it_fools_the_share_and_comes_near_the_least_change(pixel_linear: Callable[..., Any]) -> None:
    model = pixel_linear(num_classes=2, height=12, width=12, noise=0.02)
    images = 0.49 + 0.02 * torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        logits = model(images)
    masks = logits.argmax(1)
    slope = (model.weight[0] - model.weight[1]).detach().abs().sum(0)
    least = ((logits[:, 0] - logits[:, 1]).abs() / slope).flatten(1)
    share = 0.9
    needed = least.sort(1).values[:, int(share * least.shape[1] + 0.999) - 1].double()
    made = pdpgd(model, images, masks, steps=400, share=share)
    with torch.no_grad():
        wrong = (model(made).argmax(1) != masks).double().flatten(1).mean(1)
    assert (wrong >= share).all()
    used = distance(made, images, "linf")
    assert (used >= 0.9999 * needed).all()
    assert (used <= 1.75 * needed).all(), used / needed
