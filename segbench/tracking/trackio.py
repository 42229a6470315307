"""Trackio: on this machine, where TRACKIO_DIR says or in its own folder; `trackio show` opens it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import trackio

from segbench.tracking.base import Begun, Example


def start(begun: Begun) -> _Trackio:
    """Begin a run in the project that has the matrix's name."""
    return _Trackio(begun)


class _Trackio:
    def __init__(self, begun: Begun) -> None:
        with contextlib.redirect_stdout(sys.stderr):  # what it says is no result
            self.run = trackio.init(
                project=begun.project,
                name=begun.name,
                config=dict(begun.config),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def curve(self, name: str, values: Mapping[str, float], iteration: int) -> None:
        self.run.log({f"{name}/iteration": iteration, **{f"{name}/{key}": value for key, value in values.items()}})

    def results(self, name: str, values: Mapping[str, float]) -> None:
        self.run.log({f"{name}/{key}": value for key, value in values.items()})

    def images(self, name: str, examples: Sequence[Example]) -> None:
        for example in examples:
            self.run.log({f"{name}/{example.position}": trackio.Image(example.pixels, caption=example.caption)})

    def report(self, paths: Sequence[Path]) -> None:
        artifact = trackio.Artifact("report", "report")
        for path in paths:
            artifact.add_file(str(path))
        trackio.log_artifact(artifact)

    def close(self, failed: bool) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            trackio.finish()
