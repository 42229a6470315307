from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "tiny_transformers.py"


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a tiny network of a family of transformers; written once, not to be changed."""
    pytest.importorskip("transformers", reason="needs the extra hf")
    spec = importlib.util.spec_from_file_location("tiny_transformers", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return cache(lambda family: example.write_family(family, tmp_path_factory.mktemp(family)))
