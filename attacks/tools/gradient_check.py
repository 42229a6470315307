"""Is the input gradient of a network to be trusted? Comparing it with what the network does tells, image by image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segbench.attacks.tools.guard import guarded
from segbench.attacks.tools.losses import cross_entropy, image_mean, known_classes, logit_scale, margin, predicted

STEP = 1 / 255
"""Size of the steps along the gradient's sign, in [0, 1] units."""
FINE = 0.6 / 255
"""Size of the steps along random directions, in [0, 1] units: small, so that curvature has little part in them."""
TINY = FINE / 20
"""Size of a step that hardly changes a continuous network, in [0, 1] units."""
MOVED = 4.37 / 255
"""How far the second point of the check lies from each image, per value: off the grid of 8-bit images."""
PASSES = 21
"""Passes forward (17) and backward (4) that the check costs for each image, where nothing is doubtful."""

# In brackets: what honest networks measured, of several architectures, defenses and precisions.
RISE = 0.4
"""A rise below this share of the predicted one accuses (0.5 to 1.1)."""
OVERSHOOT = (1.6, 8.0)
"""A rise above this multiple of the predicted one accuses: of a smooth network (1.1), of any other (4)."""
MISMATCH = 0.4
"""A mismatch above this accuses a smooth network (0 to 0.3)."""
DOUBTFUL = 0.2
"""A mismatch above this in few directions is measured in more of them."""
DIRECTIONS, MORE = 2, 4
"""Random directions at each of the two points: at first, and further ones in doubt."""
UNEVEN = 20.0
"""A ratio above this accuses (1 to 2; JPEG 3, a mask of hard blocks 8)."""
DEAD = 0.3
"""An effect above this of values without a gradient accuses (0 to 0.1)."""
FEW = 0.02
"""A share of values without a gradient below this has no effect to speak of."""
SMOOTH = (0.035, 0.08)
"""The jump of a smooth network: 1/20, up to its curvature."""
JUMP, JUMP_SIZE = 0.5, 0.01
"""A jump above both accuses (in bfloat16 0.5 and 0.004)."""
DIFFERENCE = 1e-4
"""A difference between two passes of the same images above this accuses."""
BACKWARD = 0.01
"""A difference between two gradients of the same images above this accuses."""
SATURATED = 0.15
"""A share of right pixels at the largest margin above this accuses (0 to 0.02)."""
ZERO_LOSS = 0.9
"""A share of right pixels without a loss above this accuses (0 to 0.1; with logits ten times as large 0.86)."""
GAP = 0.01
"""A mean gap between the two highest logits below this accuses (5 to 15; of untrained networks 0.1)."""

STRIP = 1 << 22
"""Values that are added up at once."""

OF_CROSS_ENTROPY = ("saturated-logits", "zero-loss", "scale-dependent")
"""Doubts that say nothing against a loss which takes margins as shares of the image's own."""


@dataclass(frozen=True)
class GradientCheck:
    """What was measured on each image, (N,) each, and the logits.

    Logits of classes that the network does not know, such as -1e4, have no part in the sizes of changes (see
    `losses.known_classes`).

    Attributes:
        zero: share of the input values whose gradient of the cross-entropy is exactly zero or not finite.
        dead: change of the logits by moving the values whose gradient is zero, over that by moving all.
        rise: rise of the loss by a step along the sign of the gradient, over the rise that the gradient predicts; the
            lower one of the image and a point near it.
        overshoot: the higher one.
        mismatch: squared difference between measured and predicted rises along random directions, over the sum of their
            squares: 0 where they agree, 1 where they have nothing in common.
        uneven: largest ratio of the changes of the logits by a step along a random direction and by the opposite step.
        forward: largest difference between two forward passes, over the largest logit.
        unseen: the same between a pass that takes gradients and one that does not.
        backward: norm of the difference between two input gradients, over their mean norm.
        jump: change of the logits by a tiny step, over that by a step 20 times as large.
        jump_size: change of the logits by the tiny step, over their spread.
        saturated: share of the right pixels whose margin is the image's largest, within 1 %, or whose highest logit is
            exactly the image's largest; 0 where the network calls the whole image one class.
        zero_loss: share of the right pixels whose cross-entropy is exactly zero.
        gap: mean gap between the two highest logits of a pixel.
        logits: (N, C, H, W), of the first pass.
    """

    zero: Tensor
    dead: Tensor
    rise: Tensor
    overshoot: Tensor
    mismatch: Tensor
    uneven: Tensor
    forward: Tensor
    unseen: Tensor
    backward: Tensor
    jump: Tensor
    jump_size: Tensor
    saturated: Tensor
    zero_loss: Tensor
    gap: Tensor
    logits: Tensor

    @property
    def doubts(self) -> dict[str, Tensor]:
        """What speaks against the gradient of each image: the name of a flag of reports -> (N,) bool."""
        smooth = _is_smooth(self.jump)
        highest = torch.where(smooth, *OVERSHOOT)
        noisy = self.forward > DIFFERENCE
        return {
            "zero-gradient": self.zero == 1,
            "partial-gradient": self.dead > DEAD,
            "wrong-gradient": (self.rise < RISE) | (self.overshoot > highest) | (smooth & (self.mismatch > MISMATCH)),
            "non-deterministic": noisy | (self.backward > BACKWARD),
            "two-faced": ~noisy & (self.unseen > DIFFERENCE),
            "jumps": ((self.jump > JUMP) & (self.jump_size > JUMP_SIZE)) | (self.uneven > UNEVEN),
            "saturated-logits": self.saturated > SATURATED,
            "zero-loss": self.zero_loss > ZERO_LOSS,
            "scale-dependent": self.gap < GAP,
        }

    @property
    def trusted(self) -> Tensor:
        """Whether nothing speaks against the gradient of an image, (N,) bool."""
        return ~torch.stack(list(self.doubts.values())).any(0)

    @property
    def leads(self) -> Tensor:
        """Whether margins of the logits give a gradient that leads somewhere, (N,) bool.

        Their scale and their saturation speak against the cross-entropy alone.
        """
        against = [found for name, found in self.doubts.items() if name not in OF_CROSS_ENTROPY]
        return ~torch.stack(against).any(0)


