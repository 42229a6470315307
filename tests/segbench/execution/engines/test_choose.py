"""How many threads a job gets on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segbench.config.matrix import Runtime
from segbench.execution.engines import choose
from segbench.store import Store


@pytest.mark.parametrize(("spinning", "workers", "threads"), [(False, 1, 4), (True, 1, 3), (True, 2, 2)])
def test_threads_that_spin_leave_out_processors_that_others_keep_busy(
    spinning: bool, workers: int, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "SPINNING", spinning)
    monkeypatch.setattr(choose, "usable", lambda: 4)
    monkeypatch.setattr(choose, "left_by_others", lambda: 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    found = choose.chosen(Store(tmp_path), Runtime(device="cpu", workers=workers), 2)
    assert (found.threads, found.at_once) == (threads, workers)
