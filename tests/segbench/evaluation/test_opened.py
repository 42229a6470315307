from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from segbench.config.matrix import Runtime
from segbench.evaluation.opened import open_sweep
from segbench.plan.plan import Plan
from segbench.store import Store
from segbench.training.train import run_training

CPU = torch.device("cpu")


@pytest.mark.parametrize("defense", ["none", "bit-depth"])
def test_compiled_networks_are_copies_and_what_is_inside_a_defense_is_compiled(
    defense: str, tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def counting(forward: Callable[[Tensor], Tensor], **_: object) -> Callable[[Tensor], Tensor]:
        return lambda images: seen.append(len(images)) or forward(images)  # type: ignore[func-returns-value]

    monkeypatch.setattr(torch, "compile", counting)
    plan = tiny_plan(
        models=["pspnet(encoder=tiny, widths=[4,4,6,6], bins=[1,2], channels=4)"],
        defenses=[defense],
        transfer=None,
        attacks=["bim(steps=3)"],
    )
    store = Store(tmp_path)
    run_training(plan.trainings[0], store, Runtime(checkpoint_every=1e9), CPU, silent())
    plain, compiled = (open_sweep(plan.sweeps[0], store, Runtime(compile=own), CPU, silent()) for own in (False, True))
    images = plain.protocol.crops(*plain.split[0][1:]).images[:1]
    seen.clear()
    expected = plain.source(images)
    assert seen == []
    torch.testing.assert_close(compiled.source(images), expected, rtol=0, atol=0)
    assert seen == [1]
