from __future__ import annotations

from statistics import NormalDist

import pytest
import torch
from torch import Tensor, nn

from segbench.defenses.base import ABSTAIN, Certified, Wrapped, segmentation_loss
from segbench.defenses.randomized_smoothing import RandomizedSmoothing, Smoothed


class HalfSpace(nn.Module):
    """Class 1 where the first channel exceeds 0.5."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(images[:, 0]), 1000 * (images[:, 0] - 0.5)], 1)


def smoothed(plain: nn.Module, **options: float) -> Smoothed:
    chosen = {"sigma": 0.25, "samples": 4, "seed": 0, "picking": 10, "counting": 100, "tau": 0.75, "alpha": 0.001}
    return Smoothed(plain, **{**chosen, **options})


def seeded(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(n) for n in range(count)]


def test_training_adds_noise_of_the_given_size(segmenter, batch) -> None:
    images, masks = batch
    segmenter.eval()
    loss = RandomizedSmoothing(segmenter, sigma=0.3).loss(images, masks, torch.Generator().manual_seed(4))
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(4))
    expected = segmentation_loss(segmenter, images + 0.3 * noise, masks, aux_weight=0.4, ignore_index=255)
    assert torch.equal(loss.total, expected.total)


def test_prediction_is_the_mean_probability_over_the_noises(segmenter, batch) -> None:
    images, _ = batch
    segmenter.eval()
    generator = torch.Generator().manual_seed(0)
    noises = [torch.randn(3, 12, 14, generator=generator) for _ in range(4)]
    mean = torch.stack([segmenter(images + 0.25 * noise).softmax(1) for noise in noises]).mean(0)
    torch.testing.assert_close(smoothed(segmenter)(images).exp(), mean)


def test_without_noise_it_is_the_plain_network(segmenter, batch) -> None:
    segmenter.eval()
    torch.testing.assert_close(smoothed(segmenter, sigma=0.0)(batch[0]), segmenter(batch[0]).log_softmax(1))


def test_deployed_network_is_wrapped_and_certified(segmenter) -> None:
    deployed = RandomizedSmoothing(segmenter).deploy()
    assert isinstance(deployed, Wrapped)
    assert isinstance(deployed, Certified)


def test_certified_pixels_are_those_farther_from_the_border_than_the_radius() -> None:
    """On a half-space all is known: far pixels get their class, near ones none, and no certificate is wrong."""
    radius = 0.25 * NormalDist().inv_cdf(0.75)
    distances = torch.tensor([-0.5, -0.4, -radius, -0.1, 0.0, 0.1, radius, 0.4, 0.5]).repeat(50, 1)
    images = (distances + 0.5).expand(1, 3, -1, -1)
    certificate = smoothed(HalfSpace(), counting=300).certify(images, seeded(1))
    assert certificate.radius == pytest.approx(radius)
    labels = certificate.labels[0]
    assert (labels[:, :2] == 0).all()
    assert (labels[:, -2:] == 1).all()
    assert (labels[:, 2:7] == ABSTAIN).all()


def test_certificate_does_not_depend_on_the_rest_of_the_batch(segmenter, batch) -> None:
    images, _ = batch
    network = smoothed(segmenter.eval(), counting=20, tau=0.5, alpha=0.1)
    together = network.certify(images, seeded(4)).labels
    alone = network.certify(images[2:3], seeded(4)[2:3]).labels
    assert torch.equal(together[2:3], alone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 0.4}, "tau must be at least 0.5"),
        ({"tau": 1.0}, "tau must be at least 0.5"),
        ({"alpha": 0.0}, "alpha must lie between 0 and 1"),
        ({"sigma": -1.0}, "sigma must be at least 0"),
        ({"counting": 0}, "samples, picking and counting at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options, message: str, segmenter) -> None:
    with pytest.raises(ValueError, match=message):
        RandomizedSmoothing(segmenter, **options)