def check_gradient(model: nn.Module, images: Tensor, masks: Tensor, *, ignore_index: int = 255) -> GradientCheck:
    """Compare the input gradient of each image with finite differences, and the network with itself.

    It costs `PASSES` passes for each image, and 2 more where its gradient is zero in part. An image
    without a valid pixel has no gradient, so that nothing is said about it: it is never trusted.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        ignore_index: label of void pixels.
    """
    with guarded(model, images.device, 0):
        return _checked(model, images.detach(), masks, ignore_index)


def _checked(model: nn.Module, images: Tensor, masks: Tensor, void: int) -> GradientCheck:
    signs = [_signs(images, seed) for seed in range(1 + DIRECTIONS + MORE)]
    moved = (images + MOVED * signs[0] * (1 - 0.1 * _ramp(images))).clamp(0, 1)
    first, plain, slope = _gradients(model, images, masks, void, (False, True))
    logits_moved, slope_moved = _gradients(model, moved, masks, void, (True,))
    scale = logit_scale(first, masks, ignore_index=void)
    points = ((images, slope, first), (moved, slope_moved, logits_moved))

    @torch.no_grad()
    def rises(place: int, direction: Tensor, size: float, rows: Tensor) -> tuple[Tensor, ...]:
        """Return the measured and the predicted rise of the loss from one side of a point to the other.

        And how far the logits move to either side.
        """
        at, gradient, logits = (values[rows] for values in points[place])
        sides = [(at + side * size * direction).clamp(0, 1) for side in (1, -1)]
        losses, moves = [], []
        for side in sides:
            found = model(side)
            moves.append(_norm(found - logits))
            found = found / scale[rows]
            values = cross_entropy(found, masks[rows], ignore_index=void).double()
            losses.append(image_mean(values, masks[rows], ignore_index=void))
        expected = ((sides[0] - sides[1]) * gradient).double().flatten(1).sum(1)
        return losses[0] - losses[1], expected, *moves

    def at_random(directions: list[Tensor], rows: Tensor) -> list[Tensor]:
        found = [rises(place, direction, FINE, rows) for place in range(2) for direction in directions]
        return [torch.stack(values) for values in zip(*found, strict=True)]

    every = torch.arange(len(images), device=images.device)
    ratios = torch.stack([_over(*rises(n, point[1].sign(), STEP, every)[:2]) for n, point in enumerate(points)])
    measured, expected, above, below = at_random(signs[1 : 1 + DIRECTIONS], every)
    # Of large images with many classes, logits take gigabytes: no more of them are kept than have to be.
    known = known_classes(first)
    with torch.no_grad():
        unseen = _difference(first, model(images), known)
        changes = [_norm(model((moved + TINY * signs[1]).clamp(0, 1)) - logits_moved), above[DIRECTIONS]]
    jump, mismatch = _over(*changes), _mismatch(measured, expected)
    doubtful = (_is_smooth(jump) & (mismatch > DOUBTFUL)).nonzero().flatten()
    if len(doubtful):
        more = at_random(signs[1 + DIRECTIONS :], doubtful)[:2]
        both = (torch.cat([values[:, doubtful], own]) for values, own in zip((measured, expected), more, strict=True))
        mismatch[doubtful] = _mismatch(*both)
    # The last pass, as far as can be from the first: what a network counts or reads off a clock has changed by then.
    second, plain_again = _gradients(model, images, masks, void, (False,))
    forward = _difference(first, second, known)
    del second
    shown = torch.where(known[:, :, None, None], first, 0)
    spread = _norm(shown - shown.mean((1, 2, 3), keepdim=True)).clamp_min(1e-30)
    del shown
    right = (predicted(first) == masks) & (masks != void)
    no_loss = cross_entropy(first, masks, ignore_index=void) == 0
    return GradientCheck(
        zero=torch.stack([(gradient == 0).flatten(1).double().mean(1) for gradient in (plain, slope_moved)]).amax(0),
        dead=_dead(model, moved, logits_moved, slope_moved == 0, signs[1], masks != void),
        rise=ratios.amin(0),
        overshoot=ratios.amax(0),
        mismatch=mismatch,
        forward=forward,
        unseen=unseen,
        backward=_apart(plain, plain_again),
        jump=jump,
        jump_size=changes[0] / spread,
        uneven=_over(torch.maximum(above, below), torch.minimum(above, below)).amax(0),
        saturated=_saturated(first, masks, right, no_loss, void),
        zero_loss=_share(no_loss & right, right),
        gap=scale.flatten(),
        logits=first,
    )


