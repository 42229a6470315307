"""The decision-based attack: what it reads, and how near it comes to the best that there is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from segbench.attacks.base import Attack
from segbench.attacks.label_square import label_square
from segbench.attacks.tools.budget import distance
from segbench.components import catalog

EPS = 0.05
GREY = torch.full((2, 3, 6, 5), 0.5)
TRUE = torch.zeros(2, 6, 5, dtype=torch.long)
LABELS_ONLY = [c.object for c in catalog.components("attack").values() if c.object.access == "labels"]


class Separate(nn.Module):
    """A pixel is wrong as soon as the sum of its change over the channels exceeds its own margin."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("margins", 0.02 + 0.2 * torch.rand(6, 5, generator=torch.Generator().manual_seed(0)))
        self.margins: Tensor

    def forward(self, images: Tensor) -> Tensor:
        moved = (images - 0.5).sum(1)
        return torch.stack([self.margins - moved, torch.zeros_like(moved)], 1)


def wrong(model: nn.Module, images: Tensor) -> list[int]:
    found: list[int] = (model(images).argmax(1) != TRUE).flatten(1).sum(1).tolist()
    return found


def test_it_reaches_the_linf_optimum() -> None:
    model = Separate()
    best = int((model.margins < 3 * EPS).sum())
    assert wrong(model, label_square(model, GREY, TRUE, eps=EPS, steps=3000)) == [best, best]


def test_it_comes_near_the_l2_optimum() -> None:
    # A pixel costs its margin over the square root of 3, and the ball is spent on the cheapest pixels first.
    model, eps = Separate(), 0.2
    costs = (model.margins / 3**0.5).flatten().sort().values ** 2
    best = int((costs.cumsum(0) <= eps**2).sum())
    made = label_square(model, GREY, TRUE, norm="l2", eps=eps, steps=2000)
    for found in wrong(model, made):
        assert 0.6 * best <= found <= best
    assert (distance(made, GREY, "l2") <= eps + 1e-6).all()


def test_more_queries_never_leave_more_pixels_correct() -> None:
    model = Separate()
    at = label_square.iterates({1, 5, 25, 125}, model, GREY, TRUE, eps=0.04, steps=125)
    counts = [wrong(model, at[steps]) for steps in sorted(at)]
    assert counts == sorted(counts)
    assert torch.equal(at[25], label_square(model, GREY, TRUE, eps=0.04, steps=25))


@pytest.mark.parametrize("attack", LABELS_ONLY, ids=lambda attack: attack.name)
def test_an_attack_by_labels_reads_nothing_else(attack: Attack[...], task: object) -> None:
    class Labels(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Tensor) -> Tensor:
            logits = self.model(images)
            return one_hot(logits.argmax(1), logits.shape[1]).permute(0, 3, 1, 2).to(images)

    model, images, masks = task  # type: ignore[misc]
    bound = attack.bind(steps=30)
    made = bound(model, images, masks, generator=torch.Generator().manual_seed(0))
    again = bound(Labels(model), images, masks, generator=torch.Generator().manual_seed(0))
    assert torch.equal(made, again)
