"""The processors that may really be used: affinity, quotas of control groups of both versions, SLURM's share."""

from __future__ import annotations

import os
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


@pytest.mark.parametrize(("quota", "count"), [("400000", 4), ("-1", 64)])
def test_the_first_version_of_control_groups(groups: Path, quota: str, count: int) -> None:
    write(groups / "membership", "4:cpu,cpuacct:/docker/abc\n")
    write(groups / "cpu,cpuacct/docker/abc/cpu.cfs_quota_us", quota)
    write(groups / "cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000")
    assert processors.usable() == count


def test_slurm_s_share(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    assert processors.usable() == 6


def test_this_machine_has_at_least_one() -> None:
    assert 1 <= processors.usable() <= AFFINITY
