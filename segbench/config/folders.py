"""The folders of datasets that the environment names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from segbench.config.matrix import Runtime


def data_variable(dataset: str) -> str:
    """Return the environment variable that may name a dataset's folder."""
    return f"SEGBENCH_DATA_{dataset.upper().replace('-', '_')}"


def environment_folders(datasets: Sequence[str]) -> dict[str, Path]:
    """Return the folders of the datasets for which the environment names one."""
    named = {dataset: os.environ.get(data_variable(dataset)) for dataset in datasets}
    return {dataset: Path(folder) for dataset, folder in named.items() if folder}


def with_environment(runtime: Runtime, datasets: Sequence[str]) -> Runtime:
    """Add the folders that the environment names, where the matrix names none."""
    return runtime.model_copy(update={"data": {**environment_folders(datasets), **runtime.data}})
