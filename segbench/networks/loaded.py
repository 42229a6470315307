"""A network as it was found, before it is adapted."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

from torch import nn

from segbench.config.network import Convention, NetworkAccess
from segbench.model_zoo.weights import load_strict, read_state


class Loaded(NamedTuple):
    """A network as it was found.

    Attributes:
        network: its input -> its output.
        convention: the input that it expects, as far as its library says; images in [0, 1] where nothing is known.
        identity: the words by which it was asked for, as far as they are not places.
        assured: the convention is known for certain.
        notes: what was chosen on the way, as sentences.
        class_names: names of its channels, where its library says them.
        modules: modules by which it was built, as far as they are not installed.
        access: what it gives at most, as far as its kind says.
        architecture: what builds it anew for other weights, if libraries alone do; see `segbench.networks.rebuilt`.
        config: of a network of transformers, the options of its configuration.
        file: the one file that its weights lie in; None where there are several, or none.
    """

    network: nn.Module
    convention: Convention
    identity: dict[str, str]
    assured: bool = False
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    modules: tuple[ModuleType, ...] = ()
    access: NetworkAccess = "gradients"
    architecture: str = ""
    config: Mapping[str, Any] = MappingProxyType({})
    file: str | None = None


def with_weights(loaded: Loaded, weights: str | None) -> Loaded:
    """Load weights into a network; what had to be chosen or changed joins the notes."""
    if weights is None:
        return loaded
    state = read_state(weights)
    changed = load_strict(loaded.network, state.tensors, where=weights)
    return loaded._replace(
        file=weights.partition("::")[0],
        notes=(*loaded.notes, *(f"weights: {note}" for note in (*state.notes, *changed))),
    )
