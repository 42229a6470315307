"""The networks of cells, trained here or elsewhere, ready to be attacked: images in [0, 1] -> logits."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from segbench.components.imports import Files, local_source, watched
from segbench.config.network import Convention, ExternalNetwork
from segbench.datasets.base import Dataset
from segbench.defenses.base import Dynamic
from segbench.errors import CellError, SegbenchError
from segbench.model_zoo.base import ModelError
from segbench.model_zoo.layout import layout
from segbench.networks import class_names, loaders
from segbench.networks.adapter import Adapter
from segbench.networks.fingerprint import fingerprint
from segbench.networks.loaded import Loaded
from segbench.networks.origin import origin_of
from segbench.networks.stored import is_training
from segbench.plan.data import Data
from segbench.plan.networks import ExternalCell, NetworkCell, TrainCell
from segbench.plan.traits import traits
from segbench.reports.records import Origin
from segbench.seeding import derive
from segbench.store import Store
from segbench.torch_settings import defaults

PLACES = 64
"""Logits by which a network is known again."""
SAME = 1e-6
"""Largest difference between two answers to the same image."""
TOLERANCE = 1e-3
"""Share of the largest of these logits by which they may differ: other hardware rounds otherwise."""

TRACES = {"attributes", "object"}
"""Parts of an identity that predicting may change for good: what functions keep in globals and closures."""


def load_network(
    cell: NetworkCell, store: Store, device: torch.device, num_classes: int, ignore_index: int
) -> nn.Module:
    """Return the network of a cell in eval mode.

    Raises:
        CellError: a network from elsewhere is not what it was when the evaluation was planned.
    """
    if isinstance(cell, TrainCell):
        return _trained(cell, store, device, num_classes, ignore_index)
    kept = _kept.pop(cell.digest, None)
    found = _adapted(kept or _read(cell.external, num_classes), cell.external, num_classes)
    if kept is not None and found.identity != dict(cell.identity):
        found = _adapted(_read(cell.external, num_classes), cell.external, num_classes)
    _keep(cell, found)
    parts = {*found.identity, *cell.identity} - (TRACES if cell.digest in _seen else set())
    if "object" not in cell.identity and any(found.identity.get(key) != cell.identity.get(key) for key in parts):
        raise CellError(f"{cell.label}: its code or weights changed since the evaluation was planned; start it again")
    found.adapter.to(device)
    return _ready(found.adapter, found.assured, cell.external)


def _trained(cell: TrainCell, store: Store, device: torch.device, num_classes: int, ignore_index: int) -> nn.Module:
    """Return the network that a training deploys, in eval mode."""
    weights = load_file(store.weights(cell.digest))
    network = cell.deployed(num_classes, ignore_index)
    network.load_state_dict(weights)
    order = layout(network, device) if isinstance(network, Dynamic) else torch.channels_last
    return network.eval().requires_grad_(False).to(device, memory_format=order)  # type: ignore[call-overload, no-any-return]


def _ready(adapter: Adapter, assured: bool, external: ExternalNetwork) -> nn.Module:
    """Return what is evaluated: as it is, a network of ours may offer more than logits, such as a defense."""
    plain = external.classes is None and external.output is None and not external.binary
    return adapter.network if assured and plain and isinstance(adapter.network, nn.Module) else adapter


def weights_sha256(cell: NetworkCell, store: Store) -> str:
    """Return the hash of the weights that are scored."""
    return store.weights_sha256(cell.digest) if isinstance(cell, TrainCell) else cell.identity["state"]


class Opened(NamedTuple):
    """A network from elsewhere, loaded.

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
        SegbenchError: it cannot be loaded, names classes that the dataset does not have, or has another number of
            channels, whose names are not those of the classes.
    """
    ordered, number = _ordered(external, dataset.classes), len(dataset.classes)
    found = _adapted(_read(ordered, number), ordered, number, dataset.classes)
    cell = ExternalCell(
        data=data,
        external=found.external,
        identity=found.identity,
        convention=found.adapter.convention.plain,
        traits=traits(_ready(found.adapter, found.assured, found.external)),
        notes=found.notes,
        access=found.adapter.access,
        origin=found.origin,
    )
    _keep(cell, found)
    return Opened(cell, found.adapter, found.assured)


def open_adapter(external: ExternalNetwork, num_classes: int | None) -> Adapter:
    """Load a network that was not trained here, for whatever data, in eval mode.

    Args:
        external: its description.
        num_classes: classes of a network that is built here; None where it knows its own.
    """
    return _adapted(_read(external, num_classes), external, num_classes).adapter


def answers(first: Tensor, second: Tensor) -> tuple[float, ...]:
    """Return logits of a network at fixed places of an image, by which it is known again.

    Args:
        first: what it answered to an image, (1, C, H, W).
        second: what it answered to the same image again.

    Returns:
        `PLACES` logits; none where the two differ.
    """
    # Class by class: of large images with many classes, a second copy of all logits would be gigabytes.
    apart = [float((one - other).abs().max()) for one, other in zip(first.unbind(1), second.unbind(1), strict=True)]
    if not all(difference <= SAME for difference in apart):  # infinite and NaN are not, either
        return ()
    return at_places(first)


def at_places(logits: Tensor) -> tuple[float, ...]:
    """Return the logits (1, C, H, W) of an image at `PLACES` fixed places."""
    (height, width), last = logits.shape[2:], logits.numel() - 1
    places = torch.linspace(0, last, PLACES, dtype=torch.float32).long().clamp_max(last)  # float32 may round upwards
    places = places.to(logits.device)
    found = logits[0, places // (height * width), places // width % height, places % width]
    return tuple(found.double().tolist())


def same_answers(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two networks gave the same answers, up to rounding; unknown answers differ from none."""
    if not one or not other:
        return True
    largest = max(1.0, *(abs(value) for value in one))
    return all(abs(a - b) <= TOLERANCE * largest for a, b in zip(one, other, strict=True))


