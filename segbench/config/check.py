"""The content of a matrix -> a frozen Matrix, or every mistake in it at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from segbench.components import specs
from segbench.components.specs import Bound, Problem
from segbench.config import cross_checks, labels, worst
from segbench.config.expand import expanded
from segbench.config.folders import environment_folders, with_environment
from segbench.config.matrix import Matrix, MatrixFile, Recipe, Runtime, Trained, Transfer
from segbench.config.names import wrong_name
from segbench.config.network import ExternalNetwork, parse_network
from segbench.config.own import declare, written_names
from segbench.config.schema import broken, paths_of, sound
from segbench.errors import DataError, shown

MOST = 1_000
"""Entries of a list, such as the attacks."""

_ELSEWHERE = {**paths_of(Transfer, "transfer."), **paths_of(Runtime, "runtime."), **paths_of(Recipe, "recipe.")}
_BELOW = {key: path for key, path in _ELSEWHERE.items() if key not in MatrixFile.model_fields}


def matrix_of(data: Mapping[Any, Any], name: str) -> Matrix | list[Problem]:
    """Check the content of a matrix.

    Args:
        data: the content, with plural keys.
        name: name of the matrix unless the content says another.

    Returns:
        The matrix, or what is wrong.
    """
    data, problems = _bounded(data)
    entry, found = sound(MatrixFile, data, _BELOW)
    problems += found
    problems += _misnamed(entry, name, problems)
    trains = not entry.networks or bool({"models", "defenses"} & entry.model_fields_set)
    problems += _own_datasets(entry)
    datasets = _group("dataset", "datasets", enumerate(entry.datasets))
    models = _group("model", "models", enumerate(entry.models if trains else ()))
    attacks = _group("attack", "attacks", expanded(entry.attacks, MOST))
    transfer = entry.transfer
    own = transfer.attacks if transfer else None
    transferred = _group("attack", "transfer.attacks", expanded(own or (), MOST))
    protocol = _group("protocol", "protocol", [(None, entry.protocol)])
    networks, wrong_networks = _networks(entry.networks)
    defenses, wrong_defenses = _defenses(entry, trains)
    for group in (datasets, models, attacks, transferred, protocol):
        problems += group.problems
    problems += wrong_networks + wrong_defenses
    if entry.recipe and not trains:
        problems.append(Problem(("recipe",), "a recipe trains nothing here: there are networks, but no models"))
    if transfer and own is None:
        transferred_attacks = [bound for _, bound in attacks.bound if bound.attack().threat.access != "none"]
    else:
        transferred_attacks = [bound for _, bound in transferred.bound]
    problems += cross_checks.all_of(
        entry=entry,
        written=data,
        datasets=datasets.bound,
        models=models.bound,
        defenses=[bound for bound, _ in defenses],
        networks=networks,
        attacks=attacks.bound,
        transferred=transferred_attacks,
        trains=trains,
        wrong=broken(problems),
    )
    named = [bound for group in (datasets, models, attacks, transferred, protocol) for _, bound in group.bound]
    named += [bound for bound, _ in defenses]
    others = {*entry.worst_of, *(network.name for network in networks), *(network.defense for network in networks)}
    if not problems:
        problems += labels.problems_of(data.get("labels"), named, others)
    if problems:
        return problems
    own_name = entry.name or name
    return Matrix(
        name=own_name,
        title=entry.title or f"segbench: {own_name}",
        datasets=tuple(bound for _, bound in datasets.bound),
        models=tuple(bound for _, bound in models.bound),
        defenses=tuple(Trained(defense=bound, recipe=recipe) for bound, recipe in defenses if recipe is not None),
        seeds=entry.seeds,
        networks=tuple(networks),
        attacks=tuple(bound for _, bound in attacks.bound),
        white_box=entry.white_box,
        substitutes=transfer.substitutes if transfer else None,
        transfer_attacks=tuple(transferred_attacks),
        worst_of=worst.resolved(entry.worst_of, [*(bound for _, bound in attacks.bound), *transferred_attacks]),
        protocol=protocol.bound[0][1],
        split=entry.split,
        limit=entry.limit,
        attack_seed=entry.attack_seed,
        precision=entry.precision,
        labels=labels.resolved(entry.labels, named, others),
        report=entry.report,
        runtime=with_environment(entry.runtime, [bound.component.name for _, bound in datasets.bound]),
    )


def _own_datasets(entry: MatrixFile) -> list[Problem]:
    """Let the names of the user's own datasets be known before they are looked for."""
    problems = []
    for name, folder in {**environment_folders(written_names(entry.datasets)), **entry.runtime.data}.items():
        try:
            declare({name: folder})
        except DataError as error:
            problems.append(Problem(("runtime", "data", name), str(error)))
    return problems


