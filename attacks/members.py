"""The members of the standard attack: each spends a number of passes on some of its images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from segbench.attacks.almaprox import almaprox
from segbench.attacks.apgd import auto_pgd, segpgd_losses
from segbench.attacks.cospgd import cospgd_loss
from segbench.attacks.padam import projected_adam
from segbench.attacks.pdpgd import pdpgd
from segbench.attacks.square import square
from segbench.attacks.tools.ascent import ascend, last, random_start
from segbench.attacks.tools.descent import iou_harm, margin_descent, pixel_harm, undirected
from segbench.attacks.tools.keeper import Keeper
from segbench.attacks.tools.losses import LossName, named_loss
from segbench.attacks.tools.noise import Generators

Aim = Literal["pixels", "classes", "called", "left"]
"""What a descent is after: fewer right pixels; or lower IoUs of the classes, whatever the wrong class, or by the class
that a pixel is called, with one IoU for every class ("called") or what the image has left of each ("left")."""
WIDTHS = (3.0, 0.003)
"""Widths of the margin loss of a descent from far."""
NEAR = (0.3, 0.003)
"""The same of a descent that goes on from the best image."""


@dataclass(frozen=True)
class Target:
    """What the members attack.

    Attributes:
        model: network, images -> logits.
        images: clean images, (N, 3, H, W).
        masks: (N, H, W).
        eps: L_inf radius of the balls, in [0, 1] units.
        ignore_index: label of void pixels.
        generator: random generators, one per image.
        keeper: watches the network, and keeps the best images.
        class_pixels: number of training pixels of each class.
    """

    model: nn.Module
    images: Tensor
    masks: Tensor
    eps: float
    ignore_index: int
    generator: Generators
    keeper: Keeper
    class_pixels: Tensor

    def of(self, rows: Tensor) -> tuple[nn.Module, Tensor, Tensor]:
        """Return the network, and images and masks of some rows."""
        return self.model, self.images[rows], self.masks[rows]

    def harm(self, aim: Aim, rows: Tensor) -> Tensor:
        """Return what descents aim at on some rows, (K, C, C); see `tools.descent`."""
        keeper = self.keeper
        if aim == "left":
            return iou_harm(self.class_pixels, keeper.left[rows])
        harms = {"called": keeper.worth, "classes": undirected(keeper.worth), "pixels": pixel_harm(len(keeper.worth))}
        return harms[aim].to(keeper.worth).expand(len(rows), -1, -1)

    def random(self, rows: Tensor) -> Tensor:
        """Return a random start for some rows."""
        generators = [self.generator[row] for row in rows.tolist()]
        _, images, masks = self.of(rows)
        return random_start(images, masks, generators, eps=self.eps, norm="linf", ignore_index=self.ignore_index)


@dataclass(frozen=True)
class Member:
    """A member of the standard attack.

    Attributes:
        name: its name.
        run: function of the target, rows and passes that shows its images to the network, at most once a pass.
        prior: gain that is expected of a pass on an image that was not tried yet; see `standard`.
        share: length of its first round, in units of a round.
        classes: fewest classes of a network that it can attack.
    """

    name: str
    run: Callable[[Target, Tensor, int], Any]
    prior: float
    share: int = 1
    classes: int = 2


def descend(
    target: Target,
    rows: Tensor,
    passes: int,
    *,
    start: str,
    first: float,
    widths: tuple[float, float],
    aim: Aim,
    masked: bool = False,
) -> None:
    """Descend on the margins from random images, or from the best ones by pixels or by harm."""
    keeper = target.keeper
    starts = {
        "random": lambda: target.random(rows),
        "pixels": lambda: keeper.by_pixels[rows],
        "harm": lambda: keeper.by_harm[rows],
    }
    margin_descent(
        *target.of(rows),
        starts[start](),
        target.harm(aim, rows),
        eps=target.eps,
        steps=passes - 1,
        first=first,
        widths=widths,
        masked=masked,
        ignore_index=target.ignore_index,
    )


def _apgd(target: Target, rows: Tensor, passes: int, *, loss: LossName | None) -> None:
    """APGD from the best image; without a loss, with that of SegPGD."""
    void = target.ignore_index
    raised = segpgd_losses(passes - 1, ignore_index=void) if loss is None else named_loss(loss, ignore_index=void)
    start = target.keeper.by_pixels[rows]
    auto_pgd(*target.of(rows), start, raised, eps=target.eps, steps=passes - 1, ignore_index=void)


def _padam(target: Target, rows: Tensor, passes: int) -> None:
    loss = partial(cospgd_loss, ignore_index=target.ignore_index)
    start = target.keeper.by_pixels[rows]
    alpha, void = target.eps / 4, target.ignore_index
    projected_adam(*target.of(rows), start, loss, eps=target.eps, alpha=alpha, steps=passes - 1, ignore_index=void)


def _cospgd(target: Target, rows: Tensor, passes: int) -> None:
    model, images, masks = target.of(rows)
    void = target.ignore_index
    losses = [partial(cospgd_loss, ignore_index=void)] * (passes - 1)
    start = target.random(rows)
    options: dict[str, Any] = {"eps": target.eps, "alpha": target.eps / 4, "norm": "linf", "ignore_index": void}
    reached = last(ascend(model, images, masks, start, losses, **options), start)
    with torch.no_grad():
        model(reached)


def _least(target: Target, rows: Tensor, passes: int, *, attack: Callable[..., Tensor], alpha: float) -> None:
    """Run an attack that minimises the norm; its images count once they are clipped to the ball."""
    model, images, masks = target.of(rows)
    options = {"eps": target.eps, "alpha": alpha, "steps": passes - 1, "ignore_index": target.ignore_index}
    reached = attack(model, images, masks, **options)
    with torch.no_grad():
        model(reached)


def _square(target: Target, rows: Tensor, passes: int) -> None:
    generators = [target.generator[row] for row in rows.tolist()]
    options: dict[str, Any] = {"ignore_index": target.ignore_index, "generator": generators}
    square.function(*target.of(rows), eps=target.eps, queries=passes, **options)


MEMBERS = (
    Member("left", partial(descend, start="harm", first=0.5, widths=NEAR, aim="left"), 2.5e-4, 2),
    Member("classes", partial(descend, start="harm", first=0.5, widths=NEAR, aim="classes"), 3e-4, 2),
    Member("pixels", partial(descend, start="pixels", first=0.5, widths=NEAR, aim="pixels"), 2e-4, 2),
    Member("apgd-segpgd", partial(_apgd, loss=None), 8e-5, 2),
    Member("apgd-masked-ce", partial(_apgd, loss="masked-ce"), 7e-5, 2),
    Member("apgd-js", partial(_apgd, loss="js"), 6e-5, 2),
    Member("padam-cos", _padam, 5e-5, 2),
    Member("restart", partial(descend, start="random", first=2.0, widths=WIDTHS, aim="pixels"), 1e-4, 4),
    Member("cospgd", _cospgd, 4e-5, 2),
    Member("almaprox", partial(_least, attack=almaprox, alpha=0.001), 2e-5, 4, classes=3),
    Member("pdpgd", partial(_least, attack=pdpgd, alpha=0.01), 1e-5, 4),
)
"""Their priors are gains of a pass that were measured on split `dev` of the digits scenes, on three networks of seed 7
(PSPNet without a defense and with TRADES, DeepLabv3 with PGD-AT), which are not among those that
docs/results/standard.md compares attacks on. The prior of "left" is set between those of its neighbours."""
SCORE_BASED = Member("square", _square, 1.0)
