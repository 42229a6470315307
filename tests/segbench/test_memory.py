"""Memory that is freed stays with the process, or goes back: seen by the pages that a large tensor needs anew."""

from __future__ import annotations

import platform
import sys

import pytest
import torch

from segbench import memory

PAGES = 2**16


def new_pages() -> int:
    """Return how many pages a tensor of 256 MiB takes from the system, after a larger one was freed."""
    import resource

    torch.ones(PAGES * 1536)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(PAGES * 1024)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="glibc alone has the options")
def test_what_is_freed_serves_again_until_it_is_given_back() -> None:
    size = PAGES * 4096 / 2
    memory.keep_freed()
    try:
        assert new_pages() < PAGES / 100
        held = resident()
    finally:
        memory.give_back()
    assert held - resident() > size
    assert new_pages() > PAGES / 2


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
