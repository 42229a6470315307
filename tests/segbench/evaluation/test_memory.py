"""Large images of many classes: what is counted on them takes little memory beside the scores themselves."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from segbench.evaluation.families import labelled, seen, tallied
from segbench.evaluation.finite import faults
from segbench.evaluation.counting import pixels
from segbench.protocols.whole import Whole

torch.set_num_threads(1)
size, classes = (1024, 2048), 150
families = ("confidence", "boundary", "objects")
truth = (torch.arange(size[0] * size[1]) // 7919 % classes).view(size)
protocol = Whole()
crops = protocol.crops(torch.zeros(3, *size, dtype=torch.uint8), truth)
scores = torch.zeros(1, classes, *size)
scores.view(classes, -1).scatter_(0, truth.view(1, -1), 1.0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
preds, answers = labelled(protocol, [scores], [crops])
counts = pixels(preds, truth[None], classes, 255)
found = tallied(families, preds, answers, seen(truth[None], families, classes, 255))
assert not faults(scores).any() and int(counts[0, 0].sum()) == truth.numel() == int(found["confidence"][0, 0].sum())
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10)
"""


@pytest.mark.slow
def test_150_classes_at_1024x2048_take_no_second_copy_of_the_scores() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert float(ended.stdout) < 500  # MiB; the scores take 1200
