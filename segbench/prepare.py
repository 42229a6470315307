"""Before anything runs: find each dataset's files, fingerprint them, and check every one once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segbench.cells import needs_root
from segbench.config import Matrix, data_variable
from segbench.datasets.base import Dataset
from segbench.datasets.check import check
from segbench.errors import DataError
from segbench.plan import Plan, build
from segbench.specs import Bound

UNKNOWN = "unknown"
"""The fingerprint of a dataset that is not there."""


def open_bound(dataset: Bound, data: Mapping[str, Path]) -> Dataset:
    """Open a dataset in the folder that the user named for it.

    Raises:
        DataError: no folder was named, or there is none.
    """
    name = dataset.component.name
    if not needs_root(dataset.component):
        opened: Dataset = dataset.make()
        return opened
    if name not in data:
        raise DataError(f"{name}: where are its files? give --data {name}=FOLDER or set {data_variable(name)}=FOLDER")
    root = data[name].expanduser()
    if not root.is_dir():
        raise DataError(f"{name}: there is no folder {root} (given with --data, {data_variable(name)} or the matrix)")
    opened = dataset.make(root=root)
    return opened


def checked_plan(matrix: Matrix, cache: Path) -> Plan:
    """Return the plan of a matrix whose data was found and checked; a check that passed is not repeated.

    Args:
        matrix: the matrix.
        cache: folder that remembers which files passed.

    Raises:
        DataError: with every problem found.
    """
    fingerprints = {}
    for bound in matrix.datasets:
        dataset = open_bound(bound, matrix.runtime.data)
        used = dict.fromkeys((*(trained.recipe.split for trained in matrix.defenses), matrix.split))
        for split in used:
            dataset.split(split)
        check(dataset, splits=list(used), cache=cache)
        fingerprints[bound.short] = dataset.fingerprint()
    return build(matrix, fingerprints)


def tentative_plan(matrix: Matrix) -> Plan:
    """Return the plan of a matrix whose data need not be there."""
    fingerprints = {}
    for bound in matrix.datasets:
        try:
            fingerprints[bound.short] = open_bound(bound, matrix.runtime.data).fingerprint()
        except DataError:
            fingerprints[bound.short] = UNKNOWN
    return build(matrix, fingerprints)
