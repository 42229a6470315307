"""Common corruptions: noise, blur, weather and digital artefacts at five severity levels."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from segbench.attacks.base import attack
from segbench.attacks.tools.noise import Generators

Kind = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
    "speckle_noise",
    "gaussian_blur",
    "spatter",
    "saturate",
]
SEEDED = ("glass_blur", "impulse_noise")
"""Corruptions whose random generator is seeded by an argument, not by numpy's global state."""


@attack("corruption", access="none")
def corruption(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    *,
    kind: Kind = "gaussian_noise",
    severity: Literal[1, 2, 3, 4, 5] = 3,
    generator: Generators = (),
) -> Tensor:
    """Common corruption: one of 19 natural image corruptions at severity 1 to 5; not adversarial and without a budget.

    As in the benchmark, images are rounded to 8 bits first. Needs the package imagecorruptions-imaug.

    Args:
        model: network, unused.
        images: (N, 3, H, W) in [0, 1], at least 32 x 32.
        masks: (N, H, W), unused: void pixels are corrupted as well.
        kind: name of the corruption; the last four are the extra corruptions of the benchmark.
        severity: 1 (weak) to 5 (strong).
        generator: random generators, one per image.

    Source: Hendrycks and Dietterich 2019, https://arxiv.org/abs/1903.12261; for segmentation Kamann and Rother 2020,
        https://arxiv.org/abs/1908.05005; implementation of Michaelis et al. 2019, https://arxiv.org/abs/1907.07484.
    """
    corrupt = _library().corrupt
    if min(images.shape[2:]) < 32:
        raise ValueError(f"corruption needs images of at least 32x32, got {images.shape[2]}x{images.shape[3]}")
    made = []
    for image, source in zip(images, generator, strict=True):
        pixels = image.mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
        seed = int(torch.randint(2**31, (1,), generator=source, device=source.device))
        options = {"seed": seed} if kind in SEEDED else {}
        with _numpy_seed(seed):
            disturbed = corrupt(pixels, severity=int(severity), corruption_name=kind, **options)
        made.append(torch.from_numpy(disturbed.copy()).permute(2, 0, 1).float() / 255)
    return torch.stack(made).to(images)


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, which the library uses, and restore its state afterwards."""
    state = np.random.get_state()  # noqa: NPY002 - the library knows no other generator
    np.random.seed(seed)  # noqa: NPY002 - see above
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002 - see above


def _library() -> Any:
    try:
        return importlib.import_module("imagecorruptions")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "corruption needs the package imagecorruptions-imaug: pip install 'segbench[corruptions]'"
        ) from error
