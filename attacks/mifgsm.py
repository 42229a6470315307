"""Momentum and input diversity: gradients that carry over to other networks."""

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
    """MI-FGSM: BIM along an accumulated gradient, with input diversity by option; made for transfer.

    Every gradient is divided by its L1 norm and added to `momentum` times the sum so far. With a diversity above 0
    each image is shrunk and put at a random place of a black canvas of its size with that probability, anew at every
    step, and its logits are brought back to its own pixels.

    Args:
        model: network, images -> logits.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W).
        eps: radius of the ball, in [0, 1] units.
        alpha: size of a step, in [0, 1] units; the paper takes eps / steps.
        steps: number of steps.
        momentum: factor of the accumulated gradient, the paper's decay factor mu; 0 gives BIM.
        diversity: probability of the random transformation; DI-FGSM takes 0.5.
        smallest: least size of a shrunk image, as a share of its own; DI-FGSM takes 299/330.
        norm: "linf", "l2" or "rms" (see `attacks.base.ThreatModel`).
        target: class, or map of labels (see `tools.targets`), to push every valid pixel to; None pushes away from the
            masks.
        ignore_index: label of void pixels.
        generator: source of the random transformations, one per image.

    Source: Dong et al. 2018, algorithm 1, https://arxiv.org/abs/1710.06081; diversity from Xie et al. 2019,
        https://arxiv.org/abs/1803.06978.
    Departs from it in: alpha is free, so that iterates are nested; the transformed image keeps its size, and its logits
        are mapped back because labels are per pixel.
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
    """A network seen through a shrunk copy of each image on a black canvas.

    Args:
        model: the network.
        size: (N,) size of each copy as a share of the image's.
        centre: (N, 2) centre of each copy in coordinates from -1 to 1, x first.
    """

    def __init__(self, model: nn.Module, size: Tensor, centre: Tensor) -> None:
        super().__init__()
        self.model = model
        self.size = size
        self.centre = centre

    def forward(self, images: Tensor) -> Tensor:
        """Return logits at the pixels of the images."""
        canvas = _resample(images, 1 / self.size, -self.centre / self.size[:, None], "zeros")
        return _resample(self.model(canvas), self.size, self.centre, "border")


def _resample(maps: Tensor, size: Tensor, centre: Tensor, padding: str) -> Tensor:
    """Sample each map on a grid of its own shape that spans a window of the given size and centre."""
    theta = torch.zeros(len(maps), 2, 3, dtype=maps.dtype, device=maps.device)
    theta[:, 0, 0] = theta[:, 1, 1] = size
    theta[:, :, 2] = centre
    grid = F.affine_grid(theta, list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, padding_mode=padding, align_corners=False)


def _windows(generator: Generators, diversity: float, smallest: float, images: Tensor) -> tuple[Tensor, Tensor]:
    """Draw size and centre of each image's shrunk copy; an image that is left alone has size 1."""
    draws = torch.stack([torch.rand(4, generator=g) for g in generator]).to(images)
    size = torch.where(draws[:, 0] < diversity, smallest + (1 - smallest) * draws[:, 1], 1)
    return size, (2 * draws[:, 2:] - 1) * (1 - size)[:, None]
