"""Attacks with a region, in a sweep: second scores, hidden objects, and the check of what changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from segbench.attacks.base import Attack
from segbench.attacks.hide import hide
from segbench.attacks.patch import patch
from segbench.attacks.tools.budget import BudgetExceeded
from segbench.config.matrix import Runtime
from segbench.errors import Stopped
from segbench.evaluation.regions import Limited, hidden_counts, limited, region_extras
from segbench.evaluation.sweep import run_sweep
from segbench.plan.plan import Plan, Sweep
from segbench.protocols.ddcat_crop import DdcatCrop
from segbench.protocols.whole import Whole
from segbench.reports.records import Record, RecordedThreat
from segbench.store import Store
from segbench.training.train import run_training


def seeds(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


def of_objects(truth: Tensor, clean: Tensor, source: int | None = 1) -> Limited:
    crops = Whole().crops(torch.zeros(3, *truth.shape), truth)
    return limited(hide.bind(source=source), Whole(), crops, torch.ones(1, *truth.shape, dtype=torch.bool), clean, 255)


def test_hidden_objects_are_counted_by_size_among_those_that_were_found() -> None:
    truth = torch.zeros(200, 200, dtype=torch.long)
    truth[:10, :10] = truth[20:30, :10] = truth[40:50, :10] = 1  # small
    truth[:40, 100:140] = 1  # medium
    truth[100:200, 100:200] = 1  # large
    truth[60:70, :10] = 2
    clean = truth.clone()
    clean[40:50, :6] = 0  # only 40 % found
    preds = clean.clone()
    preds[:10, :10] = 0  # gone
    preds[20:30, :8] = 0  # 20 % left
    preds[:40, 100:124] = 0  # 40 % left
    preds[60:70, :10] = 0  # of another class
    counts = hidden_counts(preds, truth, of_objects(truth, clean))
    assert counts.tolist() == [[2, 1, 1], [1, 0, 0], [2, 0, 0], [2, 1, 0]]
    extras = region_extras([np.array([[5, 1], [5, 2], [6, 1]])], [counts], "skip")
    assert extras["objects"] == 4
    assert extras["hidden_10"] == 25
    assert extras["hidden_25.small"] == 100
    assert extras["hidden_50.medium"] == 100
    assert extras["hidden_50.large"] == 0
    assert extras["miou_outside_objects"] == pytest.approx(100 * (5 / 6 + 1 / 2) / 2)
    nothing = region_extras([np.ones((3, 2), int)], [np.zeros((4, 3), int)], "skip")
    assert nothing["hidden_10"] is None


def test_all_classes_have_objects_where_no_source_is_given() -> None:
    truth = torch.zeros(4, 6, dtype=torch.long)
    truth[:, 3:] = 2
    truth[0, 0] = 255
    limit = of_objects(truth, truth, None)
    assert torch.equal(limit.own, truth != 255)
    assert hidden_counts(torch.full_like(truth, 2), truth, limit)[:, 0].tolist() == [2, 1, 1, 1]


def test_a_patch_is_left_out_at_the_size_of_the_label_map() -> None:
    truth = torch.zeros(40, 60, dtype=torch.long)
    image = torch.rand(3, 40, 60)
    bound_patch = patch.bind(size=0.25)
    for protocol, pixels in ((Whole(), 400), (Whole(size=(20, 30)), 400), (DdcatCrop(size=(40, 60), crop=40), None)):
        crops = protocol.crops(image, truth)
        pieces = bound_patch.allowed(crops.images, crops.masks, generator=seeds(len(crops.images)))
        assert pieces is not None
        own = limited(bound_patch, protocol, crops, pieces, None, 255).own
        assert own.shape == truth.shape
        if pixels is None:
            # Every crop has a patch of its own; a pixel is left out if one of them lies there.
            expected = torch.zeros_like(truth, dtype=torch.bool)
            for (top, left), piece in zip(crops.layout.corners, pieces, strict=True):
                expected[top : top + 40, left : left + 40] |= piece
            assert torch.equal(own, expected)
        else:
            side = round((0.25 * 40 * 60) ** 0.5)
            assert side**2 <= int(own.sum()) <= (side + 3) ** 2


@pytest.fixture
def swept(tiny_plan: Callable[..., Plan], tmp_path: Path, silent: type[Any]) -> Callable[..., Record]:
    """Train the smallest network, attack it, and return the record; `stop` interrupts the sweep once."""

    def run(written: str, *, stop: bool = False) -> Record:
        plan = tiny_plan(attacks=[written], models=["pspnet(encoder=tiny)"], defenses=["none"], transfer=None)
        store = Store(tmp_path / "store")
        (cell,) = plan.evaluations
        run_training(cell.target, store, Runtime(checkpoint_every=1e9), torch.device("cpu"), silent())
        if stop:
            store = Store(tmp_path / "stopped")
            run_training(cell.target, store, Runtime(checkpoint_every=1e9), torch.device("cpu"), silent())
        runtime = Runtime(eval_batch=2, checkpoint_every=1e9, keep_images=1)
        if stop:
            with pytest.raises(Stopped):
                run_sweep(Sweep(cell.source, (cell,)), store, runtime, torch.device("cpu"), silent(stop_at=2))
        run_sweep(Sweep(cell.source, (cell,)), store, runtime, torch.device("cpu"), silent())
        record = store.record(cell.digest)
        assert record is not None
        return record

    return run


def test_a_sweep_scores_with_and_without_the_patch(swept: Callable[..., Record]) -> None:
    record = swept("patch(size=0.1, steps=3, alpha=0.3)")
    assert record.scores is not None
    assert record.threat == RecordedThreat(norm=None, eps=None, access="gradients", region="patch", area=0.1)
    assert record.budget_used is None
    outside = record.extras["miou_outside_patch"]
    assert isinstance(outside, float)
    assert 0 < outside != record.scores.miou


def test_a_sweep_counts_hidden_objects_and_resumes_to_the_same(swept: Callable[..., Record]) -> None:
    whole = swept("hide(eps=0.2, alpha=0.05, steps=4)")
    assert whole.threat.region == "all"
    assert float(whole.extras["objects"] or 0) > 0
    assert float(whole.extras["hidden_50"] or 0) >= float(whole.extras["hidden_10"] or 0)
    stopped = swept("hide(eps=0.2, alpha=0.05, steps=4)", stop=True)
    assert stopped.extras == whole.extras
    assert stopped.scores == whole.scores


def test_a_sweep_refuses_what_leaves_its_region(swept: Callable[..., Record], monkeypatch: pytest.MonkeyPatch) -> None:
    def leaks(model: Any, images: Tensor, masks: Tensor, **options: Any) -> Tensor:
        made = images.clone()
        made[0, 0, 0, 0] = 1 - made[0, 0, 0, 0]
        return made

    monkeypatch.setattr(Attack, "__call__", lambda self, *args, **options: leaks(*args, **options))
    with pytest.raises(BudgetExceeded, match="changed outside of its patch region"):
        swept("patch(size=0.1, steps=1)")
