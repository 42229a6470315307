"""What another busy process costs an evaluation: `python benchmarks/contended.py`, on a machine that is idle otherwise.

Evaluates a network with the threads that segbench chooses, first alone and then beside one process that computes
without a pause: by `segbench eval`, and by `segbench.evaluate` of a program that imported torch before segbench, whose
threads wait actively. Prints a line for each with wall-clock seconds, as JSON: with one of N processors gone,
N / (N - 1) of the time alone is to be expected, and `ratio` is what it took beside that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

from segbench.processors import usable

NETWORK = "pspnet(encoder=tiny)"
ATTACKS = ("clean", "bim(steps=3)")
PROGRAM = "import sys, torch, segbench; segbench.evaluate(sys.argv[1], sys.argv[2], sys.argv[3:], force=True)"
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MKL_", "OPENBLAS_"))
}
"""Without what says how threads wait: importing segbench sets it for the processes that are started, too."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3, help="the least time of so many counts")
    options = parser.parse_args()
    data = f"digits(size={options.size}, train=1, val={options.images}, dev=1)"
    asked = [word for attack in ATTACKS for word in ("-a", attack)]
    commands = {
        "segbench eval": ["-m", "segbench", "eval", NETWORK, "-d", data, "--force", "--quiet", *asked],
        "segbench.evaluate": ["-c", PROGRAM, NETWORK, data, *ATTACKS],
    }
    alone: dict[str, list[float]] = {what: [] for what in commands}
    beside: dict[str, list[float]] = {what: [] for what in commands}
    for _ in range(options.rounds):
        for what, command in commands.items():
            alone[what].append(seconds(command))
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            try:
                beside[what].append(seconds(command))
            finally:
                busy.kill()
                busy.wait()
    processors = usable()
    for what in commands:
        least, contended = min(alone[what]), min(beside[what])
        expected = least * processors / (processors - 1) if processors > 1 else 2 * least
        found = {"alone": round(least, 1), "contended": round(contended, 1), "expected": round(expected, 1)}
        ratio = round(contended / expected, 2)
        print(json.dumps({"what": what, "processors": processors, **found, "ratio": ratio}))


def seconds(command: list[str]) -> float:
    """Return the wall-clock seconds of Python with some arguments, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=folder, env=ENVIRONMENT)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
