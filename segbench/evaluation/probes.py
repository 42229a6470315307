"""Measurements of a network that tell whether gradient attacks on it mean anything; see `segbench.reports.sanity`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from segbench.attacks.bim import bim
from segbench.attacks.cw import cw
from segbench.attacks.tools.gradient_check import PASSES, GradientCheck, check_gradient
from segbench.attacks.tools.guard import guarded
from segbench.attacks.tools.losses import known_classes, predicted, right_pixels
from segbench.attacks.tools.passes import Passes, count_passes
from segbench.evaluation.tally import confusion
from segbench.memory import in_parts
from segbench.networks.load import at_places, same_answers
from segbench.reports.evidence import Measurements
from segbench.reports.sanity import LARGE_EPS
from segbench.reports.statistics import mean_iou

SHARE = 0.25
"""Largest share of an evaluation's passes that its probes cost, where one image allows."""
IMAGES = 2
"""Images whose gradient is checked, as far as the passes suffice."""
SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Factors of the logits under which BIM is compared."""
EPS, ALPHA, STEPS = 0.03, 0.01, 3
"""Of that BIM."""
LARGE_STEPS, LARGE_ALPHA = 20, 0.2
"""Of C&W at a large eps."""
LEARNT = 5.0
"""Points of mIoU by which a network must be better on an image than on a grey one for C&W at a large eps to count."""
LEAST = PASSES + 3
"""Passes that are spent at least."""
MOST = IMAGES * (PASSES + 2) + 3 + len(SCALES) * (2 * STEPS + 1) + 2 * LARGE_STEPS + 3
"""Passes that are spent at most."""


class Scaled(nn.Module):
    """A network whose logits are multiplied by a constant: it predicts the same.

    Args:
        model: images -> logits.
        factor: the constant, above 0.
    """

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model = model
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        """Return the scaled logits."""
        logits: Tensor = self.model(images)
        return logits * self.factor


def allowance(evaluation: int) -> int:
    """Return how many passes the probes of an evaluation may take.

    Args:
        evaluation: passes of the evaluation, forward and backward together, in images.
    """
    return min(MOST, max(LEAST, int(SHARE * evaluation)))


def measure(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    passes: int = MOST,
    trajectory: Sequence[float] = (),
    before: Sequence[float] = (),
    ignore_index: int = 255,
) -> Measurements:
    """Take measurements on as few images as they need, and as many of them as the passes allow.

    The check of the gradient comes first, image by image; it ends at the first image whose gradient is not to be
    trusted, and nothing else is then measured. Otherwise the scale of the logits and an attack at a large eps follow,
    where passes are left.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        passes: how many images may go forward and backward, counted together.
        trajectory: mean losses along an attack that was made already.
        before: what the network answered to the first image before it was attacked (`networks.load.answers`); empty
            where that is not known.
        ignore_index: label of void pixels.
    """
    useful = (masks != ignore_index).flatten(1).any(1).nonzero().flatten().tolist()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    checks: list[GradientCheck] = []
    by_scale: dict[float, float] = {}
    large: float | None = None
    with count_passes(model) as spent:
        for index in (useful or [0])[:IMAGES]:
            if checks and (not checks[-1].trusted.all() or _left(passes, spent) < LEAST):
                break
            checks.append(check_gradient(model, images[[index]], masks[[index]], ignore_index=ignore_index))
        first = images[(useful or [0])[:1]]
        calls, drift, apart = predicted_again(model, first, checks[0].logits)
        chosen, truth = images[useful[:1]], masks[useful[:1]]
        sound = bool(useful) and all(check.trusted.all() for check in checks)
        with guarded(model, images.device):
            if sound and _left(passes, spent) >= len(SCALES) * (2 * STEPS + 1):
                for factor in SCALES:
                    scaled = Scaled(model, factor)
                    attacked = bim(scaled, chosen, truth, eps=EPS, alpha=ALPHA, steps=STEPS, ignore_index=ignore_index)
                    by_scale[factor] = accuracy(model, attacked, truth, ignore_index=ignore_index)
            sound = sound and _left(passes, spent) >= 2 * LARGE_STEPS + 3
            if sound and _sees(model, chosen, truth, checks[0].logits, ignore_index):
                options = {"eps": LARGE_EPS, "alpha": LARGE_ALPHA, "steps": LARGE_STEPS}
                attacked = cw.bind(**options)(model, chosen, truth, ignore_index=ignore_index)
                large = miou(model, attacked, truth, ignore_index=ignore_index)
    changed = any(not torch.equal(value, state[name]) for name, value in model.state_dict().items())
    doubts = {name for check in checks for name, found in check.doubts.items() if useful and found.any()}
    if useful[:1] == [0] and not same_answers(before, at_places(checks[0].logits)):
        doubts.add("non-deterministic")
    return Measurements(
        zero_loss=max(float(check.zero_loss) for check in checks),
        zero_gradient=sum(float(check.zero == 1) for check in checks) / len(checks) if useful else 0.0,
        difference=max(drift, *(float(check.forward) for check in checks)),
        optimises=calls > 0 or changed,
        trajectory=tuple(trajectory),
        by_scale=by_scale,
        at_large_eps=large,
        doubts=tuple(sorted(doubts)),
        rise=min(float(check.rise) for check in checks) if useful else None,
        beside_another=apart,
        images=len(checks),
        passes=spent.forward + spent.backward,
    )


def _left(passes: int, spent: Passes) -> int:
    return passes - spent.forward - spent.backward


def predicted_again(model: nn.Module, image: Tensor, before: Tensor) -> tuple[int, float, float]:
    """Predict an image (1, 3, H, W) again, alone and in a batch with its negative, as if for gradients.

    Returns:
        How often the network started a backward pass, and two largest differences, each as a share of the largest
        logit of a class that the network knows: from the logits of before, and between those of the image alone and in
        the batch; the latter is 0 where memory does not suffice for two images.
    """
    both = torch.cat([image, 1 - image])

    def first(part: slice) -> Tensor:
        logits: Tensor = model(both[part].detach().requires_grad_())
        return logits[:1].detach()

    with guarded(model, image.device), _GradientCalls() as calls:
        alone, together = first(slice(0, 1)), in_parts(2, 2, first, image.device)[0]
    known = known_classes(before)[:, :, None, None]
    largest = (before * known).abs().max().clamp_min(1e-30)
    drift, apart = (float(((alone - other) * known).abs().max() / largest) for other in (before, together))
    return calls.count, drift, apart


def _sees(model: nn.Module, images: Tensor, masks: Tensor, logits: Tensor, void: int) -> bool:
    """Whether a network says more of an image than of a grey one: to one that does not, no attack can do anything.

    The logits are those of the image.
    """
    grey = miou(model, torch.full_like(images, 0.5), masks, ignore_index=void)
    return _miou(logits, masks, void) > grey + LEARNT


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, masks: Tensor, *, ignore_index: int = 255) -> float:
    """Share of the valid pixels that are right, in per cent."""
    right = right_pixels(model(images), masks, ignore_index=ignore_index).sum()
    return 100 * float(right / (masks != ignore_index).sum().clamp_min(1))


@torch.no_grad()
def miou(model: nn.Module, images: Tensor, masks: Tensor, *, ignore_index: int = 255) -> float:
    """MIoU over the classes in masks or predictions, in per cent."""
    return _miou(model(images), masks, ignore_index)


def _miou(logits: Tensor, masks: Tensor, void: int) -> float:
    counts = confusion(predicted(logits), masks, logits.shape[1], void)
    return 100 * float(mean_iou(counts, "skip")) if counts.any() else 0.0


class _GradientCalls(TorchFunctionMode):
    """Counts the calls that start a backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.autograd.grad, torch.autograd.backward, Tensor.backward):
            self.count += 1
        return func(*args, **(kwargs or {}))
