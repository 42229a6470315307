"""Networks that this program trained, from the folder of their training: store/train/DIGEST."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from segbench.components import catalog
from segbench.config.network import Convention
from segbench.datasets.base import VOID
from segbench.errors import SegbenchError
from segbench.networks.loaded import Loaded
from segbench.plan.networks import TrainCell
from segbench.store import Store
from segbench.zoo.networks import trained_cells


def is_training(spec: str) -> bool:
    """Whether a text names the folder of a training in a store."""
    return Path(spec).parent.name == "train" and (Path(spec) / "cell.json").is_file()


def from_training(spec: str, weights: str | None) -> Loaded:
    """Load the network that a training deploys; its channels are named by the classes of its dataset.

    Args:
        spec: the folder of the training.
        weights: must be None.

    Raises:
        SegbenchError: the training is not finished or damaged, or nothing says how many classes it has.
    """
    if weights is not None:
        raise SegbenchError(f"{spec}: a training has its own weights, got {weights}; leave one of them out")
    folder = Path(spec).resolve()
    store = Store(folder.parent.parent)
    found = next(trained_cells(store, folder.name), None)
    if found is None:
        raise SegbenchError(f"{spec}: is no finished training")
    cell, records = found
    classes = next((record.classes for record in records if record.classes), None) or _classes(cell)
    if not classes:
        raise SegbenchError(
            f"{spec}: nothing says its classes; evaluate it on its own dataset first, with segbench run"
        )
    network = cell.deployed(len(classes), VOID)
    network.load_state_dict(load_file(store.weights(folder.name)))
    note = f"trained on {cell.data.dataset.short}"
    return Loaded(
        network, Convention(), {"training": folder.name}, assured=True, notes=(note,), class_names=tuple(classes)
    )


def _classes(cell: TrainCell) -> tuple[str, ...]:
    """Return the classes of a dataset that has the same ones whatever its files and options."""
    known = catalog.components("dataset").get(cell.data.dataset.name)
    classes = getattr(known.object, "classes", ()) if known is not None else ()
    return tuple(classes) if isinstance(classes, tuple) else ()
