"""Names of the user's own datasets: what the `name` in a folder's `dataset.yaml` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from segbench.components import catalog, specs
from segbench.components.specs import Bound
from segbench.config.matrix import Matrix
from segbench.errors import DataError, SegbenchError

DESCRIPTION = "dataset.yaml"


def declare(folders: Mapping[str, Path]) -> None:
    """Let the names by which folders are given mean the user's own datasets, where their `dataset.yaml` says so.

    Args:
        folders: by name; one that is the name of a dataset of segbench, or has no `dataset.yaml`, is passed over.

    Raises:
        DataError: a description has mistakes, or says another name.
    """
    for name, folder in folders.items():
        file = folder.expanduser() / DESCRIPTION
        if _of_segbench(name) or not file.is_file():
            continue
        said = own_name(folder)
        if said != name:
            instead = f"write 'name: {name}' in it" if said is None else f"call it {said}"
            raise DataError(f"{file}: says {'no name' if said is None else f'the name {said!r}'}; {instead}")
        catalog.declare_dataset(name)


def own_name(folder: Path) -> str | None:
    """Return the name that the description of a folder says.

    Raises:
        DataError: the description has mistakes, or its name is that of a dataset of segbench.
    """
    from segbench.datasets.tools.description import read_description

    file = folder.expanduser() / DESCRIPTION
    name = read_description(file).name
    if name is not None and _of_segbench(name):
        raise DataError(f"{file}: segbench has a dataset {name!r} itself; give this one another name")
    return name


def _of_segbench(name: str) -> bool:
    """Whether a name is that of a dataset of segbench or of an installed package, and not a declared one."""
    known = catalog.components("dataset")
    return (name in known and known[name].module != known[catalog.OWN_DATASET].module) or name == catalog.OWN_DATASET


def named(bound: Bound, data: Mapping[str, Path]) -> tuple[Bound, Mapping[str, Path]]:
    """Return a dataset by the name that its own description says, and the folders with that of this name.

    Args:
        bound: the dataset; only `folder` may have another name.
        data: folders by name.

    Raises:
        DataError: the description has mistakes.
    """
    folder = data.get(bound.name)
    if bound.name != catalog.OWN_DATASET or folder is None or not (folder.expanduser() / DESCRIPTION).is_file():
        return bound, data
    name = own_name(folder)
    if name is None:
        return bound, data
    catalog.declare_dataset(name)
    return Bound(catalog.find("dataset", name), bound.options), {**data, name: folder}


def with_own_names(matrix: Matrix) -> Matrix:
    """Return a matrix whose datasets have the names that their own descriptions say.

    Raises:
        DataError: a description has mistakes.
    """
    datasets: list[Bound] = []
    data: Mapping[str, Path] = matrix.runtime.data
    for bound in matrix.datasets:
        own, data = named(bound, data)
        datasets.append(own)
    runtime = matrix.runtime.model_copy(update={"data": data})
    return matrix.model_copy(update={"datasets": tuple(dict.fromkeys(datasets)), "runtime": runtime})


def written_names(datasets: Sequence[object]) -> list[str]:
    """Return the names in specs of datasets, as far as they can be read."""
    names = []
    for written in datasets:
        try:
            names.append(specs.parse(written)[0])
        except SegbenchError:
            continue
    return names
