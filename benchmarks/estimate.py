"""How near `segbench plan --estimate` comes to the truth: `python benchmarks/estimate.py quickstart`.

Estimates a matrix, runs it in one worker, and prints both as JSON. Options of `segbench run` may follow the matrix,
such as `--data camvid=FOLDER` or `--set recipe.iterations=50`. Seconds are of wall-clock time: run it on an idle
machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        given = [*arguments, "--store", folder]
        one_worker = ["--set", "runtime.workers=1"]
        told = segbench("plan", *given, *one_worker, "--estimate", "--json")
        estimated = json.loads(told)["seconds"]
        started = time.perf_counter()
        segbench("run", *given, *one_worker, "--quiet")
        true = time.perf_counter() - started
    found = {"estimated": round(estimated, 1), "true": round(true, 1), "ratio": round(estimated / true, 2)}
    print(json.dumps({"matrix": " ".join(arguments), **found}))


def segbench(*words: str) -> str:
    """Run a command of segbench and return what it prints."""
    return subprocess.run([sys.executable, "-m", "segbench", *words], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main(sys.argv[1:] or ["quickstart"])
