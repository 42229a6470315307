"""A matrix file -> a frozen Matrix, or every mistake in it at once, each with its line."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from segbench.components import catalog, specs
from segbench.components.specs import Bound, Problem
from segbench.config.matrix import Augmentation, Matrix, MatrixFile, Recipe, Runtime, Trained
from segbench.config.network import ExternalNetwork, parse_network
from segbench.errors import MatrixError, SegbenchError

SINGULAR = ("dataset", "model", "defense", "seed", "attack", "network")
"""Keys that may be written in place of their plural, for one value."""


def builtin_matrices() -> dict[str, str]:
    """Names of the built-in matrices with their titles."""
    found = {}
    for entry in sorted((files("segbench") / "matrices").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".yaml"):
            found[entry.name.removesuffix(".yaml")] = str(yaml.safe_load(entry.read_text()).get("title", ""))
    return found


def load_matrix(matrix: str, overrides: Sequence[str] = ()) -> Matrix:
    """Read a built-in matrix or a YAML file.

    Args:
        matrix: name of a built-in matrix, or path of a file.
        overrides: "key.path=value" texts, laid over the file.

    Raises:
        MatrixError: with every mistake found, a line each.
    """
    source, content = _read(matrix)
    try:
        root = yaml.compose(content, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise MatrixError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from error
    lines = dict(_lines(root)) if root is not None else {}
    data = yaml.safe_load(content) or {}
    if not isinstance(data, dict):
        raise MatrixError(f"{source}: a matrix is a mapping of keys such as 'models' and 'attacks'")
    for text in overrides:
        _override(data, text, lines)
    for one in SINGULAR:
        if one in data and f"{one}s" not in data:
            data[f"{one}s"] = [data.pop(one)]
            lines |= {(f"{one}s", 0, *path[1:]): line for path, line in lines.items() if path[:1] == (one,)}
    default_name = Path(matrix).stem if source != matrix or matrix.endswith((".yaml", ".yml")) else matrix
    found, problems = _validate(data, default_name)
    if found is None or problems:
        raise MatrixError("\n".join(dict.fromkeys(f"{source}{_line(lines, p.path)}: {p.message}" for p in problems)))
    return found


def matrix_from_data(data: Mapping[str, Any], name: str) -> Matrix:
    """Validate a matrix that was not written to a file.

    Args:
        data: what a file would hold.
        name: name of the matrix.

    Raises:
        MatrixError: with every mistake found, a line each.
    """
    found, problems = _validate(dict(data), name)
    if found is None or problems:
        raise MatrixError("\n".join(dict.fromkeys(problem.message for problem in problems)))
    return found


def _read(matrix: str) -> tuple[str, str]:
    path = Path(matrix)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise MatrixError(f"{matrix}: no such file; built-in matrices: {', '.join(builtin_matrices())}")
        return matrix, path.read_text()
    entry = files("segbench") / "matrices" / f"{matrix}.yaml"
    if not entry.is_file():
        raise MatrixError(f"{catalog.unknown('matrix', matrix, builtin_matrices())}; a file's name ends in .yaml")
    return f"{matrix}.yaml", entry.read_text()


def _lines(node: yaml.Node, path: tuple[str | int, ...] = ()) -> Iterable[tuple[tuple[str | int, ...], int]]:
    """Yield the line of every key and item of a document."""
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _lines(value, (*path, key.value))
            yield (*path, key.value), key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*path, index))


def _line(lines: Mapping[tuple[str | int, ...], int], path: Sequence[str | int]) -> str:
    for end in range(len(path), 0, -1):
        if tuple(path[:end]) in lines:
            line = lines[tuple(path[:end])]
            return f":{line}" if line else " (--set)"
    return ""


def _override(data: dict[str, Any], text: str, lines: dict[tuple[str | int, ...], int]) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise MatrixError(f"--set {text}: expected key.path=value, for instance recipe.iterations=100")
    path: tuple[str | int, ...] = tuple(int(part) if part.isdigit() else part for part in key.split("."))
    here: Any = data
    for step, following in itertools.pairwise(path):
        if isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
        elif isinstance(here, dict):
            here = here.setdefault(str(step), [] if isinstance(following, int) else {})
        else:
            raise MatrixError(f"--set {text}: there is nothing at {step!r} of {key}")
    try:
        here[path[-1] if isinstance(here, list) else str(path[-1])] = yaml.safe_load(value)
    except (TypeError, IndexError) as error:
        raise MatrixError(f"--set {text}: there is nothing at {path[-1]!r} of {key}") from error
    lines[path] = 0


def _validate(data: dict[str, Any], default_name: str) -> tuple[Matrix | None, list[Problem]]:
    """Check a document against `MatrixFile` and bind every component in it."""
    try:
        written = MatrixFile.model_validate(data)
    except ValidationError as error:
        known = {path: names for path, names in (((), MatrixFile.model_fields), (("runtime",), Runtime.model_fields))}
        return None, [_problem(tuple(d["loc"]), d, known) for d in error.errors()]
    problems: list[Problem] = []

    def each(kind: str, key: str, values: Iterable[Any], drop: str | None = None) -> list[Bound]:
        bound = []
        for index, value in enumerate(values):
            if drop and isinstance(value, Mapping):
                value = {k: v for k, v in value.items() if k != drop}
            result, found = specs.bind(kind, value)
            problems.extend(Problem((*key.split("."), index, *p.path), p.message) for p in found)
            bound += [result] if result else []
        return bound

    datasets = each("dataset", "datasets", written.datasets)
    trains = not written.networks or bool({"models", "defenses"} & written.model_fields_set)
    models = each("model", "models", written.models) if trains else []
    defenses = each("defense", "defenses", written.defenses, drop="recipe") if trains else []
    networks, found = _networks(written.networks)
    problems += found
    attacks = each("attack", "attacks", _expanded(written.attacks))
    transfer = written.transfer
    if transfer and transfer.attacks is not None:
        transferred = each("attack", "transfer.attacks", _expanded(transfer.attacks))
    else:
        transferred = [a for a in attacks if a.attack().threat.access != "none"] if transfer else []
    protocol, found = specs.bind("protocol", written.protocol)
    problems += [Problem(("protocol", *p.path), p.message) for p in found]
    common, found = _recipe(written.recipe, ("recipe",)) if trains else (None, [])
    problems += found
    if written.recipe and not trains:
        problems.append(Problem(("recipe",), "a recipe trains nothing here: there are networks, but no models"))
    recipes = []
    for index, value in enumerate(written.defenses if trains else ()):
        own = value.get("recipe", {}) if isinstance(value, Mapping) else {}
        recipe, found = _recipe({**written.recipe, **own}, ("defenses", index, "recipe")) if own else (common, [])
        problems += found
        recipes.append(recipe)
    names = {**{d.component.name: None for d in defenses}, **{network.defense: None for network in networks}}
    if transfer and names and transfer.substitutes not in names:
        message = catalog.unknown("defense", transfer.substitutes, names)
        problems.append(Problem(("transfer", "substitutes"), f"{message} (substitutes are networks of this matrix)"))
    if transfer and len(models) + len({network.name for network in networks}) == 1 and not problems:
        problems.append(Problem(("transfer",), "transfer needs a second model: substitutes are other architectures"))
    problems += _repeated("seeds", written.seeds)
    for key, group in (("datasets", datasets), ("models", models), ("attacks", attacks)):
        problems += _repeated(key, [b.short for b in group])
    for key, values in (("datasets", datasets), ("models", models), ("attacks", attacks), ("seeds", written.seeds)):
        if not values and (trains or key != "models") and not any(p.path and p.path[0] == key for p in problems):
            problems.append(Problem((key,), f"{key} must not be empty"))
    shorts = {a.short for a in attacks} | {a.component.name for a in attacks}
    for column, members in written.worst_of.items():
        for member in members:
            chosen, wrong = specs.bind("attack", member)
            if wrong or (chosen and chosen.short not in shorts and member not in shorts):
                message = wrong[0].message if wrong else f"{member!r} is not one of the matrix's attacks"
                problems.append(Problem(("worst_of", column), message))
    if problems or protocol is None:
        return None, problems
    trained = [Trained(defense=d, recipe=r) for d, r in zip(defenses, recipes, strict=True) if r is not None]
    matrix = Matrix(
        name=written.name or default_name,
        title=written.title or f"segbench: {written.name or default_name}",
        datasets=tuple(datasets),
        models=tuple(models),
        defenses=tuple(trained),
        seeds=written.seeds,
        networks=tuple(networks),
        attacks=tuple(attacks),
        white_box=written.white_box,
        substitutes=transfer.substitutes if transfer else None,
        transfer_attacks=tuple(transferred),
        worst_of=written.worst_of,
        protocol=protocol,
        split=written.split,
        limit=written.limit,
        attack_seed=written.attack_seed,
        runtime=_with_environment(written.runtime, datasets),
    )
    return matrix, []


def _networks(values: Sequence[Any]) -> tuple[list[ExternalNetwork], list[Problem]]:
    found: list[ExternalNetwork] = []
    problems: list[Problem] = []
    for index, value in enumerate(values):
        network, wrong = parse_network(value)
        problems += [Problem(("networks", index, *p.path), p.message) for p in wrong]
        if network is None:
            continue
        if (network.name, network.defense, network.seed) in [(n.name, n.defense, n.seed) for n in found]:
            message = f"{network.name} with {network.defense}, seed {network.seed}, stands twice; set 'name' or 'seed'"
            problems.append(Problem(("networks", index), message))
        found.append(network)
    return found, problems


def _expanded(values: Iterable[Any]) -> list[Any]:
    """Replace an attack whose eps is a list by one attack for each eps: a robustness curve."""
    expanded: list[Any] = []
    for value in values:
        try:
            name, options = specs.parse(value)
        except SegbenchError:
            expanded.append(value)
            continue
        eps = options.get("eps")
        if isinstance(eps, str) and eps.startswith("["):
            eps = [part.strip() for part in eps.strip("[]").split(",")]
        if isinstance(eps, list):
            expanded += [{"name": name, **options, "eps": one} for one in eps]
        else:
            expanded.append(value)
    return expanded


def _recipe(values: Mapping[str, Any], where: tuple[str | int, ...]) -> tuple[Recipe | None, list[Problem]]:
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        known = {(): Recipe.model_fields, ("augmentation",): Augmentation.model_fields}
        found = [_problem(tuple(d["loc"]), d, known) for d in error.errors()]
        return None, [Problem((*where, *p.path), p.message) for p in found]
    if (recipe.iterations is None) == (recipe.epochs is None):
        both = "both are given" if recipe.iterations else "neither is"
        return None, [Problem(where, f"a recipe says how long: iterations or epochs, here {both}")]
    return recipe, []


def _problem(path: tuple[str | int, ...], detail: Any, known: Mapping[Any, Any]) -> Problem:
    key = str(path[-1]) if path else ""
    if detail["type"] == "extra_forbidden":
        return Problem(path, catalog.unknown("key", key, known.get(path[:-1], {})))
    message = str(detail["msg"])
    where = ".".join(str(part) for part in path)
    return Problem(path, f"{where}: {message[0].lower()}{message[1:]}, got {detail['input']!r}")


def _repeated(key: str, values: Sequence[Any]) -> list[Problem]:
    return [
        Problem((key, index), f"{value} stands twice in {key}")
        for index, value in enumerate(values)
        if value in values[:index]
    ]


def _with_environment(runtime: Runtime, datasets: Sequence[Bound]) -> Runtime:
    """Add the folders that SEGBENCH_DATA_<NAME> names, where the matrix names none."""
    data = dict(runtime.data)
    for dataset in datasets:
        name = dataset.component.name
        variable = data_variable(name)
        if name not in data and variable in os.environ:
            data[name] = Path(os.environ[variable])
    return runtime.model_copy(update={"data": data})


def data_variable(dataset: str) -> str:
    """Return the environment variable that may name a dataset's folder."""
    return f"SEGBENCH_DATA_{dataset.upper().replace('-', '_')}"
