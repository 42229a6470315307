"""A real SLURM of two nodes on loopback, and the tiny matrix run by the local engine to compare with."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

COMMANDS = ("slurmctld", "slurmd", "sbatch", "munge", "munged")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def tell(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


class Cluster:
    """Two nodes; `SLURM_CONF` in the environment names them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start_node(self, name: str) -> None:
        subprocess.run(["slurmd", "-N", name], check=True)

    def revive(self, name: str) -> None:
        """See that a node is up, and wait until it is idle."""
        if tell("sinfo", "-h", "-n", name, "-o", "%t").strip() not in ("idle", "alloc", "mix"):
            self.start_node(name)
            tell("scontrol", "update", f"NodeName={name}", "State=RESUME")
        deadline = time.monotonic() + 30
        while tell("sinfo", "-h", "-n", name, "-o", "%t").strip() != "idle":
            assert time.monotonic() < deadline, tell("sinfo")
            time.sleep(0.5)

    def kill_node(self, name: str) -> None:
        """Kill a node's daemon, and with it whatever the node runs, as a power failure would."""
        daemon = int((self.folder / f"slurmd_{name}.pid").read_text())
        marks = {f"SLURM_CONF={os.environ['SLURM_CONF']}".encode(), f"SLURMD_NODENAME={name}".encode()}
        doomed = [daemon]
        for entry in Path("/proc").iterdir():
            try:
                words = set((entry / "environ").read_bytes().split(b"\0"))
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            if marks <= words:  # a job, whose parent is the keeper that SLURM gives each
                doomed += [parent, int(entry.name)]
        for process in dict.fromkeys(doomed):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    missing = [name for name in COMMANDS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if missing:
        pytest.skip(f"no SLURM here: {', '.join(missing)}; apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("the daemons of SLURM need root here")
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "state").mkdir()
    text = (Path(__file__).parent / "slurm.conf").read_text().replace("@DIR@", str(folder))
    for index, port in enumerate(free_ports(3)):
        text = text.replace(f"@PORT{index}@", str(port))
    (folder / "slurm.conf").write_text(text)
    before = {name: os.environ.get(name) for name in ("SLURM_CONF", "PATH")}
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    os.environ["PATH"] += ":/usr/sbin"
    cluster = Cluster(folder)
    try:
        if subprocess.run(["munge", "-n"], capture_output=True).returncode:
            Path("/run/munge").mkdir(exist_ok=True)
            shutil.chown("/run/munge", "munge")
            subprocess.run(["runuser", "-u", "munge", "--", "munged"], check=True)
        subprocess.run(["slurmctld", "-c"], check=True)
        for name in ("n1", "n2"):
            cluster.start_node(name)
        deadline = time.monotonic() + 40
        while tell("sinfo", "-h", "-t", "idle", "-o", "%D").strip() != "2":
            if time.monotonic() > deadline:
                pytest.skip(f"SLURM does not come up: {tell('sinfo')}")
            time.sleep(0.5)
        yield cluster
        tell("scancel", "--user=root")
    finally:
        for path in folder.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(path.read_text()), signal.SIGTERM)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every process one thread: on a CPU, trainings depend on how many there are in their last bits."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def report_of() -> Callable[[Path], dict[str, bytes]]:
    """Return the files of the report of a store's one matrix."""
    return lambda store: {path.name: path.read_bytes() for path in sorted(store.glob("reports/*/*")) if path.is_file()}


@pytest.fixture(scope="session")
def small(write_tiny: Callable[..., Path]) -> Callable[..., Path]:
    """Write a matrix of one network with two defenses, whose trainings last a while; changed by keyword arguments."""

    def write(folder: Path, **changes: Any) -> Path:
        model = {"name": "pspnet", "encoder": "tiny", "widths": [4, 4, 6, 6], "bins": [1, 2], "channels": 4}
        runtime = {"workers": 1, "device": "cpu", "eval_batch": 2, "checkpoint_every": 0.5}
        small = {"models": [model], "transfer": None, "runtime": runtime}
        return write_tiny(folder, "small", **{**small, **changes})

    return write
