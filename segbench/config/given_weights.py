"""Files of published weights that the user names for the networks of a matrix: --weights NAME=FILE."""

from __future__ import annotations

from collections.abc import Sequence

from segbench.config.matrix import Matrix
from segbench.errors import SegbenchError, unknown
from segbench.files import is_file


def with_weights(matrix: Matrix, items: Sequence[str]) -> Matrix:
    """Give networks of a matrix their weights.

    Args:
        matrix: the matrix.
        items: "NAME=FILE" texts, a network's name and its file; `FILE::KEY` is a part of one.

    Raises:
        SegbenchError: a text has another form, or there is no such network or file.
    """
    given: dict[str, str] = {}
    names = {network.name: None for network in matrix.networks}
    for item in items:
        name, equals, file = item.partition("=")
        if not equals or not file:
            raise SegbenchError(f"--weights {item}: expected NAME=FILE, the name of a network in {matrix.name}")
        if name not in names:
            raise SegbenchError(f"--weights {item}: {unknown(f'network in {matrix.name}', name, names)}")
        if name in given:
            raise SegbenchError(f"--weights {item}: {name} has weights already, {given[name]}; keep one")
        if not is_file(file) and not is_file(file.rpartition("::")[0]):
            raise SegbenchError(f"--weights {item}: there is no file {file}")
        given[name] = file
    networks = tuple(
        network.model_copy(update={"weights": given[network.name]}) if network.name in given else network
        for network in matrix.networks
    )
    return matrix.model_copy(update={"networks": networks})


def without_awaiting(matrix: Matrix) -> tuple[Matrix, tuple[str, ...]]:
    """Leave out the networks whose published weights nobody named.

    Returns:
        The matrix without them, and a sentence about what was left out, if anything was.

    Raises:
        SegbenchError: nothing is left.
    """
    awaiting = [network.name for network in matrix.networks if network.awaits_weights]
    if not awaiting:
        return matrix, ()
    rest = tuple(network for network in matrix.networks if not network.awaits_weights)
    if not rest and not matrix.models:
        raise SegbenchError(
            f"{matrix.name}: its networks need their published weights; give --weights NAME=FILE for one or more of "
            f"{', '.join(awaiting)}"
        )
    return matrix.model_copy(update={"networks": rest}), (f"left out, without --weights: {', '.join(awaiting)}",)
