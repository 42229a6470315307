"""What a store of many records costs: `python benchmarks/records.py 1000 10000`.

Fills a store with the records of a matrix of that many evaluations, which are made up, and runs `plan`, `run` (nothing
is left to do), `report` and `leaderboard add` and `build` on it. Prints a line of JSON for each of them: its processor
seconds and its largest memory.

A scan is the part of `run` that finds out what is left. The store is filled as a run fills it that is killed with its
last record: `scan after a kill` reads the records that such a run has not written down as whole. `scan again`, as after
a run that ended, finds that none has changed, and `scan of a copy` reads them all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from segbench.config.load import load_matrix
from segbench.evaluation.results import Found, as_record
from segbench.evaluation.tally import Tally
from segbench.execution.board import pending
from segbench.execution.prepare import tentative_plan
from segbench.plan.evaluations import EvalCell
from segbench.reports.evidence import Measurements
from segbench.store import Store
from segbench.store.whole import Whole

ATTACKS = ["clean", *(f"bim(steps={n})" for n in range(1, 8)), *(f"pgd(eps={n / 255:.4f})" for n in range(1, 13))]
SEEDS = 10
IMAGES = 4
MADE_UP = 100
"""Different results, which the evaluations are given in turn."""
MEASURE = (
    "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:]).returncode; "
    "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
    "print(used.ru_utime + used.ru_stime, used.ru_maxrss); sys.exit(code)"
)
"""A small process between this one and a command: a command's largest memory is at least that of what starts it."""
SOUND = Measurements(
    zero_loss=0.0,
    zero_gradient=0.0,
    difference=0.0,
    optimises=False,
    trajectory=(1.0, 2.0),
    by_scale={},
    at_large_eps=None,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=int, nargs="*", default=[1000, 10_000])
    parser.add_argument("--scan", type=Path, help="only find out what of this matrix is left to do")
    options = parser.parse_args()
    if options.scan:
        matrix = load_matrix(str(options.scan))
        plan = tentative_plan(matrix)
        started = time.process_time()
        left = pending(plan, Store(matrix.runtime.store)).jobs
        print(json.dumps({"seconds": time.process_time() - started, "left": len(left)}))
        return
    for number in options.records:
        with tempfile.TemporaryDirectory() as folder:
            for cost in measured(Path(folder), number):
                print(json.dumps({"records": number, **cost}), flush=True)


def measured(folder: Path, number: int) -> Iterator[dict[str, object]]:
    """Fill a store with records, and yield what each command costs."""
    matrix, store = folder / "many.yaml", str(folder / "runs")
    matrix.write_text(json.dumps(many(number, store)))
    fill(matrix)
    segbench = [sys.executable, "-m", "segbench"]
    entries, site = str(folder / "entries"), str(folder / "site")
    commands = {
        "plan": [*segbench, "plan", str(matrix)],
        "scan after a kill": [sys.executable, __file__, "--scan", str(matrix)],
        "scan again": [sys.executable, __file__, "--scan", str(matrix)],
        "scan of a copy": [sys.executable, __file__, "--scan", str(matrix)],
        "run": [*segbench, "run", str(matrix)],
        "report": [*segbench, "report", "--store", store, "--out", str(folder / "report")],
        "leaderboard add": [*segbench, "leaderboard", "add", store, "--out", entries],
        "leaderboard build": [*segbench, "leaderboard", "build", entries, "--out", site],
    }
    for name, command in commands.items():
        if name == "scan of a copy":
            (folder / "runs" / "cache" / "whole").unlink()
        seconds, gib, output = child(command, folder)
        if name.startswith("scan"):
            told = json.loads(output)
            assert told["left"] == 0, told
            seconds = told["seconds"]
        yield {"command": name, "seconds": round(seconds, 2), "gib": round(gib, 2)}


def many(number: int, store: str) -> dict[str, object]:
    """Return a matrix of so many evaluations: 20 attacks on networks of 10 seeds."""
    networks = max(1, number // (len(ATTACKS) * SEEDS))
    defenses = max(count for count in range(1, 21) if networks % count == 0)
    return {
        "dataset": {"name": "digits", "size": 16, "train": 4, "val": IMAGES, "dev": 1, "digits": [0, 1]},
        "models": [f"pspnet(encoder=tiny, channels={8 + model})" for model in range(networks // defenses)],
        "defenses": ["none", *(f"ddcat(lambda_mask={weight})" for weight in range(1, defenses))],
        "recipe": {"iterations": 1},
        "seeds": list(range(SEEDS)),
        "attacks": ATTACKS,
        "transfer": None,
        "runtime": {"store": store, "device": "cpu", "workers": 1, "keep_images": 0, "tallies": []},
    }


def fill(matrix: Path) -> None:
    """Write the trainings and the records of a matrix as runs write them, but without waiting for the disk."""
    loaded = load_matrix(str(matrix))
    plan, store = tentative_plan(loaded), Store(loaded.runtime.store)
    waiting, os.fsync = os.fsync, lambda descriptor: None
    try:
        for training in plan.trainings:
            store.write_training_cell(training.digest, training.to_plain())
            store.write_training(training.digest, training.digest.encode(), b"epoch\n", {"iterations": 1})
        found = [made_up(plan.evaluations[1], number) for number in range(MADE_UP)]
        whole = Whole(store)
        for place, cell in enumerate(plan.evaluations):
            write(cell, found[place % MADE_UP], store)
            whole.follow([cell.digest])
            whole.catch_up()
        for digest in {cell.source.digest for cell in plan.evaluations}:
            store.write_measured(digest, SOUND)
    finally:
        os.fsync = waiting
    store.write_manifest(plan.manifest(1))


def made_up(cell: EvalCell, number: int) -> Found:
    """Return what an evaluation of an attack might have found."""
    true = np.random.default_rng(0).integers(20, 60, (IMAGES, 3))
    right = (true * np.random.default_rng(number).uniform(0.2, 0.9, true.shape)).astype(np.int64)
    tally = Tally({"": list(np.stack([right, true, true], 1))}, [0.0] * IMAGES)
    return as_record(cell, tally, "skip", ("background", "0", "1"))


def write(cell: EvalCell, found: Found, store: Store) -> None:
    """Write the record of an evaluation."""
    own = found.record
    network = cell.target.network(store.weights_sha256(cell.target.digest))
    record = cell.expected().model_copy(
        update={
            "status": "done",
            "classes": own.classes,
            "n_images": own.n_images,
            "scores": own.scores,
            "metrics": own.metrics,
            "budget_used": own.budget_used if cell.setting == "white-box" else None,
            "passes": own.passes,
            "target": network,
            "source": network,
            "provenance": {"device": "cpu", "sweep_seconds": 1.0},
        }
    )
    store.write_record(record, found.counts, [f"image {index}" for index in range(IMAGES)])


def child(command: list[str], folder: Path) -> tuple[float, float, str]:
    """Return the processor seconds of a command, the GiB that it took at most, and its output."""
    told = subprocess.run(
        [sys.executable, "-c", MEASURE, *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout
    output, _, used = told.stdout.rstrip("\n").rpartition("\n")
    seconds, kilobytes = map(float, used.split())
    return seconds, kilobytes / 2**20, output


if __name__ == "__main__":
    main()
