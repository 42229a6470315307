"""The benchmark runs at a tiny size, so that it cannot rot; its figures mean something only at a larger one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "engines.py"


@pytest.mark.slow
def test_two_workers_are_compared_with_one(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--jobs", "2", "--iterations", "2"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    one, two = (json.loads(line) for line in ended.stdout.splitlines())
    assert (one["engine"], two["engine"]) == ("serial", "local")
    assert two["efficiency"] > 0
