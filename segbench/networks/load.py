"""The networks of cells, trained here or external, ready to be attacked: images in [0, 1] -> logits."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import nn

from segbench.config.network import Convention, ExternalNetwork
from segbench.datasets.base import Dataset
from segbench.errors import CellError, SegbenchError
from segbench.model_zoo.base import ModelError
from segbench.networks import loaders
from segbench.networks.adapter import Adapter
from segbench.plan.cells import Data, ExternalCell, NetworkCell, TrainCell
from segbench.plan.traits import traits
from segbench.seeding import derive
from segbench.store import Store


def load_network(
    cell: NetworkCell, store: Store, device: torch.device, num_classes: int, ignore_index: int
) -> nn.Module:
    """Return the network of a cell in eval mode.

    Raises:
        CellError: a given network is not what it was when the evaluation was planned.
    """
    if isinstance(cell, TrainCell):
        return _trained(cell, store, device, num_classes, ignore_index)
    adapter, identity, assured = _open(cell.external, num_classes)
    if identity != dict(cell.identity):
        raise CellError(f"{cell.label}: its code or weights changed since the evaluation was planned; start it again")
    adapter.to(device)
    return _ready(adapter, assured, cell.external)


def _trained(cell: TrainCell, store: Store, device: torch.device, num_classes: int, ignore_index: int) -> nn.Module:
    """Return the network that a training deploys, in eval mode."""
    weights = load_file(store.weights(cell.digest))
    network = cell.deployed(num_classes, ignore_index)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _ready(adapter: Adapter, assured: bool, external: ExternalNetwork) -> nn.Module:
    """Return what is evaluated: as it is, a network of ours may offer more than logits, such as a defense."""
    if assured and external.classes is None and isinstance(adapter.network, nn.Module):
        return adapter.network
    return adapter


def weights_sha256(cell: NetworkCell, store: Store) -> str:
    """Return the hash of the weights that are scored."""
    return store.weights_sha256(cell.digest) if isinstance(cell, TrainCell) else cell.identity["state"]


class Opened(NamedTuple):
    """A given network, loaded.

    Attributes:
        cell: its cell.
        adapter: the network, in eval mode on the CPU.
        assured: its convention is known for certain.
    """

    cell: ExternalCell
    adapter: Adapter
    assured: bool


def open_external(external: ExternalNetwork, data: Data, dataset: Dataset) -> Opened:
    """Load a network that was not trained here, for a dataset.

    Args:
        external: its description.
        data: the dataset as cells see it.
        dataset: the dataset.

    Raises:
        SegbenchError: it cannot be loaded, or names classes that the dataset does not have.
    """
    ordered = _ordered(external, dataset.classes)
    adapter, identity, assured = _open(ordered, len(dataset.classes))
    convention = adapter.convention.model_dump(mode="json")
    cell = ExternalCell(
        data=data,
        external=ordered,
        identity=identity,
        convention=convention,
        traits=traits(_ready(adapter, assured, ordered)),
    )
    return Opened(cell, adapter, assured)


def open_adapter(external: ExternalNetwork, num_classes: int | None) -> Adapter:
    """Load a network that was not trained here, for whatever data, in eval mode.

    Args:
        external: its description.
        num_classes: classes of a network that is built here; None where it knows its own.
    """
    return _open(external, num_classes)[0]


def _open(external: ExternalNetwork, num_classes: int | None) -> tuple[Adapter, dict[str, str], bool]:
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(external.seed, "weights"))
            loaded = loaders.load(external.load, external.weights, num_classes)
    except ModelError as error:
        raise SegbenchError(str(error)) from error
    convention = Convention.model_validate({**loaded.convention.model_dump(), **external.convention})
    groups = None if external.classes is None else tuple(external.classes.values())
    adapter = Adapter(loaded.network, convention, num_classes, classes=groups, name=external.name)
    adapter.eval().requires_grad_(False)
    assured = loaded.assured and convention == loaded.convention
    return adapter, {**loaded.identity, "state": state_sha256(loaded.network)}, assured


def _ordered(external: ExternalNetwork, names: tuple[str, ...]) -> ExternalNetwork:
    """Put the class mapping into the order of the dataset's classes."""
    if external.classes is None:
        return external
    missing, unknown = set(names) - set(external.classes), set(external.classes) - set(names)
    if missing or unknown:
        parts = [
            f"{what} {', '.join(sorted(group))}" for what, group in (("lacks", missing), ("has", unknown)) if group
        ]
        raise SegbenchError(
            f"{external.name}: 'classes' must name every class of the dataset ({', '.join(names)}) and no other; "
            f"it {' and '.join(parts)}"
        )
    return external.model_copy(update={"classes": {name: external.classes[name] for name in names}})


def state_sha256(network: Any) -> str:
    """Hash parameters and buffers by name, type, shape and value."""
    digest = hashlib.sha256()
    state = network.state_dict() if isinstance(network, nn.Module) else {}
    for name, value in sorted(state.items()):
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
