"""How busy two workers of each engine are: `python benchmarks/engines.py --engines local ray`, on an idle machine.

Equal trainings are run by one worker, then by two workers of each engine, each into a store of its own. Prints a line
of JSON for each: the seconds of the whole command, and the efficiency, which is 1 where two workers need half the time
of one. SLURM needs a cluster with two nodes, and `SLURM_CONF` where it is not the machine's own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODEL = {"name": "pspnet", "encoder": "tiny", "widths": [4, 4, 6, 6], "bins": [1, 2], "channels": 4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--engines", nargs="*", default=["local"], choices=["local", "ray", "slurm"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        matrix = Path(folder, "equal.yaml")
        matrix.write_text(json.dumps(equal(options.jobs, options.iterations)))
        serial = timed(matrix, "serial", "local", 1)
        print(json.dumps({"engine": "local", "workers": 1, "jobs": options.jobs, "seconds": round(serial, 1)}))
        for engine in options.engines:
            seconds = timed(matrix, engine, engine, 2)
            found = {"engine": engine, "workers": 2, "jobs": options.jobs, "seconds": round(seconds, 1)}
            print(json.dumps({**found, "efficiency": round(serial / 2 / seconds, 2)}))


def equal(jobs: int, iterations: int) -> dict[str, object]:
    """Return a matrix of equal trainings, each scored on two images."""
    return {
        "dataset": {"name": "digits", "size": 32, "train": 8, "val": 2, "dev": 2},
        "models": [MODEL],
        "seeds": list(range(jobs)),
        "attacks": ["clean"],
        "recipe": {"optimizer": "adamw", "lr": 0.01, "batch_size": 4, "iterations": iterations},
        "runtime": {"device": "cpu", "keep_images": 0},
    }


def timed(matrix: Path, store: str, engine: str, workers: int) -> float:
    """Return the seconds that a run takes on an engine, with one thread for each worker."""
    command = [sys.executable, "-m", "segbench", "run", str(matrix), "--store", store, "--engine", engine]
    started = time.perf_counter()
    command += ["--workers", str(workers), "--quiet"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=matrix.parent, env=one_thread, check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
