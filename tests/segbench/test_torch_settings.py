"""A program's settings of torch change no number of an evaluation, and are as they were afterwards."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import segbench
from segbench.torch_settings import put_aside, rounded

SWITCHED = hasattr(torch.backends.cuda.matmul, "fp32_precision")
"""Whether this torch has the newer way to say how products are rounded."""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> set[tuple[object, ...]]:
    """Takes note of how torch is set whenever a convolution runs; the network itself must not change."""
    found: set[tuple[object, ...]] = set()
    forward = nn.Conv2d.forward

    def noting(module: nn.Conv2d, features: Tensor) -> Tensor:
        states = (torch.is_autocast_enabled("cpu"), torch.get_default_dtype(), torch.get_default_device())
        rounds = torch.get_float32_matmul_precision(), torch.backends.mkldnn.matmul.fp32_precision if SWITCHED else ""
        found.add((*states, torch.is_inference_mode_enabled(), *rounds))
        return forward(module, features)

    monkeypatch.setattr(nn.Conv2d, "forward", noting)
    return found


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1))


def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def older_switch() -> Iterator[None]:
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision("highest")


def newer_switch() -> Iterator[None]:
    torch.backends.cuda.matmul.fp32_precision = "tf32"  # the older way cannot be read from now on
    yield
    torch.set_float32_matmul_precision("highest")


SETTINGS = {
    "no_grad": torch.no_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "device": lambda: torch.device("meta"),
    "default dtype": contextlib.contextmanager(default_dtype),
    "default device": contextlib.contextmanager(default_device),
    "older switch": contextlib.contextmanager(older_switch),
    "newer switch": contextlib.contextmanager(newer_switch),
}


def settings() -> tuple[object, ...]:
    switches: list[object] = []
    for read in (torch.get_float32_matmul_precision, lambda: torch.backends.cudnn.allow_tf32):
        try:
            switches.append(read())
        except RuntimeError:
            switches.append("mixed")
    if SWITCHED:
        backends = torch.backends
        parts: list[Any] = [backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv]
        switches += [part.fp32_precision for part in parts]
    modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
    drawn = random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002
    return (torch.get_default_dtype(), torch.get_default_device(), *modes, *switches, *drawn)


def scores(model: nn.Module, folder: Path) -> list[float]:
    result = segbench.evaluate(
        model, "digits(size=32, train=4, val=3)", ["clean", "bim(steps=2)"], store=folder, force=True
    )
    found = [record.scores.miou for record in result.records if record.scores is not None]
    assert len(found) == 2
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return scores(network(), tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("name", SETTINGS)
def test_no_setting_changes_an_evaluation(
    name: str, expected: list[float], seen: set[tuple[object, ...]], tmp_path: Path
) -> None:
    if name == "newer switch" and not SWITCHED:
        pytest.skip("this torch has one way to say how products are rounded")
    model, make = network(), SETTINGS[name]
    with make():  # type: ignore[operator]
        before = settings()
        found = scores(model, tmp_path)
        assert settings() == before
    assert found == expected
    cpu = torch.device("cpu")
    assert seen == {(False, torch.float32, cpu, False, "highest", "ieee" if SWITCHED else "")}


class Drawing(nn.Module):
    """A network that draws from all three global generators."""

    def forward(self, images: Tensor) -> Tensor:
        drawn = torch.from_numpy(np.random.rand(*images.shape)).float() + random.random()  # noqa: NPY002
        return torch.cat([images, drawn * torch.rand(1)], 1)


def test_what_a_network_draws_does_not_depend_on_what_was_drawn_before(tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)  # noqa: NPY002
        before = settings()
        attacks = ["clean", f"square(queries={2 + seed})"]  # whose passes have not been counted yet
        result = segbench.evaluate(Drawing(), "digits(size=32, train=4, val=3)", attacks, store=tmp_path / str(seed))
        assert settings() == before
        found.append(result.miou("clean"))
    assert found[0] == found[1]


def test_settings_come_back_after_an_error() -> None:
    def fail(manager: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        with manager():
            torch.set_default_dtype(torch.float64)
            raise KeyboardInterrupt

    before = settings()
    for manager in (put_aside, lambda: rounded(matrices=True, convolutions=False)):
        with pytest.raises(KeyboardInterrupt):
            fail(manager)
        torch.set_default_dtype(torch.float32)
        assert settings() == before


def test_what_a_network_s_file_sets_holds_for_it_alone(tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text(
        "import torch\ntorch.set_default_dtype(torch.float64)\ntorch.set_default_device('meta')\n"
        "torch.set_grad_enabled(False)\n\n\ndef build():\n"
        "    return torch.nn.Conv2d(3, 6, 1, device='cpu', dtype=torch.float32)\n"
    )
    before = settings()
    model = segbench.load_model(f"{tmp_path / 'made.py'}:build", num_classes=6)
    assert settings() == before
    assert model(torch.rand(1, 3, 4, 4)).requires_grad is False


def test_attacks_on_tensors_take_what_an_inference_left_and_any_default() -> None:
    torch.manual_seed(0)
    model, images, masks = nn.Conv2d(3, 2, 1), torch.rand(2, 3, 8, 8), torch.randint(2, (2, 8, 8))
    expected = segbench.attack(model, images, masks, "pgd(steps=2)")
    with torch.inference_mode():
        found = segbench.attack(model, images.clone(), masks.clone(), "pgd(steps=2)")
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    with contextlib.contextmanager(default_dtype)():
        torch.testing.assert_close(segbench.attack(model, images, masks, "pgd(steps=2)"), expected, rtol=0, atol=0)
