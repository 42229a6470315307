"""The standard attack: an adaptive ensemble that spends a number of passes where they still pay."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segbench.attacks.base import attack
from segbench.attacks.members import MEMBERS, SCORE_BASED, WIDTHS, Aim, Member, Target, descend
from segbench.attacks.tools.descent import iou_harm
from segbench.attacks.tools.gradient_check import check_gradient
from segbench.attacks.tools.keeper import Keeper
from segbench.attacks.tools.losses import counted_classes
from segbench.attacks.tools.noise import Generators
from segbench.attacks.tools.watch import told_apart, watching

OPENINGS: tuple[tuple[float, Aim, bool], ...] = ((0.25, "called", True), (0.25, "classes", False))
"""The first two descents, which every image gets: share of the passes, aim (see `members.Aim`), only right pixels."""
LEFT = 0.25
"""IoU that the classes are taken to have before it is known what is left of them."""
ROUNDS = 16
"""A round has this part of the passes, times the member's share; it gets longer while the member finds nothing."""
HOLDS = 0.5
"""The gradient is checked on images that keep this share of their right pixels after the opening."""
CHECKED = 200
"""The gradient is checked if an image has this many passes; the check costs 21 to 37 of them."""
FORGETTING = 0.5
"""Weight of the last round in what a member is expected to gain."""
DOUBT = 0.25
"""What is left of that expectation after a round without a gain."""


@attack("standard", version=4, ensemble=True)
def standard(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float = 4 / 255,
    passes: int = 300,
    ignore_index: int = 255,
    generator: Generators = (),
    class_pixels: Tensor | None = None,
) -> dict[str, Tensor]:
    """Standard attack: a budget of passes, spent for each image on the attacks that still lower its worst case.

    Half of the passes go to two descents on the margins, whose loss ends as a count of pixels, each weighed by what it
    is worth for the mean IoU of a set (`tools.descent.iou_harm`). The first one also tells wrong classes apart: a pixel
    that is wrongly called a rare class lowers the IoU of that class more than one that is called a frequent class does.
    It follows right pixels only, as masked cross-entropy does. The rest goes in rounds to the member that is expected
    to gain most on this image: descents that go on from the best image, by mean IoU (one of them with the IoU that this
    image has left of each class) or by right pixels; APGD with the loss of SegPGD, masked cross-entropy and
    Jensen-Shannon divergence; PAdam-Cos; CosPGD; a descent from a random start; PDPGD; ALMAProx. The expectation starts
    from fixed priors and follows what each member gained on the image. A round without a gain makes the member's next
    round twice as long. An image is finished when no pixel of it is right, when its passes are spent, or when every
    member in turn gained nothing since the last gain.

    If the gradient of an image leads nowhere (`tools.gradient_check`), its remaining passes go to the Square attack,
    which needs only logits. Saturated logits are no reason, since the descents follow margins. An attack gets one
    network, so that transfer from other networks is no member: a matrix attacks by `transfer`, and takes it in by
    `worst_of: {any: [standard, transfer]}`.

    The attack keeps three of all images that it looked at inside the ball, which are its parts: "pixels" has the fewest
    right pixels, "classes" does the most harm to the mean IoU of a set, and "image" has the lowest mean IoU over the
    classes of the image and of its prediction. The worst case over a set chooses among them for each image. Decisions
    on an image depend on it alone.

    What holds of every image: by its own score, a part is never above anything that the attack looked at. So "classes"
    is not above a descent of a quarter of the passes from the same start, nor "pixels" above any member for the passes
    that this member got. What does not hold: the attack may end above a member that gets all the passes alone, since it
    spends some on others, and above itself with fewer passes, since all lengths follow from their number.
    docs/results/standard.md says what was measured.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: L_inf radius of the ball, in [0, 1] units.
        passes: largest number of forward passes for each image.
        ignore_index: label of void pixels.
        generator: random generators for the starts and for Square, one per image.
        class_pixels: (C,) number of training pixels of each class; of pixels of the scored split in an evaluation on a
            dataset without a training split. None counts the classes in `masks`, with a warning.

    Source: ours. An ensemble with few settings is the idea of AutoAttack, Croce and Hein 2020,
        https://arxiv.org/abs/2003.01690, and of SEA, Croce et al. 2024, https://arxiv.org/abs/2306.12941. Halmosi et
        al. 2024 showed that different networks fall to different attacks, https://arxiv.org/abs/2407.09150.
    """
    if class_pixels is None:
        class_pixels = counted_classes(masks, "standard", ignore_index=ignore_index)
    parts: dict[str, Tensor] = {}
    for rows in told_apart(images, eps):
        generators = [generator[row] for row in rows.tolist()]
        found = _attacked(model, images[rows], masks[rows], eps, passes, ignore_index, generators, class_pixels)
        for name, made in found.items():
            parts.setdefault(name, images.clone())[rows] = made
    return parts


