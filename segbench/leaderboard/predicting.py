"""Repeated predictions: networks built from weights predict the sampled images of a bundle again."""

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
from segbench.evaluation.batch_size import on_processor
from segbench.files import file_sha256
from segbench.leaderboard.bundled import Evaluation, Shown
from segbench.leaderboard.entry_files import LeaderboardError
from segbench.leaderboard.sampling import LEVELS
from segbench.memory import in_parts
from segbench.model_zoo.base import ModelError
from segbench.model_zoo.weights import load_strict
from segbench.networks.fingerprint import state_sha256
from segbench.networks.rebuilt import rebuilt
from segbench.protocols.base import Crops, EvaluationProtocol
from segbench.reports.leaderboard.entries import Entry
from segbench.reports.records import Network, Record
from segbench.zoo import networks as zoo

TOLERATED = 0.01
"""Largest share of an image's pixels that may change by rounding to 16 bits and on another machine."""


@dataclass(frozen=True)
class Predictions:
    """The outcome of repeated predictions.

    Attributes:
        problems: sentences on what is wrong.
        facts: sentences on what was not checked, and why.
        images: number of images that were predicted again.
        disagreement: largest share of the pixels of an image whose prediction changed.
        complete: the weights of every network of the entry were given, and each predicted its sample again.
    """

    problems: tuple[str, ...]
    facts: tuple[str, ...]
    images: int
    disagreement: float
    complete: bool


def predict(entry: Entry, evaluations: Sequence[Evaluation], paths: Sequence[Path]) -> Predictions:
    """Predict the sampled images again, clean and attacked, with every network whose weights are given.

    Args:
        entry: the entry.
        evaluations: the evidence for its runs.
        paths: safetensors files of weights.

    Raises:
        LeaderboardError: a file of weights is missing.
    """
    if reason := next((why for own in evaluations if (why := _foreign(own.record.target))), ""):
        why = f"{entry.model.name} {reason}, so that segbench cannot build it: no image was predicted again"
        return Predictions((), (why,), 0, 0.0, False)
    problems, facts, shares, repeated = [], [], list[float](), set[str]()
    for path in paths:
        if not path.is_file():
            raise LeaderboardError(f"{path}: there is no such file of weights")
        try:
            sha256, network = _network(entry, evaluations, path)
            own = [e for e in evaluations if e.record.target.weights_sha256 == sha256]
            if reason := _unrepeatable(network, own[0]):
                facts.append(f"{path}: {reason}; its predictions were only checked against the counts")
                continue
            found = list(_shares(network, own))
        except (SegbenchError, ModelError, SafetensorError, ValueError, RuntimeError) as error:
            problems.append(f"{path}: {describe(error)}")
            continue
        repeated.add(sha256)
        shares += [share for _, share in found]
        problems += [
            f"{where}: {100 * share:.2f} % of its pixels are predicted differently with {path}"
            for where, share in found
            if share > TOLERATED
        ]
    missing = [str(weights.seed) for weights in entry.model.weights if weights.sha256 not in repeated]
    if missing and repeated:
        facts.append(f"weights of seed {', '.join(missing)} were not given: not verified")
    complete = bool(entry.model.weights) and not missing
    return Predictions(tuple(problems), tuple(facts), len(shares), max(shares, default=0.0), complete)


def _foreign(network: Network) -> str:
    """Return why a network cannot be built; "" if segbench trained it, or libraries build it."""
    if network.recipe or (network.origin is not None and network.origin.architecture):
        return ""
    return "was not trained by segbench" if network.origin is None else f"is made by {network.origin.load}"


def _network(entry: Entry, evaluations: Sequence[Evaluation], path: Path) -> tuple[str, nn.Module]:
    """Return a network with the weights of a file, and their hash. No code from the bundle or the weights is run."""
    records = {own.record.target.weights_sha256: own.record for own in evaluations}
    named = {weights.sha256: records[weights.sha256] for weights in entry.model.weights if weights.sha256 in records}
    sha256 = file_sha256(path)
    if sha256 in named:
        return sha256, _trained(named[sha256], path)
    for held, record in named.items():
        if record.target.origin is not None:
            adapter = rebuilt(record.target.origin, record.classes, path)
            if state_sha256(adapter.network) == held:
                return held, adapter
    raise SegbenchError(f"its SHA-256, {sha256}, is not one of the entry's weights, nor is that of its values")


def _trained(record: Record, path: Path) -> nn.Module:
    """Return the network of the catalog that an evaluation is of."""
    state, target = load_file(path), record.target
    network = zoo.fitting(target.model, target.defense, len(record.classes), state, where=str(path))
    load_strict(network, state, where=str(path))
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _unrepeatable(network: nn.Module, own: Evaluation) -> str:
    """Return the reason why a network cannot repeat its predictions; "" if it can."""
    if isinstance(network, Dynamic):
        return "the network changes with the images that it has seen"
    images = _unit(own.sample[0].clean[:1])
    with torch.no_grad():
        same = torch.equal(network(images), network(images))
    return "" if same else "the network draws new random numbers for every prediction"


def _shares(network: nn.Module, evaluations: Sequence[Evaluation]) -> Iterator[tuple[str, float]]:
    """Yield the share of pixels of each image whose prediction differs from the bundle's."""
    for own in evaluations:
        protocol: EvaluationProtocol = specs.stored("protocol", own.record.protocol).make()
        attacked = own.record.threat.access != "none"
        for shown in own.sample:
            preds = _labels(network, protocol, shown, attacked=attacked)
            yield shown.where, float((preds != shown.preds).mean())


def _labels(network: nn.Module, protocol: EvaluationProtocol, shown: Shown, *, attacked: bool) -> NDArray[np.int64]:
    """Return the predicted labels of an image from its pieces; the size of its truth says where the pieces lie."""
    truth = torch.from_numpy(shown.truth.astype(np.int64))
    blank = protocol.crops(torch.zeros(3, *truth.shape), truth)
    pieces = _unit(shown.adversarial)
    if blank.truth.shape != truth.shape or len(blank.images) != len(pieces):
        raise LeaderboardError(f"{shown.where}: {len(pieces)} pieces, its protocol cuts {len(blank.images)}")

    def scores(part: slice) -> Tensor:
        return protocol.scores(network, pieces[part], attacked=attacked)

    found = torch.cat(in_parts(len(pieces), on_processor(pieces), scores, pieces.device))
    labels: NDArray[np.int64] = protocol.merge(found, Crops(pieces, blank.masks, truth, blank.layout)).numpy()
    return labels


def _unit(pixels: NDArray[np.uint16]) -> Tensor:
    images = torch.from_numpy(pixels.astype(np.float32) / LEVELS).permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)
