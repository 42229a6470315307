from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.config.matrix import Matrix
from segbench.errors import MatrixError
from segbench.execution.prepare import checked_plan, tentative_plan
from segbench.store import Store

CLASSES = 3
"""Of the tiny matrix."""


def write_map(path: Path, label: int) -> str:
    labels = np.full((4, 4), label, dtype=np.uint8)
    labels[0] = 255
    Image.fromarray(labels).save(path)
    return str(path)


def test_a_target_that_is_no_class_is_refused_before_anything_runs(
    tiny_matrix: Callable[..., Matrix], tmp_path: Path
) -> None:
    wrong = {
        CLASSES: f"there is no class {CLASSES}; classes are 0 to {CLASSES - 1}",
        255: "there is no class 255",
        -1: "there is no class -1",
        write_map(tmp_path / "wrong.png", 9): "there is no class 9",
    }
    for target, message in wrong.items():
        matrix = tiny_matrix(attacks=[{"name": "fgsm", "target": target}], transfer=None)
        for planned in (partial(checked_plan, matrix, Store(tmp_path)), partial(tentative_plan, matrix)):
            with pytest.raises(MatrixError, match=message):
                planned()


def test_a_target_of_the_dataset_is_taken(tiny_matrix: Callable[..., Matrix], tmp_path: Path) -> None:
    for target in (0, CLASSES - 1, write_map(tmp_path / "right.png", CLASSES - 1)):
        matrix = tiny_matrix(attacks=[{"name": "fgsm", "target": target}], transfer=None)
        assert checked_plan(matrix, Store(tmp_path)).evaluations
