"""Fixtures that every package's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed torch before a test and its fixtures: a check may refuse one network of random weights and not another."""
    torch.manual_seed(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images that lies beside the repository, or where SEGBENCH_TEST_DATA says."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SEGBENCH_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set SEGBENCH_TEST_DATA to their folder")
    return folder
