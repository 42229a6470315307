"""What the parts of a matrix say of each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segbench.components import catalog
from segbench.components.specs import Bound, Problem
from segbench.config import worst
from segbench.config.matrix import MatrixFile
from segbench.config.network import ExternalNetwork
from segbench.errors import unknown

Placed = Sequence[tuple[int | None, Bound]]


def all_of(
    *,
    entry: MatrixFile,
    written: Mapping[Any, Any],
    datasets: Placed,
    models: Placed,
    defenses: Sequence[Bound],
    networks: Sequence[ExternalNetwork],
    attacks: Placed,
    transferred: Sequence[Bound],
    trains: bool,
    wrong: set[str | int],
) -> list[Problem]:
    """Check a matrix's parts against each other.

    Args:
        entry: the sound part of the matrix.
        written: the matrix as it was written.
        datasets: its datasets, each with its index; likewise `models` and `attacks`.
        models: its architectures.
        defenses: its defenses.
        networks: its networks from elsewhere.
        attacks: its attacks.
        transferred: the attacks of its transfers.
        trains: whether it trains networks.
        wrong: keys of which something is wrong already: what depends on them is not judged.
    """
    groups = {"datasets": datasets, "models": models, "attacks": attacks}
    found: list[Problem] = []
    seeds = written.get("seeds")
    listed = seeds if isinstance(seeds, list | tuple) else ()
    numbers = [(index, str(seed)) for index, seed in enumerate(listed) if type(seed) is int]
    found += _repeated("seeds", numbers)
    for key, group in groups.items():
        found += _repeated(key, [(index, bound.short) for index, bound in group])
    counts = {key: len(group) for key, group in groups.items() if trains or key != "models"}
    counts |= {"seeds": len(entry.seeds), **({"defenses": len(entry.defenses)} if trains else {})}
    found += [
        Problem((key,), f"{key} must not be empty") for key, count in counts.items() if not count and key not in wrong
    ]
    found += _of_transfer(entry, models, defenses, networks, wrong)
    found += _of_substitutes(models, networks, wrong)
    white = [bound for _, bound in attacks] if entry.white_box else []
    sides = None if wrong & {"attacks", "transfer", "white_box"} else (white, transferred)
    found += worst.problems_of(written.get("worst_of"), sides)
    found += _of_reference(entry.report.reference, [bound for _, bound in models], defenses, networks, wrong)
    for dataset in entry.runtime.data:
        if dataset not in catalog.components("dataset"):
            message = unknown("dataset", dataset, catalog.components("dataset"))
            found.append(Problem(("runtime", "data", dataset), f"runtime.data: {message}"))
    return found


def _repeated(key: str, values: Sequence[tuple[int | None, str]]) -> Iterator[Problem]:
    seen = set()
    for index, value in values:
        if value in seen:
            yield Problem((key, *(() if index is None else (index,))), f"{value} stands twice in {key}")
        seen.add(value)


def _of_transfer(
    entry: MatrixFile,
    models: Placed,
    defenses: Sequence[Bound],
    networks: Sequence[ExternalNetwork],
    wrong: set[str | int],
) -> Iterator[Problem]:
    if entry.transfer is None or wrong & {"transfer", "defenses", "networks"}:
        return
    names = {**{bound.component.name: None for bound in defenses}, **{network.defense: None for network in networks}}
    if names and entry.transfer.substitutes not in names:
        message = unknown("defense", entry.transfer.substitutes, names)
        yield Problem(("transfer", "substitutes"), f"{message} (substitutes are networks of this matrix)")
    if len(models) + len({network.name for network in networks}) == 1 and "models" not in wrong:
        yield Problem(("transfer",), "transfer needs a second model: substitutes are other architectures")


def _of_substitutes(models: Placed, networks: Sequence[ExternalNetwork], wrong: set[str | int]) -> Iterator[Problem]:
    if wrong & {"models", "networks"}:
        return
    names = dict.fromkeys((*(bound.component.name for _, bound in models), *(network.name for network in networks)))
    for index, network in enumerate(networks):
        for name in network.substitutes:
            others = {other: None for other in names if other != network.name}
            if name not in others:
                message = unknown("network", name, others)
                yield Problem(("networks", index, "substitutes"), f"substitutes of {network.name}: {message}")
    if networks and not models and not any(network.scored for network in networks):
        yield Problem(("networks",), "every network is only a substitute (scored: false), so that nothing is scored")


def _of_reference(
    name: str,
    models: Sequence[Bound],
    defenses: Sequence[Bound],
    networks: Sequence[ExternalNetwork],
    wrong: set[str | int],
) -> Iterator[Problem]:
    """Check that the reference of corruption errors is one network of the matrix."""
    if not name or wrong & {"report", "models", "defenses", "networks"}:
        return
    names: dict[str, set[str]] = {}
    for model in models:
        for defense in defenses:
            for text in (model.name, model.short, *_pairs((model.name, model.short), (defense.name, defense.short))):
                names.setdefault(text, set()).add(f"{model.short} with {defense.short}")
    for network in networks:
        for text in (network.name, f"{network.name} with {network.defense}"):
            names.setdefault(text, set()).add(f"{network.name} with {network.defense}")
    meant = sorted(names.get(name, ()))
    if not meant:
        yield Problem(("report", "reference"), f"report.reference: {unknown('network', name, names)}")
    elif len(meant) > 1:
        message = f"report.reference: {name} can be {', '.join(meant)}; write one of these"
        yield Problem(("report", "reference"), message)


def _pairs(models: Sequence[str], defenses: Sequence[str]) -> list[str]:
    return [f"{model} with {defense}" for model in models for defense in defenses]
