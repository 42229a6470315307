"""How many threads a job gets on this machine: those that spin leave out processors that others keep busy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segbench.config.matrix import Runtime
from segbench.execution.engines import choose
from segbench.store import Store


@pytest.mark.parametrize(
    ("spinning", "asked", "workers", "threads"),
    [(False, 8, 1, 4), (True, 8, 1, 3), (True, 8, 2, 2), (False, 8, 5, 1), (False, 1, 1, 1), (False, 1, 2, 1)],
)
def test_jobs_share_the_processors_and_get_no_more_threads_than_were_asked_for(
    spinning: bool, asked: int, workers: int, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "SPINNING", spinning)
    monkeypatch.setattr(choose, "usable", lambda: 4)
    monkeypatch.setattr(choose, "left_by_others", lambda: 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: asked)
    found = choose.chosen(Store(tmp_path), Runtime(device="cpu", workers=workers), 2)
    assert (found.threads, found.at_once) == (threads, workers)
