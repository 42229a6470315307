"""The processors that may really be used: affinity, quotas of control groups of both versions, SLURM's share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segbench import processors

AFFINITY = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 64 processors without control groups; its folder of them."""
    monkeypatch.setattr(processors, "CGROUPS", tmp_path)
    monkeypatch.setattr(processors, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_limits_it_is_the_affinity(groups: Path) -> None:
    assert processors.usable() == 64


@pytest.mark.parametrize(
    ("quota", "count"), [("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("max 100000", 64)]
)
def test_the_quota_of_a_container(groups: Path, quota: str, count: int) -> None:
    write(groups / "cpu.max", quota)
    assert processors.usable() == count


def test_the_quota_of_a_group_above_counts_too(groups: Path) -> None:
    write(groups / "membership", "0::/kubepods/pod1/one\n")
    write(groups / "kubepods/pod1/cpu.max", "300000 100000")
    write(groups / "kubepods/pod1/one/cpu.max", "max 100000")
    assert processors.usable() == 3


@pytest.mark.parametrize(("quota", "count"), [("400000", 4), ("50000", 1), ("-1", 64)])
@pytest.mark.parametrize(
    ("controllers", "folder"),
    [("cpu,cpuacct", "cpu,cpuacct"), ("cpuacct,cpu", "cpuacct,cpu"), ("cpu", "cpu"), ("cpu,cpuacct", "cpu")],
)
@pytest.mark.parametrize("group", ["docker/abc", "docker", ""])  # "": a container that sees its own group as the root
def test_the_first_version_of_control_groups(
    group: str, controllers: str, folder: str, groups: Path, quota: str, count: int
) -> None:
    write(groups / "membership", f"5:cpuset:/\n4:{controllers}:/docker/abc\n0::/\n")
    write(groups / folder / group / "cpu.cfs_quota_us", quota)
    write(groups / folder / group / "cpu.cfs_period_us", "100000")
    assert processors.usable() == count


def test_the_smallest_of_all_limits_holds(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(groups / "membership", "0::/a/b\n")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "9")
    for path, quota, count in (("a/b", "800000", 8), ("a", "250000", 3), (".", "700000", 3)):
        write(groups / path / "cpu.max", f"{quota} 100000")
        assert processors.usable() == count
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {5, 7})
    assert processors.usable() == 2


def test_slurm_s_share(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    assert processors.usable() == 6


def test_this_machine_has_at_least_one() -> None:
    assert 1 <= processors.usable() <= AFFINITY


def spinning(program: str, tmp_path: Path, **environment: str) -> str:
    plain = {name: own for name, own in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    (tmp_path / "torch.py").write_text("")  # stands for torch, which takes seconds
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {program}; "
    program += "import os; from segbench import processors; print(processors.SPINNING, os.environ['OMP_WAIT_POLICY'])"
    return subprocess.run(
        [sys.executable, "-c", program], env=plain | environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_threads_sleep_while_they_wait_unless_torch_was_there_before(tmp_path: Path) -> None:
    assert spinning("import segbench, torch", tmp_path) == "False PASSIVE"
    assert spinning("import torch, segbench", tmp_path) == "True PASSIVE"
    assert spinning("import torch, segbench", tmp_path, OMP_WAIT_POLICY="passive") == "False passive"
    assert spinning("import torch, segbench", tmp_path, GOMP_SPINCOUNT="0") == "False PASSIVE"


@pytest.mark.parametrize(("ticks", "left"), [((20, 20, 20, 20), 4), ((20, 1, 20, 0), 2), ((0, 0, 0, 0), 1)])
def test_processors_that_others_keep_busy_are_not_left(
    ticks: tuple[int, ...], left: int, groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)), raising=False)
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    monkeypatch.setattr(processors, "TIMES", groups / "stat")

    def says(*idle: int) -> None:
        rows = [f"cpu{number} 9 9 9 {own} 0 9" for number, own in enumerate(idle)]
        write(groups / "stat", "\n".join(["cpu 9 9 9 9 9", *rows, "cpu4 9 9 9 999 0 9", "intr 1"]))

    says(5, 5, 5, 5)
    monkeypatch.setattr(processors.time, "sleep", lambda seconds: says(*(5 + own for own in ticks)))
    assert processors.left_by_others() == left


def test_where_nothing_is_known_of_others_all_are_left(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "TIMES", groups / "none")
    assert processors.left_by_others() == 64
