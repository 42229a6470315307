"""The script for one GPU runs on a processor at a tiny size, so that it cannot rot."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

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
    assert "| images/s | attack passes/s | TFLOP/s | share of peak | waiting for images |" in text
    assert "After halving, 8 images went through, 2 at once." in text


def test_operations_are_those_of_the_passes_that_are_made() -> None:
    spec = importlib.util.spec_from_file_location("gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    gpu = importlib.util.module_from_spec(spec)
    sys.modules["gpu"] = gpu  # a dataclass looks for its module
    try:
        spec.loader.exec_module(gpu)
    finally:
        del sys.modules["gpu"]
    network = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    one_pass = 2 * (2 * 16 * 16) * 8 * 3 * 9
    with gpu.Counting() as of_images:
        torch.autograd.grad(network(images).sum(), images)
    with gpu.Counting() as of_all:
        network(images).sum().backward()
    assert (of_images.operations, of_all.operations) == (2 * one_pass, 3 * one_pass)
