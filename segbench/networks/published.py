"""Networks that others published: those of mmsegmentation, and the robust ones of the authors of SEA."""

from __future__ import annotations

from collections.abc import Callable

from segbench.config.network import Convention
from segbench.errors import SegbenchError, unknown
from segbench.model_zoo.base import Segmenter
from segbench.model_zoo.published import mmseg, sea
from segbench.model_zoo.weights import State, read_state
from segbench.networks.loaded import Loaded


def from_mmseg(name: str, weights: str | None, num_classes: int | None) -> Loaded:
    """Load a network of mmsegmentation by the name of its configuration; `num_classes` is that of the weights.

    Raises:
        SegbenchError: there are no weights.
        ModelError: the configuration is not known, or the weights do not fit it.
    """
    mmseg.parse(name)
    return _loaded("mmseg", name, weights, lambda state, where: mmseg.load(name, state, where=where))


def from_sea(name: str, weights: str | None, num_classes: int | None) -> Loaded:
    """Load a robust network of the Segmentation Ensemble Attack's authors; `num_classes` is that of the weights.

    Raises:
        SegbenchError: there is no such network, or there are no weights.
        ModelError: the weights do not fit it.
    """
    plain = name.partition("?")[0]
    if plain not in sea.NETWORKS:
        raise SegbenchError(unknown("network of sea", plain, dict.fromkeys(sea.NETWORKS)))
    return _loaded("sea", name, weights, lambda state, where: sea.load(name, state, where=where))


def _loaded(
    kind: str,
    name: str,
    weights: str | None,
    load: Callable[[State, str], tuple[Segmenter, tuple[str, ...]]],
) -> Loaded:
    plain, query, _ = name.partition("?")
    if query:
        raise SegbenchError(f"{kind}:{name}: its one option is ?weights=FILE, without another file of weights")
    if weights is None:
        raise SegbenchError(f"{kind}:{plain} needs its weights: --weights FILE, or {kind}:{plain}?weights=FILE")
    state = read_state(weights)
    network, notes = load(state, weights)
    told = tuple(f"weights: {note}" for note in (*state.notes, *notes))
    return Loaded(
        network, Convention(), {kind: plain}, assured=True, notes=told, architecture=f"{kind}:{plain}", file=weights
    )
