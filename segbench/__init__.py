"""segbench: robustness benchmarks for semantic segmentation."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from segbench.processors import wait_passively

if TYPE_CHECKING:
    from segbench.api import Result, attack, evaluate, load_model, predict, run_matrix

__all__ = ["Result", "attack", "evaluate", "load_model", "predict", "run_matrix"]

wait_passively()


def __getattr__(name: str) -> Any:
    """Import the Python interface when it is first asked for: the command line starts without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("segbench.api"), name)
