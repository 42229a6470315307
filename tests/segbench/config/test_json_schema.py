"""The schema of matrix files, asked by a library of JSON schemas."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
import yaml

from segbench.config.json_schema import matrix_schema
from segbench.config.matrix import Augmentation, MatrixFile, Recipe, Runtime
from segbench.config.network import ExternalNetwork
from segbench.config.source import builtin_matrices

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = matrix_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_every_built_in_matrix_is_valid(validator: Any) -> None:
    for name in builtin_matrices():
        text = (files("segbench") / "matrices" / f"{name}.yaml").read_text()
        assert not list(validator.iter_errors(yaml.safe_load(text))), name
        assert text.startswith("# yaml-language-server: $schema="), name


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("attack: bim", None),
        ("attacks: [{name: bim, eps: [1/255, 2/255]}]", None),
        ("seed: 3", None),
        ("plugins: mine.py", None),
        ("x-common: &a {lr: 0.1}", None),
        ("recipe: {lr: 1/100, augmentation: {crop: [64, 64]}}", None),
        ("networks: [net.py:build, {load: net.py:build, seed: 1}]", None),
        ("transfer: null", None),
        ("attaks: [bim]", []),
        ("recipe: {learning_rate: 0.1}", ["recipe"]),
        ("runtime: {worker: 2}", ["runtime"]),
        ("seeds: [one]", ["seeds"]),
        ("limit: 0", ["limit"]),
    ],
)
def test_it_finds_mistakes_where_they_are(validator: Any, written: str, path: list[str] | None) -> None:
    errors = list(validator.iter_errors(yaml.safe_load(written)))
    assert [list(error.path) for error in errors] == ([] if path is None else [path])


def test_every_key_says_what_it_means() -> None:
    schema = matrix_schema()["properties"]
    assert set(MatrixFile.model_fields) <= set(schema)
    groups = {
        "": (MatrixFile, schema),
        "recipe": (Recipe, schema["recipe"]["properties"]),
        "augmentation": (Augmentation, schema["recipe"]["properties"]["augmentation"]["properties"]),
        "runtime": (Runtime, schema["runtime"]["properties"]),
        "networks": (ExternalNetwork, schema["networks"]["anyOf"][0]["anyOf"][1]["properties"]),
    }
    for name, (model, properties) in groups.items():
        for key in model.model_fields:
            assert properties[key]["description"], f"{name} {key}"


def test_the_schema_beside_the_built_in_matrices_is_this_one() -> None:
    text = (files("segbench") / "matrices" / "schema.json").read_text()
    assert json.loads(text) == json.loads(json.dumps(matrix_schema())), "write it anew: segbench schema > ..."
