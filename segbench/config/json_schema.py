"""A JSON schema of matrix files, with which editors complete and check them."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import BaseModel

from segbench.components import catalog
from segbench.components.docstrings import attributes
from segbench.config.matrix import Augmentation, MatrixFile, Recipe, Runtime, Transfer
from segbench.config.network import ExternalNetwork
from segbench.config.source import SINGULAR

KINDS = {"datasets": "dataset", "models": "model", "defenses": "defense", "attacks": "attack"}

_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
"""What pydantic calls the bounds of a number that may also be null."""


def matrix_schema() -> dict[str, Any]:
    """Return the schema. It knows the components of the catalog, and lets other names pass: a plugin may define them.

    Source: https://json-schema.org/draft/2020-12
    """
    keys = _described(MatrixFile)
    for key, kind in KINDS.items():
        keys[key] = _several(component_schema(kind), keys[key])
    network = {"anyOf": [{"type": "string"}, _mapping(_described(ExternalNetwork))]}
    keys["networks"] = _several(network, keys["networks"])
    for key, of in (("seeds", "integer"), ("plugins", "string")):
        keys[key] = _several({"type": of}, keys[key])
    keys["protocol"] = {**component_schema("protocol"), "description": keys["protocol"]["description"]}
    keys["recipe"] = _recipe(keys["recipe"]["description"])
    keys["transfer"]["anyOf"] = [{"type": "null"}, _mapping(_described(Transfer))]
    keys["transfer"]["anyOf"][1]["properties"]["attacks"]["items"] = component_schema("attack")
    keys["runtime"] = {**_mapping(_described(Runtime)), "description": keys["runtime"]["description"]}
    for one in SINGULAR:
        several = keys[f"{one}s"]
        keys[one] = {**several["anyOf"][0], "description": f"{several['description']} One of them."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A matrix of segbench",
        **_mapping(keys),
        "patternProperties": {"^x-": {}},
    }


def component_schema(kind: str) -> dict[str, Any]:
    """Return the schema of a component as a matrix names it: a short string, or a mapping of its name and options."""
    names = list(catalog.components(kind))
    mapping = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"anyOf": [{"enum": names}, {"type": "string"}]}},
    }
    return {"anyOf": [{"enum": names}, {"type": "string"}, mapping]}


def _recipe(description: str) -> dict[str, Any]:
    keys = _described(Recipe)
    keys["augmentation"] = {**_mapping(_described(Augmentation)), "description": keys["augmentation"]["description"]}
    return {**_mapping(keys), "description": description}


def _described(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of every key of a model, with its description."""
    meanings = attributes(inspect.getdoc(model) or "")
    properties = model.model_json_schema()["properties"]
    return {
        name: {**_written(_without_titles(schema)), "description": meanings.get(name, "")}
        for name, schema in properties.items()
    }


def _written(schema: Any) -> Any:
    """Let a fraction stand for a number, and one value for a list of them."""
    if isinstance(schema, list):
        return [_written(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _written(value) for key, value in schema.items()}
    if found.get("type") == "number":
        rest = {key: value for key, value in found.items() if key in ("default", "description")}
        number = {key: value for key, value in found.items() if key not in rest}
        return {"anyOf": [number, {"type": "string", "pattern": r"^\s*[0-9.]+\s*/\s*[0-9.]+\s*$"}], **rest}
    return found


def _several(one: dict[str, Any], key: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [one, {"type": "array", "items": one}], "description": key["description"]}


def _mapping(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _without_titles(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_titles(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    left = {key: _without_titles(value) for key, value in schema.items() if key not in ("title", "$ref")}
    return {_BOUNDS.get(key, key): value for key, value in left.items()}