def _attacked(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    eps: float,
    passes: int,
    ignore_index: int,
    generator: Generators,
    class_pixels: Tensor,
) -> dict[str, Tensor]:
    """Attack images that the keeper tells apart; see `standard`."""
    logits = model(images.detach().requires_grad_())
    harm = iou_harm(class_pixels, torch.full_like(logits[0, :, 0, 0], LEFT, dtype=torch.double))
    keeper = Keeper(images, logits.detach(), masks, harm, ignore_index=ignore_index)
    trusted = torch.full_like(keeper.right, logits.requires_grad, dtype=torch.bool)
    with watching(model, images, norm="linf", eps=eps, see=keeper.see):
        target = Target(model, images, masks, eps, ignore_index, generator, keeper, class_pixels)
        clean = keeper.right.clone()
        for share, aim, masked in OPENINGS:
            rows = ((keeper.right > 0) & trusted).nonzero().flatten()
            length = round(share * passes)
            if len(rows) and length > 1:
                descend(target, rows, length, start="random", first=2.0, widths=WIDTHS, aim=aim, masked=masked)
        if passes >= CHECKED:
            doubtful = (trusted & (keeper.right > HOLDS * clean)).nonzero().flatten()
            trusted[doubtful] &= _checked(target, doubtful)
        _spend(target, trusted, passes)
    return {"pixels": keeper.by_pixels, "classes": keeper.by_harm, "image": keeper.by_iou}


def _checked(target: Target, rows: Tensor) -> Tensor:
    """Return for some images whether their gradient leads somewhere, (K,) bool."""
    if not len(rows):
        return torch.ones_like(rows, dtype=torch.bool)
    found = check_gradient(target.model, target.images[rows], target.masks[rows], ignore_index=target.ignore_index)
    return found.leads


def _spend(target: Target, trusted: Tensor, passes: int) -> None:
    """Spend the passes that are left to each image, a round at a time."""
    keeper = target.keeper
    members = [member for member in MEMBERS if member.classes <= len(keeper.worth)]
    accounts = {
        int(row): _Account(max(passes // ROUNDS, 2), members, bool(trusted[row]))
        for row in (keeper.right > 0).nonzero().flatten()
    }
    while True:
        rounds: dict[tuple[str, int], list[int]] = {}
        for row, account in accounts.items():
            left = passes - int(keeper.passes[row])
            if left > 1 and keeper.right[row] > 0 and not account.exhausted:
                name, length = account.choice(left)
                rounds.setdefault((name, length), []).append(row)
        if not rounds:
            return
        for (name, length), rows in rounds.items():
            chosen = torch.tensor(rows, device=keeper.right.device)
            before = keeper.right[chosen].tolist(), keeper.harm[chosen].tolist()
            member = SCORE_BASED if name == SCORE_BASED.name else next(own for own in MEMBERS if own.name == name)
            member.run(target, chosen, length)
            after = keeper.right[chosen].tolist(), keeper.harm[chosen].tolist()
            for row, *values in zip(rows, *before, *after, strict=True):
                accounts[row].note(name, length, _gain(*values))


def _gain(right: float, harm: float, right_after: float, harm_after: float) -> float:
    """Return the share of right pixels that a round took away, plus the harm that it added."""
    return (right - right_after) / max(right, 1) + harm_after - harm


class _Account:
    """What is expected of each member on one image.

    Args:
        length: passes of a member's first round.
        members: those that need the gradient.
        trusted: the gradient of the image leads somewhere.
    """

    def __init__(self, length: int, members: Sequence[Member], trusted: bool) -> None:
        members = members if trusted else (SCORE_BASED,)
        self.expected = {member.name: member.prior for member in members}
        self.lengths = {member.name: length * member.share for member in members}
        self.idle: set[str] = set()
        self.trusted = trusted

    @property
    def exhausted(self) -> bool:
        """Whether every member gained nothing since the last gain of any."""
        return len(self.idle) == len(self.expected)

    def choice(self, left: int) -> tuple[str, int]:
        """Return the member of the next round, and its passes, at most `left`."""
        waiting = [name for name in self.expected if name not in self.idle]
        name = max(waiting, key=lambda own: self.expected[own])
        length = min(self.lengths[name], left) if self.trusted else left
        return name, left if left - length < 2 else length

    def note(self, name: str, length: int, gain: float) -> None:
        """Learn from a round of a member."""
        if gain > 0:
            self.idle.clear()
            self.expected[name] += FORGETTING * (gain / length - self.expected[name])
        else:
            self.idle.add(name)
            self.expected[name] *= DOUBT
            self.lengths[name] *= 2
