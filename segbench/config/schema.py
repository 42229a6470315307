"""A mapping against a model of its keys: the sound part of it, and a sentence for everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from segbench.components.specs import Problem
from segbench.components.values import explained
from segbench.errors import shown, unknown

MOST = 200
"""Mistakes that are told of one mapping."""

Loc = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


def sound(
    model: type[Model], data: Mapping[Any, Any], elsewhere: Mapping[str, str] = MappingProxyType({})
) -> tuple[Model, list[Problem]]:
    """Validate a mapping without the keys that are wrong, which get their defaults.

    Args:
        model: its keys, all with defaults.
        data: the mapping.
        elsewhere: keys that belong to other mappings, each with the path that leads to it.

    Returns:
        The sound part, and what is wrong with the rest.
    """
    problems = [Problem((), f"a key is a word, got {shown(key)}") for key in data if not isinstance(key, str)]
    data = {key: value for key, value in data.items() if isinstance(key, str)}
    while True:
        try:
            return model.model_validate(data), problems
        except ValidationError as error:
            details = error.errors()
        problems += [_problem(model, detail, elsewhere) for detail in details[:MOST]]
        data = _without(data, [detail["loc"] for detail in details])


def broken(problems: Sequence[Problem]) -> set[str | int]:
    """Return the first keys of the problems' paths."""
    return {problem.path[0] for problem in problems if problem.path}


def unknown_key(key: str, known: Mapping[str, Any], elsewhere: Mapping[str, str]) -> str:
    """Say that there is no such key, and which one was probably meant.

    Args:
        key: the key.
        known: the keys that there are.
        elsewhere: keys that belong to other mappings, each with the path that leads to it.
    """
    if key in elsewhere and key not in known:
        return f"there is no key {key!r} here; did you mean {elsewhere[key]!r}?"
    return unknown("key", key[:100], known)


def paths_of(model: type[BaseModel], prefix: str) -> dict[str, str]:
    """Return the path of every key of a model and of the models in it, by the key."""
    found = {}
    for name, field in model.model_fields.items():
        found[name] = f"{prefix}{name}"
        for inner in _models(field.annotation):
            found |= paths_of(inner, f"{prefix}{name}.")
    return found


def _problem(model: type[BaseModel], detail: Any, elsewhere: Mapping[str, str]) -> Problem:
    path: Loc = tuple(part for part in detail["loc"] if part != "[key]")
    where = ".".join(str(part)[:100] for part in path)
    if detail["type"] == "extra_forbidden":
        return Problem(path, unknown_key(str(path[-1]), _at(model, path[:-1]), elsewhere))
    if detail["type"] == "missing":  # all keys have defaults: it is a list that is too short
        return Problem(path[:-1], f"{'.'.join(map(str, path[:-1]))}: too few values, got {shown(detail['input'])}")
    return Problem(path, f"{where}: {explained(detail)}" if where else explained(detail))


def _at(model: type[BaseModel], path: Loc) -> Mapping[str, Any]:
    """Return the keys of a model, or of the model that a path leads to."""
    fields = model.model_fields
    for step in path:
        inner = next(_models(fields[str(step)].annotation), None) if str(step) in fields else None
        if inner is None:
            return {}
        fields = inner.model_fields
    return fields


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part


def _without(data: Mapping[str, Any], paths: Sequence[Loc]) -> dict[str, Any]:
    """Return a mapping without what paths lead to; of a list, everything goes."""
    rests: dict[str | int, list[Loc]] = {}
    for path in paths:
        if not path:
            return {}
        rests.setdefault(path[0], []).append(path[1:])
    kept: dict[str, Any] = {}
    for key, value in data.items():
        if key not in rests:
            kept[key] = value
        elif isinstance(value, Mapping) and all(rest and rest[0] in value for rest in rests[key]):
            kept[key] = _without(value, rests[key])
    return kept
