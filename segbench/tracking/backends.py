"""The trackers that there are, by name; the package of each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from segbench.config.matrix import TrackerName
from segbench.errors import SegbenchError, failing
from segbench.tracking.base import Begun, Tracker

MODULES: dict[TrackerName, str] = {
    "tensorboard": "segbench.tracking.tensorboard",
    "mlflow": "segbench.tracking.mlflow",
    "wandb": "segbench.tracking.wandb",
    "trackio": "segbench.tracking.trackio",
}
"""Each has a function `start`, which makes its tracker."""


def starter(name: TrackerName) -> Callable[[Begun], Tracker]:
    """Return what starts a tracker.

    Raises:
        SegbenchError: its package is not installed, or cannot be imported.
    """
    try:
        start: Callable[[Begun], Tracker] = import_module(MODULES[name]).start
    except ModuleNotFoundError as error:
        raise SegbenchError(
            f"--track {name}: the package {error.name} is not installed; pip install 'segbench[{name}]'"
        ) from error
    except Exception as error:  # whatever a broken installation raises
        raise SegbenchError(f"--track {name}: its package cannot be imported ({error})") from error

    def started(begun: Begun) -> Tracker:
        with failing(f"--track {name}: cannot start"):
            return start(begun)

    return started
