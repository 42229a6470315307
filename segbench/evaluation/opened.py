"""What a sweep works with: its data, its protocol and its networks, opened on a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from segbench.config.matrix import Runtime
from segbench.datasets.base import Dataset, Split
from segbench.defenses.base import Dynamic
from segbench.evaluation.anticipating import Anticipating
from segbench.networks.load import load_network, weights_sha256
from segbench.plan.plan import Sweep
from segbench.protocols.base import EvaluationProtocol
from segbench.store import Store


@dataclass(frozen=True)
class Opened:
    """A sweep whose parts are open.

    Attributes:
        sweep: the sweep.
        device: where its networks are.
        dataset: where its images are.
        split: its images.
        length: number of images of the sweep; of a shard, of the whole sweep.
        protocol: cuts and scores images.
        networks: source and targets, by digest.
        weights: hashes of their weights, by digest.
        dynamic: the target changes with the images that it sees.
    """

    sweep: Sweep
    device: torch.device
    dataset: Dataset
    split: Split
    length: int
    protocol: EvaluationProtocol
    networks: Mapping[str, Any]
    weights: Mapping[str, str]
    dynamic: bool

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.dataset.classes)

    @property
    def void(self) -> int:
        """Label of void pixels."""
        return self.dataset.ignore_index

    @property
    def source(self) -> Any:
        """The network that is attacked, with its defense."""
        return self.networks[self.sweep.source.digest]

    def seen_by_attack(self) -> nn.Module:
        """Return the network as the attack sees it."""
        attacked = self.source.plain if self.sweep.oblivious else self.source
        if self.sweep.cells[0].anticipating:
            return Anticipating(attacked, self.protocol.network)
        return self.protocol.network(attacked)

    def reset(self) -> None:
        """Return the networks to their state of deployment."""
        for network in self.networks.values():
            if isinstance(network, Dynamic):
                network.reset()


def open_sweep(sweep: Sweep, store: Store, runtime: Runtime, device: torch.device) -> Opened:
    """Open the parts of a sweep.

    Args:
        sweep: the sweep.
        store: where trained networks are.
        runtime: names the folders of datasets.
        device: where networks go.
    """
    first, data = sweep.cells[0], sweep.source.data
    dataset = data.open(runtime.data.get(data.dataset.name))
    split = dataset.split(first.split)
    length = len(split) if first.limit is None else min(first.limit, len(split))
    cells = {cell.digest: cell for cell in (sweep.source, *sweep.targets)}
    classes, void = len(dataset.classes), dataset.ignore_index
    networks = {digest: load_network(cell, store, device, classes, void) for digest, cell in cells.items()}
    weights = {digest: weights_sha256(cell, store) for digest, cell in cells.items()}
    dynamic = any(cell.dynamic for cell in sweep.cells)
    return Opened(sweep, device, dataset, split, length, first.protocol.make(), networks, weights, dynamic)
