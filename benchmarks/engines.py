"""How busy two workers of each engine are: `python benchmarks/engines.py --engines local ray`, on an idle machine.

Equal trainings are run by one worker, then by two workers of each engine, each into a store of its own. Prints a line
of JSON for each: the seconds of the whole command, and the efficiency, which is 1 where two workers need half the time
of one. "ray" starts a cluster of its own, and "standing" joins one of this machine that was started before. "slurm"
needs a cluster of two one-core nodes, and `SLURM_CONF` where it is not the machine's own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

MODEL = {"name": "pspnet", "encoder": "tiny", "widths": [4, 4, 6, 6], "bins": [1, 2], "channels": 4}
ENGINES = {
    "local": ["--engine", "local", "--workers", "2"],
    "ray": ["--engine", "ray", "--workers", "2"],
    "standing": ["--engine", "ray", "--workers", "2", "--address"],
    "slurm": ["--engine", "slurm"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--engines", nargs="*", default=["local"], choices=list(ENGINES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        matrix = Path(folder, "equal.yaml")
        matrix.write_text(json.dumps(equal(options.jobs, options.iterations)))
        serial = timed(matrix, "serial", ["--workers", "1"])
        told = {"jobs": options.jobs, "iterations": options.iterations}
        print(json.dumps({"engine": "serial", **told, "seconds": round(serial, 1)}), flush=True)
        for engine in options.engines:
            with standing() if engine == "standing" else contextlib.nullcontext([]) as address:
                seconds = timed(matrix, engine, [*ENGINES[engine], *address])
            found = {"engine": engine, **told, "seconds": round(seconds, 1)}
            print(json.dumps({**found, "efficiency": round(serial / 2 / seconds, 2)}), flush=True)


@contextlib.contextmanager
def standing() -> Iterator[list[str]]:
    """Start a cluster of Ray with two processors on this machine, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["start", "--head", "--block", "--num-cpus=2", "--include-dashboard=false", "--node-ip-address=127.0.0.1"]
    cluster = subprocess.Popen(
        [str(Path(sys.executable).with_name("ray")), *command, f"--port={port}", "--disable-usage-stats"],
        env=one_thread(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert cluster.stdout is not None
        while "Ray runtime started" not in (line := cluster.stdout.readline()):
            if not line:
                raise SystemExit("no cluster of Ray starts on this machine")
        yield [f"127.0.0.1:{port}"]
    finally:
        cluster.terminate()
        cluster.wait()


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


def timed(matrix: Path, store: str, how: list[str]) -> float:
    """Return the seconds that a run takes, with one thread for each worker."""
    command = [sys.executable, "-m", "segbench", "run", str(matrix), "--store", store, "--quiet", *how]
    started = time.perf_counter()
    subprocess.run(command, cwd=matrix.parent, env=one_thread(), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def one_thread() -> dict[str, str]:
    """Return the environment of commands whose workers take a thread each, and whose Ray asks for no token."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}


if __name__ == "__main__":
    main()
