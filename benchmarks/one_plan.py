"""The paper's two tables as one plan beside one evaluation at a time: `python benchmarks/one_plan.py`.

Passes are those of the paper's own matrices. Time is that of a stand-in: the same attacks, transfers and defenses on a
small network and scenes of digits, trained before the clock starts. Prints a line of JSON for each.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from segbench.config.load import load_matrix
from segbench.config.matrix import Matrix
from segbench.evaluation.sweep import run_sweep
from segbench.execution.cost import job_passes, lengths
from segbench.execution.prepare import tentative_plan
from segbench.plan.plan import Plan, Sweep
from segbench.store import Store
from segbench.training.train import run_training

PAPER = ("voc2012-paper", "cityscapes-paper")
CPU = torch.device("cpu")


class Silent:
    """A reporter that tells nobody."""

    def update(self, done: int, total: int, note: str) -> None:
        """Say nothing."""

    def check(self) -> None:
        """Let it go on."""

    def say(self, text: str) -> None:
        """Say nothing."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=2, help="0 counts passes alone")
    options = parser.parse_args()
    for name in PAPER:
        plan = tentative_plan(load_matrix(name))
        one, alone = (passes(plan, sweeps) for sweeps in (plan.sweeps, separate(plan)))
        print(json.dumps({"matrix": name, "passes": {"one plan": one, "alone": alone}, "ratio": round(one / alone, 2)}))
    if not options.rounds:
        return
    with tempfile.TemporaryDirectory() as folder:
        plan = tentative_plan(stand_in(Path(folder), options.images, options.size))
        least = {"one plan": float("inf"), "alone": float("inf")}
        for count in range(options.rounds):
            shared = tuple(replace(sweep, watched=None) for sweep in plan.sweeps)
            for name, sweeps in (("one plan", shared), ("alone", separate(plan))):
                seconds = timed(plan, sweeps, Path(folder, f"{name} {count}"), Path(folder, "trained"))
                least[name] = min(least[name], seconds)
        shown = {name: round(seconds, 1) for name, seconds in least.items()}
        print(json.dumps({"stand-in": shown, "ratio": round(least["one plan"] / least["alone"], 2)}))


def separate(plan: Plan) -> tuple[Sweep, ...]:
    """Return the evaluations of a plan, each as a sweep of its own."""
    return tuple(replace(sweep, cells=(cell,), watched=None) for sweep in plan.sweeps for cell in sweep.cells)


def passes(plan: Plan, sweeps: tuple[Sweep, ...]) -> int:
    """Return the forward and backward passes of sweeps, in images."""
    return sum(job_passes({str(place): sweep for place, sweep in enumerate(sweeps)}, lengths(plan)).values())


def stand_in(folder: Path, images: int, size: int) -> Matrix:
    """Return the VOC matrix with a small network, little data and short trainings."""
    small: dict[str, Any] = {"encoder": "tiny", "channels": 8}
    changes = {
        "datasets": [f"digits(size={size}, train=8, val={images}, dev=1)"],
        "models": [{"name": "pspnet", **small}, {"name": "deeplabv3", **small}],
        "recipe": {"optimizer": "adamw", "lr": 0.01, "batch_size": 4, "iterations": 20},
        "protocol": "whole-v1",
        "seeds": [0],
        "split": "val",
    }
    told = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    return load_matrix("voc2012-paper", [*told, f"runtime.store={folder}", "runtime.device=cpu"])


def timed(plan: Plan, sweeps: tuple[Sweep, ...], root: Path, trained: Path) -> float:
    """Return the processor seconds of sweeps in a new store that shares its trainings with others."""
    runtime = plan.matrix.runtime.model_copy(update={"keep_images": 0, "tallies": ()})
    for cell in plan.trainings:
        run_training(cell, Store(trained), runtime, CPU, Silent())
    root.mkdir()
    (root / "train").symlink_to(trained / "train")
    started = time.process_time()
    for sweep in sweeps:
        run_sweep(sweep, Store(root), runtime, CPU, Silent())
    return time.process_time() - started


if __name__ == "__main__":
    main()
