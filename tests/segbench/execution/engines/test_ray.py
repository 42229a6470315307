"""A real cluster of Ray: two nodes on loopback, one of them killed in the middle."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from segbench.config.matrix import Runtime
from segbench.errors import SegbenchError
from segbench.execution.engines import ray as engine
from segbench.execution.engines import remote
from segbench.store import Store

pytest.importorskip("ray", reason="Ray is not installed: pip install 'segbench[ray]'")

LONG = {"optimizer": "adamw", "lr": 0.01, "batch_size": 4, "iterations": 500}

SCRIPT = """
import os, signal, subprocess, sys, time
from pathlib import Path
from ray.cluster_utils import Cluster
from segbench.store import Store

matrix, root = sys.argv[1:]
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
command = [sys.executable, "-m", "segbench", "run", matrix, "--store", root, "--engine", "ray", "--workers", "2"]
run = subprocess.Popen([*command, "--address", cluster.address])
store = Store(Path(root))
deadline = time.monotonic() + 200
while len([job for job in store.running() if (store.train_dir(job.key) / "checkpoint.pt").is_file()]) < 2:
    assert run.poll() is None and time.monotonic() < deadline, "two trainings never ran side by side"
    time.sleep(0.1)
cluster.remove_node(second, allow_graceful=False)
code = run.wait(timeout=400)
cluster.shutdown()
sys.exit(code)
"""


@pytest.fixture
def empty() -> str:
    """An address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def no_ray(head: str) -> Any:
    """Return what stands for the library of Ray, and takes no task."""
    node = {"Alive": True, "Resources": {"CPU": 1.0}}
    return SimpleNamespace(
        is_initialized=lambda: False,
        nodes=lambda: [node],
        remote=lambda **options: lambda task: task,
        get_runtime_context=lambda: SimpleNamespace(gcs_address=head),
    )


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:99999", "", "ray://127.0.0.1:10001"])
def test_a_cluster_that_is_not_there_is_told_at_once(
    address: str, empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_ray", lambda: no_ray(""))
    monkeypatch.setenv("RAY_ADDRESS", empty)
    runtime = Runtime(store=tmp_path, engine="ray", address=address or empty)
    reason = "expected HOST:PORT" if "//" in address else "no cluster of Ray answers there"
    with pytest.raises(SegbenchError, match=reason):
        engine.connect(Store(tmp_path), runtime)


def test_a_head_that_is_gone_ends_the_waiting(empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(engine, "_ray", lambda: no_ray(head))
        cluster = engine.Cluster(Store(tmp_path), Runtime(store=tmp_path, engine="ray"), 1, 0.0, 1, 1, False)
        made = engine.RayEngine(cluster, 1)
        made.asked = made.answered = -1e9
        assert list(made.news()) == []
        assert made.answered > 0
    made.asked = -1e9
    assert list(made.news()) == [], "it may come back"
    made.asked = made.answered = -1e9
    with pytest.raises(SegbenchError, match=f"the head of the cluster at {head} does not answer any more"):
        made.news()


def test_jobs_for_which_no_node_has_room_are_told_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        library = no_ray(f"127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(engine, "_ray", lambda: library)
        cluster = engine.Cluster(Store(tmp_path), Runtime(store=tmp_path, engine="ray"), 4, 0.5, 1, 1, False)
        made = engine.RayEngine(cluster, 4)
        both = {"Alive": True, "Resources": {"CPU": 1.0, "GPU": 1.0}}
        told = ["no node of the Ray cluster has CPU 1 and GPU 0.5; jobs wait until one joins"]
        for nodes, expected in (([both], []), ([{**both, "Alive": False}], told), ([], []), ([both], []), ([], told)):
            library.nodes = lambda nodes=nodes: nodes
            made.asked, made.looked = -1e9, time.monotonic()
            assert list(made.news()) == expected


def test_a_node_with_another_segbench_is_named_before_a_job_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = no_ray("")
    library.nodes = lambda: [{"Alive": True, "NodeID": 56 * "0", "NodeName": "n7"}]
    library.remote = lambda **_: lambda task: SimpleNamespace(options=lambda **_: SimpleNamespace(remote=task))
    library.get = lambda answer, timeout: answer
    library.exceptions = SimpleNamespace(RayError=OSError)
    monkeypatch.setattr(engine, "_ray", lambda: library)
    engine._seen_by_all(Store(tmp_path))
    for look, told in ((("", remote.code()), "n7 cannot see"), (("", "others"), "n7 has another segbench")):
        monkeypatch.setattr(engine, "_look", lambda path, look=look: look)
        with pytest.raises(SegbenchError, match=told):
            engine._seen_by_all(Store(tmp_path))


def test_a_cluster_of_another_version_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: Any) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.1\n    Python: 3.13.1\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        library = no_ray(address)
        library.init = init
        monkeypatch.setattr(engine, "_ray", lambda: library)
        with pytest.raises(SegbenchError, match=r"Ray: 2.1 Python: 3.13.1\); install its versions here"):
            engine.connect(Store(tmp_path), Runtime(store=tmp_path, engine="ray", address=address))


def own_network(*command: str) -> list[str]:
    """Return a command in a network of its own, where that can be had: Ray then takes loopback for the machine."""
    inside = 'ip link set lo up && exec "$@"'
    words = ["unshare", "-n", "sh", "-c", inside, "sh"]
    try:
        can = subprocess.run([*words, "true"], capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        can = False
    return [*words, *command] if can else list(command)


@pytest.mark.slow
def test_a_killed_node_s_tasks_go_on_elsewhere_and_the_report_is_the_same(
    small: Callable[..., Path], report_of: Callable[[Path], dict[str, bytes]], tmp_path: Path
) -> None:
    matrix = small(tmp_path, recipe=LONG, attacks=["clean"])
    (tmp_path / "two_nodes.py").write_text(SCRIPT)
    words = own_network(sys.executable, str(tmp_path / "two_nodes.py"), str(matrix), str(tmp_path / "cluster"))
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "its process or node died; it is started again" in done.stdout
    local = [sys.executable, "-m", "segbench", "run", str(matrix), "--store", str(tmp_path / "local")]
    subprocess.run(local, check=True, capture_output=True, cwd=tmp_path)
    assert report_of(tmp_path / "cluster") == report_of(tmp_path / "local")


@pytest.mark.slow
def test_ctrl_c_leaves_checkpoints_and_no_process(small: Callable[..., Path], tmp_path: Path) -> None:
    matrix = small(tmp_path, recipe={**LONG, "iterations": 100_000}, defenses=["none"], attacks=["clean"])
    words = own_network(sys.executable, "-m", "segbench", "run", str(matrix), "--store", "runs", "--engine", "ray")
    how: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    run: Any = subprocess.Popen(words, cwd=tmp_path, **how)
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("runs/train/*/checkpoint.pt")):
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: the processes of Ray hear it too
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 130, output
    assert "Stopped; everything done is kept" in output
    assert not list(tmp_path.glob("runs/cache/running/*.json"))
