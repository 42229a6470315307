"""What a sweep works with: its data, its protocol and its networks, opened on a device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from segbench.config.matrix import Precision, Runtime
from segbench.datasets.base import Dataset, Split
from segbench.defenses.base import Dynamic
from segbench.evaluation.anticipating import Anticipating
from segbench.evaluation.precision import in_precision
from segbench.networks.agreeing import Instead, kind_of
from segbench.networks.compiling import compile_passes
from segbench.networks.folding import Pair, foldable, folded
from segbench.networks.load import load_network, weights_sha256
from segbench.plan.plan import Sweep
from segbench.protocols.base import EvaluationProtocol
from segbench.protocols.void import scored_split
from segbench.reporter import Reporter
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

    @property
    def precision(self) -> Precision:
        """The precision of the networks' passes."""
        return self.sweep.cells[0].precision

    def seen_by_attack(self) -> nn.Module:
        """Return the network as the attack sees it."""
        attacked = self.source.plain if self.sweep.oblivious else self.source
        anticipating = self.sweep.cells[0].anticipating
        view = Anticipating(attacked, self.protocol.network) if anticipating else self.protocol.network(attacked)
        return in_precision(view, self.precision)

    def reset(self) -> None:
        """Return the networks to their state of deployment."""
        for network in self.networks.values():
            if isinstance(network, Dynamic):
                network.reset()


def open_sweep(sweep: Sweep, store: Store, runtime: Runtime, device: torch.device, reporter: Reporter) -> Opened:
    """Open the parts of a sweep.

    Args:
        sweep: the sweep.
        store: where trained networks are.
        runtime: names the folders of datasets, and says whether networks are compiled.
        device: where networks go.
        reporter: hears why a network is not compiled.
    """
    first, data = sweep.cells[0], sweep.source.data
    dataset = data.open(runtime.data.get(data.dataset.name))
    protocol: EvaluationProtocol = first.protocol.make()
    split = scored_split(dataset, first.split, protocol)
    length = len(split) if first.limit is None else min(first.limit, len(split))
    cells = {cell.digest: cell for cell in (sweep.source, *sweep.targets)}
    classes, void = len(dataset.classes), dataset.ignore_index
    networks = {digest: load_network(cell, store, device, classes, void) for digest, cell in cells.items()}
    if not first.dynamic:

        def image() -> Tensor:
            return protocol.crops(*split[0][1:]).images[:1].to(device, memory_format=torch.channels_last)

        networks = _fast(networks, store, image, reporter.say if runtime.compile else None)
    weights = {digest: weights_sha256(cell, store) for digest, cell in cells.items()}
    return Opened(sweep, device, dataset, split, length, protocol, networks, weights, first.dynamic)


def _fast(
    networks: Mapping[str, Any], store: Store, image: Callable[[], Tensor], say: Callable[[str], None] | None
) -> dict[str, Any]:
    """Return copies of networks that run faster, or the networks themselves.

    Args:
        networks: by digest.
        store: remembers what can be folded, and for which images.
        image: returns the first that they will see.
        say: hears why a network is not compiled; None to compile none.
    """
    known = {digest: _foldable(_inside(network), digest, store, image) for digest, network in networks.items()}
    fast = {digest: _folded(network, known[digest]["pairs"]) for digest, network in networks.items()}
    if say is not None:
        fast = copy.deepcopy(fast)
    copied = {digest: _inside(network).forward for digest, network in fast.items()}
    if say is not None:
        compile_passes(map(_inside, fast.values()), image().repeat(2, 1, 1, 1), say)
    for digest, network in fast.items():
        if known[digest]["pairs"]:
            own, inside = known[digest], _inside(network)
            learnt = partial(store.remember, "folding", digest, own)
            inside.forward = Instead(_inside(networks[digest]), copied[digest], inside.forward, own["agreed"], learnt)
    return fast


def _foldable(inside: nn.Module, digest: str, store: Store, image: Callable[[], Tensor]) -> dict[str, Any]:
    """Return what the store knows of folding a network: pairs of layers, and kinds of images for which it was seen."""
    known = store.remembered("folding", digest)
    if known is None:
        first = image()
        pairs = foldable(inside, first)
        known = {"pairs": pairs or [], "agreed": {kind_of(first): True}}
        if pairs is not None:
            store.remember("folding", digest, known)
    return {"agreed": {}, **known}


def _folded(network: nn.Module, pairs: Sequence[Pair]) -> nn.Module:
    """Return a copy of a network with batch normalisations folded, or the network where none can be."""
    if not pairs:
        return network
    inside = _inside(network)
    prefix = next(f"{name}." if name else "" for name, module in network.named_modules() if module is inside)
    return folded(network, [(prefix + first, prefix + second) for first, second in pairs])


def _inside(network: nn.Module) -> nn.Module:
    """Return what is inside a defense at inference, one pass through which may be many of it, or the network itself."""
    plain = getattr(network, "plain", None)
    return plain if isinstance(plain, nn.Module) else network
