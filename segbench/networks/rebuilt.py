"""A network from elsewhere, built anew from what a record says of it and from a file of weights.

The record may be a stranger's. So only libraries and segbench build the network: no code is loaded, no file but that of
the weights is read, nothing is fetched, and a network far larger than its weights is refused before it takes memory.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from segbench.components import specs
from segbench.config.network import PUBLISHED, Convention
from segbench.errors import SegbenchError
from segbench.model_zoo.weights import read_state
from segbench.networks import loaders
from segbench.networks.adapter import Adapter
from segbench.networks.huggingface import PRETRAINED, from_config
from segbench.networks.libraries import as_query
from segbench.networks.loaded import Loaded
from segbench.reports.records import Origin
from segbench.zoo.networks import LARGER, SMALL

WORD = re.compile(r"[\w. -]*")
"""A text among the options of a network: no address, no path."""
WEIGHTS = ("weights", "weights_backbone", "encoder_weights", PRETRAINED)
"""Options that load weights of a place that they name."""
SIDES, LONGEST = ("image_size", "window", "multiple", "size"), 8192
"""Numbers of pixels that images are resized or padded to, and the largest that is taken."""
MOST_TENSORS = 1000
"""A network may have so many tensors beside four times those of its weights."""


class _TooLargeError(SegbenchError):
    """A network is too large for its weights."""


def rebuilt(origin: Origin, classes: Sequence[str], weights: Path) -> Adapter:
    """Return a network with the weights of a file, in eval mode.

    Args:
        origin: what a record says of it; its `architecture` is not empty.
        classes: the classes of the dataset.
        weights: the file; read without running code.

    Raises:
        SegbenchError: it cannot be built, would need more than libraries, or the weights do not fit.
        ModelError: the file cannot be read as weights.
    """
    _refuse_places(origin)
    held = read_state(weights).tensors
    if origin.architecture.partition(":")[0] not in PUBLISHED:  # those are built to fit their weights
        with _bounded(held, str(weights)):
            _outline(origin, len(classes))
    with _bounded(held, str(weights)):
        network = _built(origin, len(classes), str(weights)).network
    groups = None
    if origin.classes is not None:
        if set(origin.classes) != set(classes):
            raise SegbenchError("its classes are not those of the dataset")
        groups = tuple(origin.classes[name] for name in classes)
    adapter = Adapter(
        network,
        Convention.model_validate(origin.convention),
        len(classes),
        classes=groups,
        name=origin.load,
        output=origin.output,
        binary=origin.binary,
    )
    return adapter.eval().requires_grad_(False)


def _built(origin: Origin, num_classes: int, weights: str | None) -> Loaded:
    prefix, colon, rest = origin.architecture.partition(":")
    if prefix == "hf":
        task = torch.tensor([origin.task]).float() if origin.task else None
        return from_config(rest, origin.config, weights, task, origin.window)
    return loaders.load(origin.architecture, weights, num_classes if not colon else None)


def _refuse_places(origin: Origin) -> None:
    """Raise an error if building a network could run code, load other weights, or ask a hub."""
    written = origin.architecture
    prefix, colon, rest = written.partition(":")
    options: Mapping[str, Any]
    if prefix in ("torchvision", "smp"):
        name, options = as_query(rest)
    elif prefix in ("hf", *PUBLISHED):
        name, options = rest, origin.config
    elif not colon and loaders.is_architecture(written):
        name, options = specs.parse(written)
    else:
        raise SegbenchError(f"{written}: networks of this kind are not built anew")
    sizes = {"window": origin.window, **origin.convention}
    for key, value in (*_leaves(name, options), *_leaves("", sizes)):
        if key in SIDES and isinstance(value, int | float) and value > LONGEST:
            raise SegbenchError(f"{written}: its {key}, {value}, is more than {LONGEST} pixels")
        if key in WEIGHTS and value not in (None, False):
            raise SegbenchError(f"{written}: its {key} would load other weights than those of the file")
        if isinstance(value, str) and not WORD.fullmatch(value):
            raise SegbenchError(f"{written}: its {key} is no name of a part of a library")
    if any(own.get("backbone") and own.get("model_type") != "timm_backbone" for own in _mappings(options)):
        raise SegbenchError(f"{written}: its backbone would be looked for on a hub")


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name of the whole, and every key and value in its options, however deep."""
    yield "name", key
    if isinstance(value, Mapping):
        for inner, own in value.items():
            yield from _leaves(str(inner), own)
    elif isinstance(value, list | tuple):
        for own in value:
            yield from _leaves(key, own)
    else:
        yield key, value


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
    for own in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from _mappings(own)


def _outline(origin: Origin, num_classes: int) -> None:
    """Build a network of weights that have a shape and take no memory, to see that it is not too large.

    The few encoders that cannot be built so have fixed sizes.
    """
    try:
        with torch.device("meta"):
            _built(origin, num_classes, None)
    except _TooLargeError:
        raise
    except SegbenchError:
        return


@contextlib.contextmanager
def _bounded(held: Mapping[str, Tensor], where: str) -> Iterator[None]:
    """Raise an error as soon as a network that is built grows far larger than the weights at hand."""
    most_bytes = LARGER * sum(value.nbytes for value in held.values()) + SMALL
    most_tensors = 4 * len(held) + MOST_TENSORS
    taken = [0, 0]

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        taken[0] += 0 if parameter is None else parameter.nbytes
        taken[1] += 1
        if taken[0] > most_bytes or taken[1] > most_tensors:
            raise _TooLargeError(f"{where}: the network is far larger than these weights")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
