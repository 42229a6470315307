"""Loading, adding and checking of networks in a zoo, by name: dataset/architecture/defense/seed@version."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from segbench.components import specs
from segbench.datasets.base import VOID
from segbench.files import file_sha256
from segbench.model_zoo.base import ModelError
from segbench.model_zoo.official import load_official_training
from segbench.model_zoo.weights import check_keys, load_strict
from segbench.plan.networks import TrainCell
from segbench.reports.names import is_name
from segbench.reports.records import Component, Record
from segbench.store import Store
from segbench.zoo.cards import Card, Name, ZooError, numbers, parse_name
from segbench.zoo.places import WEIGHTS, Zoo, resolve

LARGER, SMALL = 8, 1 << 24
"""A network is too large for weights of which it has more than so many times the bytes, and so many besides."""


def load(name: str, urls: Sequence[str] = ()) -> nn.Module:
    """Return a network of a zoo in eval mode: images (N, 3, H, W) in [0, 1] -> logits (N, C, H, W).

    Args:
        name: dataset/architecture/defense/seed, with @version or the latest one.
        urls: the zoos; by default those of SEGBENCH_ZOO.

    Raises:
        ZooError: no zoo has the network, or its file is damaged.
    """
    return load_with_card(name, urls)[0]


def load_with_card(name: str, urls: Sequence[str] = ()) -> tuple[nn.Module, Card]:
    """Return a network of a zoo and its card; see `load`."""
    path, card = resolve(name, urls)
    state = _read(path)
    network = fitting(card.model, card.defense, card.num_classes, state, where=str(path))
    load_strict(network, state, where=str(path))
    return network.eval().requires_grad_(False), card


def deployed(model: Component, defense: Component, num_classes: int) -> nn.Module:
    """Return the network of an architecture that a defense deploys, with fresh weights.

    Args:
        model: the architecture; initial weights of the encoder are not loaded.
        defense: the defense that trains it or wraps it.
        num_classes: number of classes that it predicts.

    Raises:
        SegbenchError: the catalog lacks the architecture or the defense in this version or with these options.
    """
    options = {name: None if name == "weights" else value for name, value in model.options.items()}
    segmenter = specs.stored("model", model.model_copy(update={"options": options})).make(num_classes=num_classes)
    network: nn.Module = (
        specs.stored("defense", defense).make(segmenter=segmenter, aux_weight=0.0, ignore_index=VOID).deploy()
    )
    return network


def fitting(
    model: Component, defense: Component, num_classes: int, state: Mapping[str, Tensor], *, where: str
) -> nn.Module:
    """Return the network of `deployed` for weights that are at hand.

    A network that is far larger than its weights is refused before it takes memory: whoever wrote the options of an
    architecture may have wanted just that.

    Args:
        model: the architecture.
        defense: the defense that trained it or wraps it.
        num_classes: number of classes that it predicts.
        state: its weights.
        where: name of their file, which an error begins with.

    Raises:
        ZooError: the network is too large for them.
        SegbenchError: as `deployed`.
    """
    outline = sketch(model, defense, num_classes)
    wanted = outline.state_dict() if outline is not None else {}
    needed, held = (sum(value.nbytes for value in values.values()) for values in (wanted, state))
    if needed > LARGER * held + SMALL:
        raise ZooError(f"{where}: {held:,} bytes of weights; {model.short} for {num_classes} classes has {needed:,}")
    return deployed(model, defense, num_classes)


def sketch(model: Component, defense: Component, num_classes: int) -> nn.Module | None:
    """Return the network of `deployed` with weights that have a shape and take no memory.

    It is None for the few encoders that cannot be built so; their size is not a matter of options.
    """
    try:
        with torch.device("meta"):
            return deployed(model, defense, num_classes)
    except (ModelError, RuntimeError, NotImplementedError):
        return None


def add(
    store: Store, cell: TrainCell, records: Sequence[Record], zoo: Zoo, *, licence: str, stem: str | None = None
) -> Card:
    """Add a trained network with its numbers to a zoo; the same weights are not added twice.

    Args:
        store: the store that holds its training.
        cell: its training.
        records: finished evaluations of the network.
        zoo: the zoo.
        licence: SPDX identifier of the weights' licence.
        stem: its name without a version; by default that of `stem_of`.

    Raises:
        ZooError: the network was not evaluated, or the zoo cannot be written.
        StoreError: the network is not trained.
    """
    weights, done = store.weights(cell.digest), store.trained(cell.digest) or {}
    chosen = stem or stem_of(cell)
    classes = next((record.classes for record in records if record.classes), ())
    if not classes:
        raise ZooError(f"{cell.label}: it was not evaluated; evaluate it first, so that its card has numbers")
    card = Card(
        name=f"{chosen}@{_version(zoo, chosen, done['weights_sha256'])}",
        model=cell.model.identity,
        defense=cell.defense.identity,
        recipe=cell.recipe,
        dataset=cell.data.dataset.identity,
        data_fingerprint=cell.data.fingerprint,
        num_classes=len(classes),
        classes=classes,
        sha256=done["weights_sha256"],
        size=weights.stat().st_size,
        training=cell.digest,
        licence=licence,
        numbers=numbers(records),
        provenance=done.get("provenance", {}),
    )
    zoo.put(card, weights)
    return card


def trained_cells(store: Store, what: str) -> Iterator[tuple[TrainCell, list[Record]]]:
    """Yield finished trainings, each with the finished evaluations of its present weights.

    Args:
        store: the store.
        what: name of a matrix of the store (all its trainings), or digest of one training.

    Raises:
        ZooError: the store has no such matrix and no such training.
    """
    manifest = store.manifest(Path(what).stem) if is_name(Path(what).stem) else None
    records = manifest.records if manifest else tuple(store.all_records())
    wanted = dict.fromkeys(r.target.digest for r in records) if manifest else [what]
    if manifest is None and not (is_name(what) and store.trained(what)):
        known = ", ".join(store.manifests()) or "none"
        raise ZooError(f"{what}: no matrix (there are: {known}) and no finished training in store {store.root}")
    for digest in wanted:
        content = store.training_cell(digest)
        if content is not None and store.trained(digest):
            weights = store.weights_sha256(digest)
            own = [r for r in records if r.target.weights_sha256 == weights and r.status == "done"]
            yield TrainCell.from_plain(content), own


def stem_of(cell: TrainCell) -> str:
    """Return the name of a network without a version, such as "digits/pspnet-tiny/sat/0".

    The architecture is named with those of its options that are words.
    """
    name, options = specs.parse(cell.model.short)
    words = [name, *(value for option, value in options.items() if isinstance(value, str) and option != "weights")]
    architecture = re.sub(r"[^a-z0-9.]+", "-", "-".join(words).lower()).strip("-")
    return f"{cell.data.dataset.name}/{architecture}/{cell.defense.name}/{cell.seed}"


def import_official(
    path: Path, name: str, zoo: Zoo, *, licence: str, source: str | None, dataset: Component | None = None
) -> Card:
    """Convert a checkpoint of the authors of DDC-AT, and add it to a zoo.

    Args:
        path: the .pth file; no code in it is run.
        name: name of the network; it contains the defense that trained it.
        zoo: the zoo.
        licence: SPDX identifier of the weights' licence.
        source: URL of the checkpoint, or None.
        dataset: the dataset that it was trained on, or None.

    Raises:
        ZooError: the file is not such a checkpoint, or the zoo cannot be written.
    """
    wanted = parse_name(name)
    defense = specs.bound("defense", wanted.defense)
    try:
        official = load_official_training(path)
    except ModelError as error:
        raise ZooError(str(error)) from error
    if (official.auxiliary_branch is not None) != (wanted.defense == "ddcat"):
        trained = "ddcat" if official.auxiliary_branch is not None else "another defense, such as none or sat"
        raise ZooError(f"{path}: trained by {trained}, as its branches show; {name} says {wanted.defense}")
    model = specs.bound("model", {"name": official.architecture, "encoder": "resnet50-deepstem"})
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, WEIGHTS)
        save_file(_plain(official.segmenter.state_dict()), weights)
        sha256 = file_sha256(weights)
        card = Card(
            name=f"{wanted.stem}@{wanted.version or _version(zoo, wanted.stem, sha256)}",
            model=model.identity,
            defense=defense.identity,
            dataset=dataset,
            num_classes=official.segmenter.num_classes,
            sha256=sha256,
            size=weights.stat().st_size,
            licence=licence,
            source=source or path.name,
        )
        zoo.put(card, weights)
    return card


def verify(name: str, urls: Sequence[str] = ()) -> Card:
    """Check that the file of a network is the one on its card, and holds exactly the weights of its architecture.

    Args:
        name: the network.
        urls: the zoos; by default those of SEGBENCH_ZOO.

    Raises:
        ZooError: one of the two is not so.
    """
    path, card = resolve(name, urls)
    state = _read(path)
    try:
        network = fitting(card.model, card.defense, card.num_classes, state, where=str(path))
        check_keys(state, network.state_dict(), where=str(path))
    except ModelError as error:
        raise ZooError(str(error)) from error
    return card


def _version(zoo: Zoo, stem: str, sha256: str) -> int:
    """Return the version with these weights, or else the next free version."""
    latest = zoo.latest(stem) or 0
    for version in range(1, latest + 1):
        card = zoo.card(Name(stem, version))
        if card is not None and card.sha256 == sha256:
            return version
    return latest + 1


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous() for name, value in state.items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ZooError(f"{path}: not a safetensors file ({error})") from error
