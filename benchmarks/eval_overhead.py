"""What `segbench.evaluate` costs beside a bare loop that gives the same numbers: `python benchmarks/eval_overhead.py`.

Both score a network clean and under BIM on scenes of digits; the loop is what a user would write. Prints the seconds of
processor time of each and their ratio, as JSON; a second line is of a store that knows the network already, so that
neither its gradient nor its convention is looked at again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import segbench
from segbench.components import specs

EPS, ALPHA = 0.03, 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--model", default="pspnet(encoder=tiny)")
    options = parser.parse_args()
    torch.manual_seed(0)
    model = specs.bound("model", options.model).make(num_classes=6).eval().requires_grad_(False)
    text = f"digits(size={options.size}, train=1, val={options.images}, dev=1)"
    scenes = specs.bound("dataset", text).make().split("val")
    for index in range(options.images):
        scenes[index]  # drawing a scene is the same work for both, and done once

    bare, expected = timed(lambda: loop(model, scenes, options.steps))
    with tempfile.TemporaryDirectory() as folder:
        for state, steps in (("new", options.steps), ("known", options.steps + 1)):
            if state == "known":
                bare, expected = timed(lambda: loop(model, scenes, options.steps + 1))
            attacks = ("clean", f"bim(eps={EPS}, alpha={ALPHA}, steps={steps})")
            seconds, result = timed(lambda attacks=attacks: segbench.evaluate(model, text, attacks, store=Path(folder)))
            found = [record.scores.aacc for record in result.records if record.scores and record.setting != "clean"]
            agree = any(abs(aacc - expected) < 0.5 for aacc in found)
            shown = {"network": state, "images": options.images, "evaluate": round(seconds, 2), "loop": round(bare, 2)}
            print(json.dumps({**shown, "ratio": round(seconds / bare, 2), "agree": agree}))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the processor seconds of some work, and its result."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def loop(model: nn.Module, scenes: Any, steps: int, batch: int = 25) -> float:
    """Score a network clean and attacked; return its pixel accuracy under attack, in per cent."""
    right = total = 0
    for first in range(0, len(scenes), batch):
        read = [scenes[index] for index in range(first, min(first + batch, len(scenes)))]
        images = torch.stack([sample.image for sample in read]) / 255
        masks = torch.stack([sample.mask for sample in read]).long()
        with torch.no_grad():
            model(images).argmax(1)
        attacked = bim(model, images, masks, steps)
        with torch.no_grad():
            preds = model(attacked).argmax(1)
        right += int(((preds == masks) & (masks != 255)).sum())
        total += int((masks != 255).sum())
    return 100 * right / total


def bim(model: nn.Module, images: Tensor, masks: Tensor, steps: int) -> Tensor:
    adversarial = images.clone()
    for _ in range(steps):
        adversarial.requires_grad_()
        losses = F.cross_entropy(model(adversarial), masks, ignore_index=255, reduction="none").flatten(1)
        total = (losses.sum(1) / (masks != 255).flatten(1).sum(1)).sum()
        (gradient,) = torch.autograd.grad(total, adversarial)
        moved = adversarial.detach() + ALPHA * gradient.sign()
        adversarial = moved.clamp(images - EPS, images + EPS).clamp(0, 1)
    return adversarial


if __name__ == "__main__":
    main()
