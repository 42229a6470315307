from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from segbench.config.matrix import Runtime
from segbench.evaluation.precision import in_precision, products
from segbench.evaluation.sweep import run_sweep
from segbench.plan.plan import Plan
from segbench.reports.comparable import condition, request
from segbench.reports.labels import Labels
from segbench.reports.records import Record
from segbench.reports.tables.layouts import layouts
from segbench.store import Store
from segbench.training.train import run_training

CPU = torch.device("cpu")


def test_bf16_rounds_the_passes_and_nothing_else() -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(3, 4, 3, padding=1)
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    exact, rounded = network(images), in_precision(network, "bf16")(images)
    assert rounded.dtype == torch.float32
    assert 0 < (exact - rounded).abs().max() < 2.0**-7 * exact.abs().max() * 2
    torch.testing.assert_close(rounded, rounded.bfloat16().float(), rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(rounded.sum(), images)
    assert gradient.dtype == torch.float32
    assert in_precision(network, "fp32") is in_precision(network, "tf32") is network


def test_products_keep_their_bits_unless_tf32_is_asked_for() -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    for precision, shown in (("fp32", ("highest", False)), ("tf32", ("high", True)), ("bf16", ("highest", False))):
        with products(precision):  # type: ignore[arg-type]
            assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == shown
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_precision_is_part_of_an_evaluation_and_of_no_training(tiny_plan: Callable[..., Plan]) -> None:
    plain, stated, rounded = tiny_plan(), tiny_plan(precision="fp32"), tiny_plan(precision="bf16")
    digests = [[cell.digest for cell in plan.evaluations] for plan in (plain, stated, rounded)]
    assert digests[0] == digests[1]
    assert not set(digests[0]) & set(digests[2])
    assert [cell.digest for cell in plain.trainings] == [cell.digest for cell in rounded.trainings]
    assert not {sweep.key for sweep in plain.sweeps} & {sweep.key for sweep in rounded.sweeps}


def test_records_of_two_precisions_share_no_table(tiny_plan: Callable[..., Plan]) -> None:
    records = [tiny_plan(precision=own).evaluations[0].expected() for own in ("fp32", "bf16")]
    assert Record.model_validate(records[0].model_dump(mode="json", exclude={"precision"})) == records[0]
    assert len({condition(record) for record in records}) == len({request(record) for record in records}) == 2
    tables = layouts(records, Labels(records))
    assert [table.heading.endswith((", fp32", ", bf16")) for table in tables] == [True, True]
    assert "Networks were attacked and evaluated in bf16." in tables[1].caption


def test_a_sweep_in_bf16_is_near_that_in_fp32(
    tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store(tmp_path_factory.mktemp("precise"))
    found = {}
    for precision in ("fp32", "bf16"):
        plan = tiny_plan(
            models=["pspnet(encoder=tiny, widths=[4,4,6,6], bins=[1,2], channels=4)"],
            defenses=["none"],
            transfer=None,
            attacks=["bim(steps=3)"],
            precision=precision,
        )
        run_training(plan.trainings[0], store, Runtime(checkpoint_every=1e9), CPU, silent())
        run_sweep(plan.sweeps[0], store, Runtime(keep_images=0), CPU, silent())
        record = store.record(plan.evaluations[0].digest)
        assert record is not None
        assert record.scores is not None
        assert record.precision == precision
        found[precision] = record.scores.aacc
    assert found["bf16"] == pytest.approx(found["fp32"], abs=5)
