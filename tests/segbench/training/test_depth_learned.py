"""The matrix `defenses` trains multitask-depth with nothing to download, and it learns depth there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from segbench.config.load import load_matrix
from segbench.config.matrix import Runtime
from segbench.defenses.multitask_depth import MultitaskDepth
from segbench.errors import Stopped
from segbench.execution import prepare
from segbench.store import Store
from segbench.training import train

CLIPS = 60


def error(defense: MultitaskDepth, images: Tensor, depth: Tensor) -> Tensor:
    """Relative error of the depth of each pixel, after scaling to the true median of all."""
    with torch.no_grad():
        found = 1 / defense.eval().disparity(images)[:, 0]
    return (found * depth.median() / found.median() - depth).abs() / depth


@pytest.mark.slow
def test_depth_of_unseen_scenes_is_learned_from_clips(silent: type[Any], tmp_path: Path) -> None:
    cells = prepare.tentative_plan(load_matrix("defenses")).trainings
    cell = next(cell for cell in cells if cell.defense.name == "multitask-depth")
    data = cell.data.open()
    clips = data.clips("val")
    scenes = [clips.scene(index) for index in range(CLIPS)]
    images = torch.stack([scene.frames[1] for scene in scenes]).float() / 255
    depth = torch.stack([scene.depth for scene in scenes])
    digits = depth < 2.1

    torch.manual_seed(train.derive(cell.seed, "weights"))
    defense = cell.build(len(data.classes), data.ignore_index)
    before = error(defense, images, depth)
    # Stopped after the last iteration, so that the checkpoint holds the depth head too, which nothing deploys.
    reporter = silent(stop_at=cell.recipe["iterations"])
    with pytest.raises(Stopped):
        train.run_training(cell, Store(tmp_path), Runtime(checkpoint_every=1e9), torch.device("cpu"), reporter)
    content = Store(tmp_path).checkpoint(cell.digest)
    assert content is not None
    checkpoint = torch.load(io.BytesIO(content), weights_only=True)
    defense.load_state_dict(checkpoint["defense"])
    after = error(defense, images, depth)
    shown = f"all pixels {before.mean():.3f} -> {after.mean():.3f}, digits {before[digits].mean():.3f} -> "
    print(shown + f"{after[digits].mean():.3f}")
    assert after.mean() < 0.75 * before.mean()
    assert after[digits].mean() < 0.5 * before[digits].mean()
