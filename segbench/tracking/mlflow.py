"""MLflow: where MLFLOW_TRACKING_URI says, or a database and a folder of artifacts below the store's folder."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from segbench.tracking.base import Begun, Example

LONGEST = 6000
"""Characters of a parameter; MLflow refuses longer ones."""


def start(begun: Begun) -> _MLflow:
    """Begin a run in the experiment that has the matrix's name."""
    return _MLflow(begun)


class _MLflow:
    def __init__(self, begun: Begun) -> None:
        own = os.environ.get("MLFLOW_TRACKING_URI")
        folder = begun.folder.resolve()
        self.client = MlflowClient(tracking_uri=own or f"sqlite:///{folder / 'mlflow.db'}")
        known = self.client.get_experiment_by_name(begun.project)
        place = None if own else (folder / "mlflow-artifacts").as_uri()
        experiment = known.experiment_id if known else self.client.create_experiment(begun.project, place)
        self.run = self.client.create_run(experiment, run_name=begun.name).info.run_id
        params = [Param(key, str(value)[:LONGEST]) for key, value in begun.config.items()]
        for first in range(0, len(params), 100):  # as many as MLflow takes at once
            self.client.log_batch(self.run, params=params[first : first + 100])

    def curve(self, name: str, values: Mapping[str, float], iteration: int) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(f"{name}/{key}", value, now, iteration) for key, value in values.items()]
        self.client.log_batch(self.run, metrics=metrics)

    def results(self, name: str, values: Mapping[str, float]) -> None:
        self.curve(name, values, 0)

    def images(self, name: str, examples: Sequence[Example]) -> None:
        for example in examples:
            self.client.log_image(self.run, example.pixels, artifact_file=f"{name}/{example.position:06d}.png")

    def report(self, paths: Sequence[Path]) -> None:
        for path in paths:
            self.client.log_artifact(self.run, str(path), "report")

    def close(self, failed: bool) -> None:
        self.client.set_terminated(self.run, "FAILED" if failed else "FINISHED")
