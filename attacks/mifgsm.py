"""MI-FGSM and DI-FGSM: momentum and input diversity for transfer attacks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.attacks.base import Norm, attack
from segbench.attacks.tools.losses import cross_entropy, input_gradient, objective
from segbench.attacks.tools.noise import Generators
from segbench.attacks.tools.projections import project, step
from segbench.attacks.tools.targets import Target, goal


@attack("mifgsm", nested=True)
def mifgsm(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    eps: float = 0.03,
    alpha: float = 0.01,
    steps: int = 10,
    momentum: float = 1.0,
    diversity: float = 0.0,
    smallest: float = 0.9,
    norm: Norm = "linf",
    target: Target | None = None,
    ignore_index: int = 255,
    generator: Generators = (),
) -> Iterator[Tensor]:
    """MI-FGSM: BIM with momentum, and optionally with input diversity; designed for transfer attacks.

    At every step the gradient is divided by its L1 norm and added to `momentum` times the accumulated gradient. Input
    diversity shrinks each image with probability `diversity` and places it at random on a black canvas of the same
    size, at every step anew; the logits are mapped back to the pixels of the image.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the ball, in [0, 1] units.
        alpha: size of a step, in [0, 1] units; the paper uses eps / steps.
        steps: number of steps.
        momentum: decay factor (mu in the paper) of the accumulated gradient; 0 gives BIM.
        diversity: probability of the random transformation; DI-FGSM uses 0.5.
        smallest: smallest size of a shrunk image, relative to the image; DI-FGSM uses 299/330.
        norm: "linf", "l2" or "rms" (see `attacks.base.ThreatModel`).
        target: class or label map (see `tools.targets`) to drive the prediction towards; None drives it away from the
            masks.
        ignore_index: label of void pixels.
        generator: random generators for the transformations, one per image.

    Source: Dong et al. 2018, algorithm 1, https://arxiv.org/abs/1710.06081; diversity from Xie et al. 2019,
        https://arxiv.org/abs/1803.06978.
    Departs from it in: alpha does not depend on the number of steps, so that iterates are nested; the transformed image
        keeps its size, and its logits are mapped back to the image because every pixel has a label.
    """
    labels = goal(masks, target, ignore_index=ignore_index)
    loss = objective(cross_entropy, targeted=target is not None, ignore_index=ignore_index)
    accumulated = torch.zeros_like(images)
    adversarial = images
    for _ in range(steps):
        network = model
        if diversity > 0:
            network = _Shrunk(model, *_windows(generator, diversity, smallest, images))
        gradient, _, _ = input_gradient(network, adversarial, labels, loss, ignore_index=ignore_index)
        length = gradient.flatten(1).abs().sum(1).view(-1, 1, 1, 1)
        accumulated = momentum * accumulated + gradient / torch.where(length > 0, length, 1)
        adversarial = project(adversarial + step(accumulated, norm, alpha), images, norm, eps)
        yield adversarial


class _Shrunk(nn.Module):
    """A network that receives a shrunk copy of each image on a black canvas.

    Args:
        model: the network.
        size: (N,) size of each copy relative to the image.
        centre: (N, 2) centre of each copy in coordinates from -1 to 1, x first.
    """

    def __init__(self, model: nn.Module, size: Tensor, centre: Tensor) -> None:
        super().__init__()
        self.model = model
        self.size = size
        self.centre = centre

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, mapped back to the pixels of the original images."""
        canvas = _resample(images, 1 / self.size, -self.centre / self.size[:, None], "zeros")
        return _resample(self.model(canvas), self.size, self.centre, "border")


def _resample(maps: Tensor, size: Tensor, centre: Tensor, padding: str) -> Tensor:
    """Resample each map, at its own resolution, over a window with the given size and centre."""
    theta = torch.zeros(len(maps), 2, 3, dtype=maps.dtype, device=maps.device)
    theta[:, 0, 0] = theta[:, 1, 1] = size
    theta[:, :, 2] = centre
    grid = F.affine_grid(theta, list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, padding_mode=padding, align_corners=False)


def _windows(generator: Generators, diversity: float, smallest: float, images: Tensor) -> tuple[Tensor, Tensor]:
    """Draw size and centre of each image's shrunk copy; size 1 leaves the image unchanged."""
    draws = torch.stack([torch.rand(4, generator=g) for g in generator]).to(images)
    size = torch.where(draws[:, 0] < diversity, smallest + (1 - smallest) * draws[:, 1], 1)
    return size, (2 * draws[:, 2:] - 1) * (1 - size)[:, None]
