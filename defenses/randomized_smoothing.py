"""Randomized smoothing with certified labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.defenses.base import Certificate, Losses, defense, segmentation_loss
from segbench.defenses.tools.certification import certified_radius, certify_votes
from segbench.model_zoo.base import Segmenter


class Smoothed(nn.Module):
    """A network averaged over Gaussian noise on its input.

    The forward pass averages over noise samples that `seed` fixes; they are the same for every image. Predictions are
    therefore deterministic, and an attacker gets the exact gradient of the average (the strongest form of expectation
    over transformation). Certification draws new noise.

    Args:
        plain: images (N, 3, H, W) in [0, 1] -> logits (N, C, H, W).
        sigma: standard deviation of the noise, in [0, 1] units.
        samples: number of noise samples in the forward pass.
        seed: seed of these samples.
        picking: number of noise samples that choose the label to certify ("n0" in the paper).
        counting: number of further noise samples that test this label ("n" in the paper).
        tau: lower bound on the probability of the certified label, in [0.5, 1).
        alpha: probability that any label of a piece is certified wrongly: of the image, or of one crop where a protocol
            cuts images into crops.
    """

    def __init__(
        self,
        plain: nn.Module,
        *,
        sigma: float,
        samples: int,
        seed: int,
        picking: int,
        counting: int,
        tau: float,
        alpha: float,
    ) -> None:
        super().__init__()
        self.plain = plain
        self.sigma = sigma
        self.samples = samples
        self.seed = seed
        self.picking = picking
        self.counting = counting
        self.tau = tau
        self.alpha = alpha

    def forward(self, images: Tensor) -> Tensor:
        """Return the logarithm of the softmax averaged over the noise samples, (N, C, H, W)."""
        generator = torch.Generator().manual_seed(self.seed)
        log_probabilities = []
        for _ in range(self.samples):
            noise = torch.randn(images.shape[1:], generator=generator).to(images)
            log_probabilities.append(F.log_softmax(self.plain(images + self.sigma * noise).float(), 1))
        return torch.stack(log_probabilities).logsumexp(0) - torch.tensor(float(self.samples)).log().to(images.device)

    @torch.no_grad()
    def certify(self, images: Tensor, generators: Sequence[torch.Generator]) -> Certificate:
        """Return labels that no perturbation within the radius can change; see `defenses.base.Certified`."""
        labels = []
        for image, generator in zip(images, generators, strict=True):
            picks = self._most(image, generator)
            wins = torch.zeros_like(picks)
            for _ in range(self.counting):
                wins += self._logits(image, generator).argmax(0) == picks
            certified = certify_votes(
                picks.cpu().numpy(), wins.cpu().numpy(), samples=self.counting, tau=self.tau, alpha=self.alpha
            )
            labels.append(torch.from_numpy(certified))
        return Certificate(torch.stack(labels), certified_radius(self.sigma, self.tau))

    def _most(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Return the label that most of `picking` noise samples predict, (H, W)."""
        votes = torch.zeros(0)
        for place in range(self.picking):
            logits = self._logits(image, generator)
            if not place:
                votes = torch.zeros_like(logits, dtype=torch.int32)
            won = logits.argmax(0, keepdim=True)
            votes.scatter_add_(0, won, torch.ones_like(won, dtype=torch.int32))
        return votes.argmax(0)

    def _logits(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Return the logits under new noise, (C, H, W)."""
        noise = torch.randn(image.shape, generator=generator).to(image)
        logits: Tensor = self.plain((image + self.sigma * noise)[None])[0]
        return logits


@defense("randomized-smoothing")
class RandomizedSmoothing(nn.Module):
    """Randomized smoothing: training with Gaussian noise; deploys the average over noise, with certified labels.

    A certificate says that a label cannot change within an L2 ball; it does not say that the label is correct. It holds
    for the majority vote over random noise. The forward pass approximates this vote by an average over fixed noise.

    Args:
        segmenter: the network to train.
        sigma: standard deviation of the noise, in [0, 1] units.
        samples: number of noise samples in the forward pass of the deployed network.
        seed: seed of these samples.
        picking: number of noise samples that choose the label to certify ("n0" in the paper).
        counting: number of further noise samples that test this label ("n" in the paper).
        tau: lower bound on the probability of the certified label, in [0.5, 1).
        alpha: probability that any label of a piece is certified wrongly: of the image, or of one crop where a protocol
            cuts images into crops.
        aux_weight: weight of the auxiliary classifier's loss.
        ignore_index: label of void pixels.

    Raises:
        ValueError: an option is out of range.

    Source: Fischer et al. 2021 (SegCertify), algorithm 2, https://arxiv.org/abs/2107.00228; Cohen et al. 2019,
        https://arxiv.org/abs/1902.02918.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        sigma: float = 0.25,
        samples: int = 8,
        seed: int = 0,
        picking: int = 10,
        counting: int = 100,
        tau: float = 0.75,
        alpha: float = 0.001,
        aux_weight: float = 0.4,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        if not 0.5 <= tau < 1:
            raise ValueError(f"randomized-smoothing: tau must be at least 0.5 and less than 1, got {tau}")
        if not 0 < alpha < 1:
            raise ValueError(f"randomized-smoothing: alpha must lie between 0 and 1, got {alpha}")
        if sigma < 0 or min(samples, picking, counting) < 1:
            raise ValueError(
                "randomized-smoothing: sigma must be at least 0, and samples, picking and counting at least 1"
            )
        self.segmenter = segmenter
        self.sigma = sigma
        self.samples = samples
        self.seed = seed
        self.picking = picking
        self.counting = counting
        self.tau = tau
        self.alpha = alpha
        self.aux_weight = aux_weight
        self.ignore_index = ignore_index

    def loss(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Losses:
        """Return the loss of the batch with noise added; see `defenses.base.TrainingDefense`."""
        noise = torch.randn(images.shape, generator=generator).to(images)
        noisy = images + self.sigma * noise
        return segmentation_loss(
            self.segmenter, noisy, masks, aux_weight=self.aux_weight, ignore_index=self.ignore_index
        )

    def deploy(self) -> Smoothed:
        """Return the network averaged over noise."""
        return Smoothed(
            self.segmenter,
            sigma=self.sigma,
            samples=self.samples,
            seed=self.seed,
            picking=self.picking,
            counting=self.counting,
            tau=self.tau,
            alpha=self.alpha,
        )
