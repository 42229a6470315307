"""The script for one GPU runs on a processor at a tiny size, so that it cannot rot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


@pytest.mark.slow
def test_every_section_is_written(tmp_path: Path) -> None:
    small = ["--device", "cpu", "--model", "pspnet(encoder=tiny)", "--size", "32", "--batch", "2", "--seconds", "0"]
    ended = subprocess.run(
        [sys.executable, SCRIPT, *small, "--iterations", "2", "--no-tests", "--out", tmp_path / "gpu.md"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    text = (tmp_path / "gpu.md").read_text()
    for heading in ("Throughput", "Strength by precision", "Memory by batch", "A batch that does not fit"):
        assert f"## {heading}\n" in text
    rows = [line for line in text.splitlines() if line.startswith("| training step")]
    assert len(rows) == 9
    assert "After halving, 8 images went through, 2 at once." in text
