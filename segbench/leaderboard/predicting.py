"""The sample of a bundle predicted again from the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from segbench.components import specs
from segbench.defenses.base import Dynamic
from segbench.errors import SegbenchError, describe
from segbench.files import file_sha256
from segbench.leaderboard.bundled import Evaluation, Shown
from segbench.leaderboard.entry_files import LeaderboardError
from segbench.leaderboard.sampling import LEVELS
from segbench.model_zoo.base import ModelError
from segbench.model_zoo.weights import load_strict
from segbench.protocols.base import Crops, EvaluationProtocol
from segbench.reports.leaderboard.entries import Entry
from segbench.reports.records import Record
from segbench.zoo import networks as zoo

TOLERATED = 0.01
"""Share of an image's pixels that rounding to 16 bits and another machine may turn."""


@dataclass(frozen=True)
class Predictions:
    """What came of predicting a sample again.

    Attributes:
        problems: what is wrong.
        facts: what must be known.
        images: number of images that were predicted again.
        disagreement: largest share of an image's pixels that was predicted otherwise.
        complete: every network of the entry was given, and predicted its sample.
    """

    problems: tuple[str, ...]
    facts: tuple[str, ...]
    images: int
    disagreement: float
    complete: bool


def predict(entry: Entry, evaluations: Sequence[Evaluation], paths: Sequence[Path]) -> Predictions:
    """Predict the sample of every network whose weights are given, clean and attacked.

    Args:
        entry: the entry.
        evaluations: the evidence of its runs.
        paths: safetensors files.

    Raises:
        LeaderboardError: a file of weights is missing.
    """
    if evaluations and not evaluations[0].record.target.recipe:
        why = f"{entry.model.name} was not trained by segbench, which cannot build it: no image was predicted again"
        return Predictions((), (why,), 0, 0.0, False)
    problems, facts, shares, repeated = [], [], list[float](), set[str]()
    for path in paths:
        if not path.is_file():
            raise LeaderboardError(f"{path}: there is no such file of weights")
        sha256 = file_sha256(path)
        own = [e for e in evaluations if e.record.target.weights_sha256 == sha256]
        if not own or sha256 not in {weights.sha256 for weights in entry.model.weights}:
            problems.append(f"{path}: its SHA-256, {sha256}, is not one of the entry's weights")
            continue
        try:
            network = _network(own[0].record, path)
            if reason := _unrepeatable(network, own[0]):
                facts.append(f"{path}: {reason}; its predictions were checked against the counts, and none made again")
                continue
            found = list(_shares(network, own))
        except (SegbenchError, ModelError, SafetensorError, ValueError, RuntimeError) as error:
            problems.append(f"{path}: {describe(error)}")
            continue
        repeated.add(sha256)
        shares += [share for _, share in found]
        problems += [
            f"{where}: {100 * share:.2f} % of its pixels are predicted otherwise with {path}"
            for where, share in found
            if share > TOLERATED
        ]
    missing = [str(weights.seed) for weights in entry.model.weights if weights.sha256 not in repeated]
    if missing and repeated:
        facts.append(f"weights of seed {', '.join(missing)} were not given: not verified")
    complete = bool(entry.model.weights) and not missing
    return Predictions(tuple(problems), tuple(facts), len(shares), max(shares, default=0.0), complete)


def _network(record: Record, path: Path) -> nn.Module:
    """Build a network as its evaluation had it; no code comes from the bundle or the weights."""
    network = zoo.deployed(record.target.model, record.target.defense, len(record.classes))
    load_strict(network, load_file(path), where=str(path))
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _unrepeatable(network: nn.Module, own: Evaluation) -> str:
    """Say why a network cannot be asked again for what it predicted, "" where it can."""
    if isinstance(network, Dynamic):
        return "the network changes with the images that it has seen"
    images = _unit(own.sample[0].clean)
    with torch.no_grad():
        same = torch.equal(network(images), network(images))
    return "" if same else "the network draws new random numbers for every prediction"


def _shares(network: nn.Module, evaluations: Sequence[Evaluation]) -> Iterator[tuple[str, float]]:
    """Yield the share of pixels of each image that the network predicts otherwise."""
    for own in evaluations:
        protocol: EvaluationProtocol = specs.stored("protocol", own.record.protocol).make()
        attacked = own.record.threat.access != "none"
        for shown in own.sample:
            preds = _labels(network, protocol, shown, attacked=attacked)
            yield shown.where, float((preds != shown.preds).mean())


def _labels(network: nn.Module, protocol: EvaluationProtocol, shown: Shown, *, attacked: bool) -> NDArray[np.int64]:
    """Predict an image from its pieces; where they belong follows from the size of its truth."""
    truth = torch.from_numpy(shown.truth.astype(np.int64))
    blank = protocol.crops(torch.zeros(3, *truth.shape), truth)
    pieces = _unit(shown.adversarial)
    if blank.truth.shape != truth.shape or len(blank.images) != len(pieces):
        raise LeaderboardError(f"{shown.where}: {len(pieces)} pieces, its protocol cuts {len(blank.images)}")
    scores = protocol.scores(network, pieces, attacked=attacked)
    labels: NDArray[np.int64] = protocol.merge(scores, Crops(pieces, blank.masks, truth, blank.layout)).numpy()
    return labels


def _unit(pixels: NDArray[np.uint16]) -> Tensor:
    images = torch.from_numpy(pixels.astype(np.float32) / LEVELS).permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)
