"""What another busy process costs an evaluation: `python benchmarks/contended.py`, on a machine that is idle otherwise.

Evaluates a network with the threads that segbench chooses, first alone and then beside one process that computes
without a pause. Prints wall-clock seconds as JSON: with one of N processors gone, N / (N - 1) of the time alone is to
be expected, and `ratio` is what it took beside that. Threads that wait actively take many times as long.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from segbench.processors import usable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3, help="the least time of so many counts")
    options = parser.parse_args()
    alone, beside = [], []
    for _ in range(options.rounds):
        alone.append(evaluated(options.images, options.size))
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            beside.append(evaluated(options.images, options.size))
        finally:
            busy.kill()
            busy.wait()
    processors = usable()
    expected = min(alone) * processors / (processors - 1) if processors > 1 else 2 * min(alone)
    found = {"alone": round(min(alone), 1), "contended": round(min(beside), 1), "expected": round(expected, 1)}
    print(json.dumps({"processors": processors, **found, "ratio": round(min(beside) / expected, 2)}))


def evaluated(images: int, size: int) -> float:
    """Evaluate a network in a process and a store of its own, and return the seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["eval", "pspnet(encoder=tiny)", "-d", f"digits(size={size}, train=1, val={images}, dev=1)", "--force"]
        attacks = ["-a", "clean", "-a", "bim(steps=3)"]
        command = [sys.executable, "-m", "segbench", *words, *attacks, "--store", str(Path(folder, "runs")), "--quiet"]
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
