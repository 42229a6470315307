"""What tallies cost beside an attack: python benchmarks/tallies.py [HEIGHT WIDTH]."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage

from segbench.attacks.bim import bim
from segbench.components import specs
from segbench.config.matrix import Runtime
from segbench.evaluation.families import Answers, seen, tallied

CLASSES = 11
NETWORKS = (
    "pspnet(encoder=tiny)",
    "pspnet(encoder=resnet18)",
    "pspnet(encoder=resnet50)",
)


def best(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the least seconds of processor time that some work takes."""
    found = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def main(height: int = 360, width: int = 480) -> None:
    rng = np.random.default_rng(0)
    shapes = np.stack([ndimage.gaussian_filter(rng.normal(size=(height, width)), 9) for _ in range(CLASSES)])
    truth = torch.from_numpy(shapes.argmax(0))
    truth[torch.from_numpy(rng.random((height, width)) < 0.02)] = 255
    images = torch.from_numpy(rng.random((1, 3, height, width))).float()
    families = Runtime().tallies
    known = best(lambda: seen(truth[None], families, CLASSES, 255))
    logits = torch.from_numpy(shapes + rng.normal(0, 0.02, shapes.shape)).float()[None] * 20
    ready = seen(truth[None], families, CLASSES, 255)
    preds = logits.argmax(1)
    each = best(lambda: tallied(families, preds, Answers(logits, are_logits=True), ready))
    print(f"{height} x {width}, {CLASSES} classes, {torch.get_num_threads()} threads, processor seconds for one image")
    print(f"truth, once per image: {known:.3f}; predictions: {each:.3f}")
    for text in NETWORKS:
        network = specs.bound("model", text).make(num_classes=CLASSES).eval()
        seconds = best(lambda network=network: bim(network, images, truth[None], steps=3), 1)
        print(f"BIM-3 on {text}: {seconds:.2f}; tallies {100 * (known + each) / seconds:.1f} % of it")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