def _saturated(logits: Tensor, masks: Tensor, right: Tensor, no_loss: Tensor, void: int) -> Tensor:
    """Return the share of right pixels that a squashing or cutting function seems to hold; see `GradientCheck`."""
    margins = margin(logits, masks, ignore_index=void)
    highest, called = logits.max(1)
    full, most = (values.flatten(1).amax(1).view(-1, 1, 1) for values in (margins, highest))
    several = (called != called[:, :1, :1]).flatten(1).any(1)
    return several * _share(((margins >= 0.99 * full) | ((highest == most) & ~no_loss)) & right, right)


def _gradients(
    model: nn.Module, images: Tensor, masks: Tensor, void: int, rescaled: tuple[bool, ...]
) -> tuple[Tensor, ...]:
    """Return the logits and input gradients of their cross-entropy, of the logits as they are or over their gap.

    Over their gap it does not saturate, so that a network's confidence does not decide on how the loss curves.
    """
    at = images.detach().requires_grad_()
    logits = model(at)
    found = []
    for place, is_rescaled in enumerate(rescaled):
        shown = logits / logit_scale(logits, masks, ignore_index=void) if is_rescaled else logits
        losses = image_mean(cross_entropy(shown, masks, ignore_index=void), masks, ignore_index=void)
        gradient = None
        if losses.requires_grad:
            more = place + 1 < len(rescaled)
            (gradient,) = torch.autograd.grad(losses.sum(), at, retain_graph=more, allow_unused=True)
        found.append(torch.zeros_like(images) if gradient is None else gradient.detach().nan_to_num(0, 0, 0))
    return logits.detach(), *found


def _signs(images: Tensor, seed: int) -> Tensor:
    """Return a random sign for every value, the same for every image, (1, 3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(2, (1, *images.shape[1:]), generator=generator) * 2.0 - 1).to(images)


def _ramp(images: Tensor) -> Tensor:
    """Return different values in [0, 1) for neighbours, so that equal ones become unequal, (1, 1, H, W)."""
    rows, columns = (torch.arange(size, device=images.device) for size in images.shape[2:])
    return ((7 * rows.view(-1, 1) + 3 * columns) % 16).to(images)[None, None] / 16


@torch.no_grad()
def _dead(model: nn.Module, at: Tensor, logits: Tensor, zero: Tensor, direction: Tensor, valid: Tensor) -> Tensor:
    """Return the effect of values whose gradient is zero, relative to that of all; 0 where hardly any is zero."""
    many = zero.flatten(1).double().mean(1) > FEW
    if not many.any():
        return torch.zeros_like(many, dtype=torch.float64)
    moved = [model((at + TINY * direction * part).clamp(0, 1)) for part in (zero, torch.ones_like(zero))]
    return many * _over(*(_norm((after - logits) * valid.unsqueeze(1)) for after in moved))


def _difference(one: Tensor, other: Tensor, known: Tensor) -> Tensor:
    """Return the largest difference of logits, over the largest logit, of the classes that are known, (N,)."""
    apart, largest = (values.abs().amax((2, 3)).masked_fill(~known, 0).amax(1) for values in (one - other, one))
    return apart / largest.clamp_min(1e-30)


def _apart(one: Tensor, other: Tensor) -> Tensor:
    apart, first, second = (_norm(values) for values in (one - other, one, other))
    return 2 * apart / (first + second).clamp_min(1e-30)


def _norm(values: Tensor) -> Tensor:
    # In strips: a second copy of all logits in float64 would be gigabytes for large images with many classes.
    strips = torch.split(values.flatten(1), STRIP, 1)
    return torch.stack([strip.double().square().sum(1) for strip in strips]).sum(0).sqrt()


def _is_smooth(jump: Tensor) -> Tensor:
    return (jump > SMOOTH[0]) & (jump < SMOOTH[1])


def _mismatch(measured: Tensor, expected: Tensor) -> Tensor:
    """Return the squared difference of rises (K, N), over the sum of their squares, (N,)."""
    return _over((measured - expected).square().sum(0), (measured.square() + expected.square()).sum(0))


def _over(above: Tensor, below: Tensor) -> Tensor:
    """Return a ratio; 0 where nothing is below."""
    return torch.where(below != 0, above / torch.where(below != 0, below, 1), 0)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return part.flatten(1).sum(1) / whole.flatten(1).sum(1).clamp_min(1)
