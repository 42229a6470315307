"""A matrix file -> a frozen Matrix, or every mistake in it at once, each with its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segbench.components import catalog
from segbench.components.specs import Problem
from segbench.config.check import matrix_of
from segbench.config.folders import data_variable
from segbench.config.matrix import Matrix
from segbench.config.overrides import lay, set_value
from segbench.config.source import Source, builtin_matrices, from_data, read
from segbench.errors import SegbenchError

__all__ = ["OPTIONS", "builtin_matrices", "data_variable", "load_matrix", "matrix_from_data"]

OPTIONS = {
    "--store": ("runtime", "store"),
    "--device": ("runtime", "device"),
    "--workers": ("runtime", "workers"),
    "--engine": ("runtime", "engine"),
    "--address": ("runtime", "address"),
    "--slurm": ("runtime", "slurm"),
    "--limit": ("limit",),
    "--metrics": ("report", "metrics"),
    "--track": ("runtime", "track"),
    "--profile": ("runtime", "profile"),
}
"""Options of the command line, with the path of the value in a matrix."""


def load_matrix(matrix: str, overrides: Sequence[str] = (), options: Mapping[str, Any] | None = None) -> Matrix:
    """Read a built-in matrix or a YAML file.

    Args:
        matrix: name of a built-in matrix, or path of a file.
        overrides: "key.path=value" texts, whose values are YAML, laid over the file.
        options: values by the name of the command line's option, laid over both as they are; None for those not set.

    Raises:
        MatrixError: with every mistake found, a line each.
    """
    source = read(matrix)
    for text in overrides:
        set_value(source, text)
    for option, value in (options or {}).items():
        if value is not None:
            lay(source, OPTIONS[option], value, option, option)
    return _checked(source)


def matrix_from_data(data: Mapping[str, Any], name: str) -> Matrix:
    """Validate a matrix that was not written to a file.

    Args:
        data: what a file would hold.
        name: name of the matrix.

    Raises:
        MatrixError: with every mistake found, a line each.
    """
    return _checked(from_data(data, name))


def _checked(source: Source) -> Matrix:
    _load_plugins(source)
    found = matrix_of(source.data, source.name)
    if isinstance(found, list):
        raise source.error(found)
    if source.mistakes or source.refused:
        raise source.error([])
    return found


def _load_plugins(source: Source) -> None:
    """Let the components of a matrix's plugins join the catalog; their files lie beside that of the matrix."""
    written = source.data.get("plugins", ())
    for index, plugin in enumerate([written] if isinstance(written, str) else written or ()):
        if isinstance(plugin, str) and plugin:
            try:
                catalog.add_plugins([plugin], Path(source.where).parent if source.where else Path())
            except SegbenchError as error:
                raise source.error([Problem(("plugins", index), str(error))]) from error
