"""Weights & Biases: offline below the store's folder, unless WANDB_MODE says otherwise; `wandb sync` uploads it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from segbench.tracking.base import Begun, Example


def start(begun: Begun) -> _Wandb:
    """Begin a run in the project that has the matrix's name."""
    return _Wandb(begun)


class _Wandb:
    def __init__(self, begun: Begun) -> None:
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        begun.folder.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            project=begun.project,
            name=begun.name,
            config=dict(begun.config),
            dir=os.environ.get("WANDB_DIR", str(begun.folder)),
            mode=mode,
            settings=wandb.Settings(silent=True, console="off"),
        )
        self.curves: set[str] = set()

    def curve(self, name: str, values: Mapping[str, float], iteration: int) -> None:
        if name not in self.curves:
            self.run.define_metric(f"{name}/*", step_metric=f"{name}/iteration")
            self.curves.add(name)
        self.run.log({f"{name}/iteration": iteration, **{f"{name}/{key}": value for key, value in values.items()}})

    def results(self, name: str, values: Mapping[str, float]) -> None:
        self.run.log({f"{name}/{key}": value for key, value in values.items()})

    def images(self, name: str, examples: Sequence[Example]) -> None:
        self.run.log({name: [wandb.Image(example.pixels, caption=example.caption) for example in examples]})

    def report(self, paths: Sequence[Path]) -> None:
        artifact = wandb.Artifact("report", type="report")
        for path in paths:
            artifact.add_file(str(path))
        self.run.log_artifact(artifact)

    def close(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))
