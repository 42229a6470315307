"""How many processors this process may really use, and how its threads wait for each other."""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
TIMES = Path("/proc/stat")
LOOK = 0.2
"""Seconds for which `left_by_others` looks."""
SPINNING = (
    "torch" in sys.modules
    and os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE"
    and os.environ.get("GOMP_SPINCOUNT") != "0"
)
"""Whether OpenMP's threads of this process spin while they wait, because torch was imported before segbench."""


def usable() -> int:
    """Return the number of processors: by affinity, the quota of the control group, and SLURM's share; at least 1.

    A container with a quota of two processors still shows all those of its host, and threads for all of them would
    spend their time stopped.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max);
        https://docs.kernel.org/scheduler/sched-bwc.html (cpu.cfs_quota_us);
        https://slurm.schedmd.com/sbatch.html (SLURM_CPUS_PER_TASK)
    """
    found = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    found += [math.ceil(quota) for quota in _quotas()]
    share = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if share.isdecimal():
        found.append(int(share))
    return max(1, min(found))


def wait_passively() -> None:
    """Let OpenMP's threads sleep while they wait, in processes that have not imported torch yet and those they start.

    By default they spin: beside another busy process, each barrier then lasts until the scheduler comes round. The
    threads of numpy's OpenBLAS spin for 2^26 ticks after each product of matrices; they get 2^4.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")


def left_by_others() -> int:
    """Return how many of the usable processors are idle while this process sleeps for a moment; at least 1."""
    before = _idle()
    time.sleep(LOOK)
    after = _idle()
    known = [after[name] - before[name] for name in before if name in after]
    free = sum(known) / os.sysconf("SC_CLK_TCK") / LOOK if known else math.inf
    return max(1, min(usable(), round(free))) if math.isfinite(free) else usable()


def _idle() -> dict[str, int]:
    """Return for each processor of this process how long it had nothing to do, in ticks; nothing where none says it."""
    own = {f"cpu{number}" for number in os.sched_getaffinity(0)} if hasattr(os, "sched_getaffinity") else set()
    try:
        rows = [line.split() for line in TIMES.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[4]) + int(row[5]) for row in rows if row and row[0] in own}


def _quotas() -> list[float]:
    """Return the quotas, in processors, of the control groups that this process is in, and of those above them."""
    quotas = []
    for folder in _groups():
        first, second = _words(folder / "cpu.max"), _words(folder / "cpu.cfs_quota_us")
        if len(first) == 2 and first[0].isdecimal():
            quotas.append(int(first[0]) / int(first[1]))
        period = _words(folder / "cpu.cfs_period_us")
        if second and period and second[0].isdecimal():  # -1 is no quota
            quotas.append(int(second[0]) / int(period[0]))
    return [quota for quota in quotas if quota > 0]


def _groups() -> list[Path]:
    found = [CGROUPS, CGROUPS / "cpu"]
    try:
        lines = MEMBERSHIP.read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        controllers, _, group = line.partition(":")[2].partition(":")
        names = controllers.split(",")
        if controllers and "cpu" not in names:
            continue
        for base in {CGROUPS / controllers, CGROUPS / "cpu"} if controllers else {CGROUPS}:
            inside = base / group.strip("/")
            found += [inside, *(above for above in inside.parents if above.is_relative_to(base))]
    return list(dict.fromkeys(found))


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
