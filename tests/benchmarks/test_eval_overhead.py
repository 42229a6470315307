"""The benchmark runs at a tiny size, so that it cannot rot; its figures mean something only at a larger one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "eval_overhead.py"


def test_the_loop_and_the_evaluation_give_the_same_numbers(tmp_path: Path) -> None:
    options = ["--images", "2", "--size", "32", "--steps", "1"]
    ended = subprocess.run(
        [sys.executable, SCRIPT, *options], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [(line["network"], line["agree"]) for line in lines] == [("new", True), ("known", True)]
