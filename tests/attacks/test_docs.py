"""The page on attacks is what the catalog says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from segbench.components import catalog

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate_attacks", DOCS / "generate_attacks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_page_is_current(generator: Any) -> None:
    assert (DOCS / "attacks.md").read_text(encoding="utf-8") == generator.page(), (
        "docs/attacks.md is not what the catalog says: run `python docs/generate_attacks.py`"
    )


def test_every_attack_says_where_it_comes_from() -> None:
    for name, component in catalog.components("attack").items():
        assert "Source: " in component.doc or name == "clean"
        for option in component.options:
            assert f"\n    {option}: " in component.doc, f"{name}: {option} is not described"


@pytest.mark.parametrize(
    ("name", "cost"),
    [
        ("clean", "0"),
        ("fgsm", "1 forward, 1 backward"),
        ("bim", "steps forward, steps backward"),
        ("apgd", "steps + 1 forward, steps backward"),
        ("sea", "3 steps + 9 forward, 3 steps backward"),
        ("square", "queries forward, 0 backward"),
    ],
)
def test_costs_are_measured(name: str, cost: str, generator: Any) -> None:
    assert generator.cost(catalog.find("attack", name).object) == cost