def _bounded(data: Mapping[Any, Any]) -> tuple[dict[Any, Any], list[Problem]]:
    """Leave out lists that are too long for anyone to run."""
    long = {key: len(value) for key, value in data.items() if isinstance(value, list | tuple) and len(value) > MOST}
    problems = [
        Problem((key,), f"{shown(key)} has {count:,} entries; at most {MOST:,} are read") for key, count in long.items()
    ]
    return {key: value for key, value in data.items() if key not in long}, problems


class Group(NamedTuple):
    """Components under one key.

    Attributes:
        bound: those that are sound, each with its index.
        problems: what is wrong with the others.
    """

    bound: list[tuple[int | None, Bound]]
    problems: list[Problem]


def _group(kind: str, key: str, values: Iterable[tuple[int | None, Any]]) -> Group:
    group = Group([], [])
    told: dict[Problem, None] = {}
    for index, value in values:
        bound, problems = specs.bind(kind, value)
        path = (*key.split("."), *(() if index is None else (index,)))
        told.update({Problem((*path, *problem.path), problem.message): None for problem in problems})
        if bound is not None:
            group.bound.append((index, bound))
    group.problems.extend(told)
    return group


def _misnamed(entry: MatrixFile, name: str, problems: Sequence[Problem]) -> list[Problem]:
    """Check the name that a matrix has from its file."""
    reason = wrong_name(name) if entry.name is None and "name" not in broken(problems) else None
    return [Problem((), f"{reason}; rename the file, or write 'name:' in it")] if reason else []


def _networks(values: Sequence[Any]) -> tuple[list[ExternalNetwork], list[Problem]]:
    found: list[ExternalNetwork] = []
    problems: list[Problem] = []
    for index, value in enumerate(values):
        network, wrong = parse_network(value)
        problems += [Problem(("networks", index, *problem.path), problem.message) for problem in wrong]
        if network is None:
            continue
        if (network.name, network.defense, network.seed) in [(n.name, n.defense, n.seed) for n in found]:
            message = f"{network.name} with {network.defense}, seed {network.seed}, stands twice; set 'name' or 'seed'"
            problems.append(Problem(("networks", index), message))
        found.append(network)
    return found, problems


def _defenses(entry: MatrixFile, trains: bool) -> tuple[list[tuple[Bound, Recipe | None]], list[Problem]]:
    """Bind every defense with the recipe that trains it: the common one, with its own laid over it."""
    if not trains:
        return [], []
    common, problems = _recipe(entry.recipe, ("recipe",))
    found: list[tuple[Bound, Recipe | None]] = []
    for index, value in enumerate(entry.defenses):
        own: Any = {}
        if isinstance(value, Mapping):
            own = value.get("recipe", {})
            value = {key: option for key, option in value.items() if key != "recipe"}
        bound, wrong = specs.bind("defense", value)
        problems += [Problem(("defenses", index, *problem.path), problem.message) for problem in wrong]
        recipe: Recipe | None = common
        place = ("defenses", index, "recipe")
        if not isinstance(own, Mapping):
            problems.append(Problem(place, f"recipe: expected a mapping, got {shown(own)}"))
        elif own:
            recipe, wrong = _recipe({**entry.recipe, **own}, place)
            # What is wrong with the common recipe is told there.
            lasting = {"iterations", "epochs"} & set(own)
            problems += [p for p in wrong if (p.path[3:4] and p.path[3] in own) or (p.path == place and lasting)]
        if bound is not None and any(bound.short == other.short and recipe == its for other, its in found):
            problems.append(Problem(("defenses", index), f"{bound.short} stands twice in defenses, with one recipe"))
        elif bound is not None:
            found.append((bound, recipe))
    return found, problems


def _recipe(values: Mapping[str, Any], where: tuple[str | int, ...]) -> tuple[Recipe | None, list[Problem]]:
    recipe, problems = sound(Recipe, values, _ELSEWHERE)
    if not {"iterations", "epochs"} & broken(problems) and (recipe.iterations is None) == (recipe.epochs is None):
        both = "both are there" if recipe.iterations else "neither is"
        problems.append(Problem((), f"a recipe says how long: iterations or epochs, here {both}"))
    found = [Problem((*where, *problem.path), problem.message) for problem in problems]
    return (None if found else recipe), found