class _Read(NamedTuple):
    loaded: Loaded
    files: Files


class _Found(NamedTuple):
    read: _Read
    external: ExternalNetwork
    adapter: Adapter
    identity: dict[str, str]
    assured: bool
    notes: tuple[str, ...]
    origin: Origin


_kept: dict[str, _Read] = {}
"""The network from elsewhere that was loaded last, by the digest of its cell: sweep after sweep asks for the same."""

_seen: set[str] = set()
"""Digests of cells whose networks were in every part what was planned when this process first loaded them."""


def _keep(cell: ExternalCell, found: _Found) -> None:
    if found.identity == dict(cell.identity):
        _seen.add(cell.digest)
    _kept.clear()
    _kept[cell.digest] = found.read


def forget() -> None:
    """Let go of the network that was loaded last."""
    _kept.clear()


def _read(external: ExternalNetwork, num_classes: int | None) -> _Read:
    """Load a network, and note the files that it is made from.

    Raises:
        SegbenchError: there is none, or its first image decides the shape of its weights.
    """
    try:
        with defaults(), torch.random.fork_rng(devices=[]), watched() as files:
            torch.manual_seed(derive(external.seed, "weights"))
            loaded = loaders.load(
                external.load,
                external.weights,
                num_classes,
                trust=external.trust,
                incomplete=external.incomplete,
            )
    except ModelError as error:
        raise SegbenchError(str(error)) from error
    if any(is_lazy(own) for own in (*loaded.network.parameters(), *loaded.network.buffers())):
        raise SegbenchError(unfinished(external.name))
    return _Read(loaded, files)


def unfinished(name: str) -> str:
    """Say that a network makes weights when it first predicts."""
    return (
        f"{name}: some of its weights are made, at random, when it first predicts (a lazy layer); pass an image "
        "through it where it is built, and then load its weights"
    )


def _adapted(read: _Read, external: ExternalNetwork, num_classes: int | None, classes: Sequence[str] = ()) -> _Found:
    """Return a network under the contract of this house, with the hashes of what it is made of now."""
    loaded = read.loaded
    roles = {Path(external.load).resolve(): "network"}
    if external.weights is not None:
        roles[Path(external.weights.partition("::")[0]).resolve()] = "weights"
    if loaded.modules and (source := local_source(loaded.modules[0])) is not None:
        roles[source] = "factory"
    # A training is the network whatever else its store holds; records come as the network is evaluated.
    files = () if is_training(external.load) else read.files
    made = fingerprint(loaded.network, loaded.modules, files, roles)
    identity = {**loaded.identity, **made.hashes}
    notes = list(loaded.notes)
    if made.uncovered:
        identity["object"] = uuid.uuid4().hex
        notes.append(f"its results are not found again, because it holds {made.uncovered[0]}, which cannot be hashed")
    if classes and external.classes is None:
        matched, said = class_names.match(external.name, loaded.class_names, classes)
        external = external.model_copy(update={"classes": matched})
        notes += said
    try:
        convention = Convention.model_validate({**loaded.convention.model_dump(), **external.convention})
    except ValidationError as error:
        reasons = "; ".join(str(detail["msg"]) for detail in error.errors())
        raise SegbenchError(f"{external.name}: convention: {reasons}") from error
    groups = None if external.classes is None else tuple(external.classes.values())
    adapter = Adapter(
        loaded.network,
        convention,
        num_classes,
        classes=groups,
        name=external.name,
        output=external.output,
        binary=external.binary,
        access=external.access or loaded.access,
    )
    adapter.eval().requires_grad_(False)
    assured = loaded.assured and convention == loaded.convention
    origin = origin_of(external, loaded, adapter, made.source)
    return _Found(read, external, adapter, identity, assured, tuple(notes), origin)


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
