from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.networks import compiling
from segbench.networks.compiling import compile_passes

IMAGES = torch.rand(2, 3, 8, 10, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.setattr(compiling, "_told", set())
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval().requires_grad_(False)


@pytest.fixture
def compiled_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Tensor]], None]:
    """Let `torch.compile` return a function of what it is given and of images."""

    def use(run: Callable[..., Tensor]) -> None:
        monkeypatch.setattr(torch, "compile", lambda forward, **_: lambda images: run(forward, images))

    return use


def passes(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the logits and the gradient of their squares."""
    images = images.clone().requires_grad_()
    logits = network(images)
    return [logits.detach(), *torch.autograd.grad(logits.square().sum(), images)]


def test_what_is_compiled_is_run_and_copied(network: nn.Module, compiled_by: Any) -> None:
    expected, made = passes(network, IMAGES), []
    compiled_by(lambda forward, images: made.append(forward(images)) or made[-1])
    compile_passes([network], IMAGES, pytest.fail)
    found = passes(network, IMAGES)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert found[0].data_ptr() != made[-1].data_ptr()


def no_compiler(forward: object, images: Tensor) -> Tensor:
    raise RuntimeError("no compiler")


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (no_compiler, "torch.compile raised RuntimeError"),
        (lambda forward, images: forward(images) + images.requires_grad, "compiled passes give other logits"),
        (lambda forward, images: forward(images) + (not images.requires_grad), "compiled passes give other logits"),
        (lambda forward, images: forward(images) * float("nan"), "compiled passes give other logits"),
    ],
)
def test_a_network_that_cannot_be_compiled_stays_as_it_is_and_one_line_says_so(
    run: Callable[..., Tensor], reason: str, network: nn.Module, compiled_by: Any
) -> None:
    expected, told = passes(network, IMAGES), []
    compiled_by(run)
    for _ in range(2):
        compile_passes([network, network], IMAGES, told.append)
    assert told == [f"{reason}; networks run without it"]
    torch.testing.assert_close(passes(network, IMAGES), expected, rtol=0, atol=0)


@pytest.fixture
def recompiled() -> Iterator[None]:
    yield
    torch.compiler.reset()


@pytest.mark.slow
def test_compiled_passes_give_the_same_logits_and_gradients_for_any_number_of_images(
    network: nn.Module, recompiled: None
) -> None:
    images = torch.rand(5, 3, 8, 10, generator=torch.Generator().manual_seed(1))
    expected, told = [passes(network, images[:count]) for count in (3, 5)], []
    compile_passes([network], IMAGES, told.append)
    if told:
        pytest.skip(told[0])
    with torch._dynamo.config.patch(error_on_recompile=True):
        found = [passes(network, images[:count]) for count in (3, 5)]
        with torch.no_grad():
            unfollowed = network(images)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(unfollowed, expected[1][0])
