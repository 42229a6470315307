"""Where numbers come from: versions, revision, device and threads. None of it is identity."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("segbench", "torch", "torchvision", "segmentation-models-pytorch", "timm", "numpy", "scipy", "scikit-learn")


def provenance(device: torch.device, layout: torch.memory_format = torch.channels_last) -> dict[str, Any]:
    """Return what may change the last bits of a result.

    Thread count and memory format change the last bits on a CPU, so they are kept with every result.
    """
    return {
        "versions": _versions(),
        "git_revision": _git_revision(),
        "platform": platform.platform(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "memory_format": str(layout).removeprefix("torch."),
    }


def device_name(device: torch.device) -> str:
    """Name the hardware: a GPU's model, or "cpu" with its architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})"


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def _git_revision() -> str | None:
    """Return the commit of the checkout that segbench runs from, marked where files differ from it."""
    here = Path(__file__).parent
    try:
        shown = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    tracked = subprocess.run(
        ["git", "ls-files", "--error-unmatch", __file__], cwd=here, capture_output=True, check=False
    )
    return shown.stdout.strip() or None if tracked.returncode == 0 else None
