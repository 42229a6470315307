"""What every defense of the catalog keeps, so that a new one is tested by existing."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segbench.attacks.tools.passes import count_passes
from segbench.components import catalog
from segbench.defenses.base import Certified, Dynamic, Losses, Prepared, Wrapped
from segbench.model_zoo.base import Segmenter

NAMES = list(catalog.components("defense"))
DYNAMIC = ("teacher-student", "teacher-student-vote")
"""The defenses that deploy more than one network."""
PASSES = {"demasked-smoothing": 5, "randomized-smoothing": 8}
"""Passes of the plain network in one prediction, where that is not one."""

Build = Callable[..., nn.Module]


@pytest.fixture
def build(make_segmenter: Callable[..., Segmenter], tmp_path: Path) -> Build:
    def make(name: str, seed: int = 0) -> nn.Module:
        options = {}
        if name == "pir-at":
            torch.save(make_segmenter(seed=99).trunk.encoder.state_dict(), tmp_path / "robust.pth")
            options["backbone"] = str(tmp_path / "robust.pth")
        segmenter = make_segmenter(seed)
        torch.manual_seed(seed + 1)
        defense = catalog.find("defense", name).object(segmenter, **options)
        if isinstance(defense, Prepared):
            defense.prepare()
        return defense.train()

    return make


def loss_of(defense: nn.Module, images: Tensor, masks: Tensor, seed: int = 0) -> Losses:
    torch.manual_seed(seed)
    return defense.loss(images, masks, torch.Generator().manual_seed(seed))


def train(defense: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor], steps: range) -> None:
    for step in steps:
        images, masks = batch
        optimizer.zero_grad()
        loss_of(defense, images.roll(step, 3), masks.roll(step, 2), seed=step).total.backward()
        optimizer.step()


def bits(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items() if isinstance(value, Tensor)}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("name", NAMES)
def test_loss_is_finite_and_trains_every_deployed_parameter(name: str, build: Build, batch) -> None:
    defense = build(name)
    images, masks = batch
    before = images.clone(), masks.clone()
    losses = loss_of(defense, images, masks)
    assert losses.total.ndim == 0
    assert torch.isfinite(losses.total)
    assert losses.terms
    assert all(term.ndim == 0 and not term.requires_grad and torch.isfinite(term) for term in losses.terms.values())
    losses.total.backward()
    for key, parameter in defense.named_parameters():
        if not key.startswith(("depth_head", "pose")):  # these learn from video alone
            assert parameter.grad is not None, key
            assert torch.isfinite(parameter.grad).all(), key
    assert torch.equal(images, before[0])
    assert torch.equal(masks, before[1])
    assert all(module.training for module in defense.modules())


@pytest.mark.parametrize("name", NAMES)
def test_computing_a_loss_leaves_no_gradient_behind(name: str, build: Build, batch) -> None:
    defense = build(name)
    loss_of(defense, *batch)
    assert all(parameter.grad is None for parameter in defense.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_same_seeds_give_the_same_bits(name: str, build: Build, batch) -> None:
    first, second = loss_of(build(name), *batch), loss_of(build(name), *batch)
    assert torch.equal(first.total, second.total)


@pytest.mark.parametrize("name", NAMES)
def test_loss_in_half_precision_is_close_and_in_full_precision_itself(name: str, build: Build, batch) -> None:
    full = loss_of(build(name), *batch).total
    defense = build(name)
    with torch.autocast("cpu", torch.bfloat16):
        half = loss_of(defense, *batch).total
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.05, atol=0)
    half.backward()
    assert all(torch.isfinite(p.grad).all() for p in defense.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_a_void_batch_gives_a_finite_loss(name: str, build: Build, batch) -> None:
    images, masks = batch
    defense = build(name)
    total = loss_of(defense, images, torch.full_like(masks, 255)).total
    assert torch.isfinite(total)
    total.backward()
    assert all(torch.isfinite(p.grad).all() for p in defense.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_training_resumes_from_a_checkpoint_with_the_same_bits(name: str, build: Build, batch) -> None:
    whole, parts = build(name), build(name)
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.05, momentum=0.9)
    train(whole, optimizer, batch, range(6))

    optimizer = torch.optim.SGD(parts.parameters(), lr=0.05, momentum=0.9)
    train(parts, optimizer, batch, range(3))
    file = io.BytesIO()
    torch.save({"defense": parts.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = build(name, seed=5)
    resumed.load_state_dict(saved["defense"])
    optimizer = torch.optim.SGD(resumed.parameters(), lr=0.05, momentum=0.9)
    optimizer.load_state_dict(saved["optimizer"])
    train(resumed, optimizer, batch, range(3, 6))
    assert_same(bits(whole), bits(resumed))


@pytest.mark.parametrize("name", NAMES)
def test_deployed_weights_load_into_a_fresh_network(name: str, build: Build, batch) -> None:
    images, _ = batch
    trained, fresh = build(name), build(name, seed=5)
    train(trained, torch.optim.SGD(trained.parameters(), lr=0.05), batch, range(1))
    deployed, loaded = trained.deploy().eval(), fresh.deploy().eval()
    assert not torch.equal(deployed(images), loaded(images))
    loaded.load_state_dict(deployed.state_dict())
    logits = deployed(images)
    assert logits.shape == (4, 3, 12, 14)
    assert torch.equal(logits, loaded(images))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in DYNAMIC])
def test_deployed_network_has_the_parameters_of_an_undefended_one(name: str, build: Build) -> None:
    plain = {key.removeprefix("plain."): p.shape for key, p in build(name).deploy().named_parameters()}
    assert plain == {key: p.shape for key, p in build("none").deploy().named_parameters()}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in DYNAMIC])
def test_deployed_network_has_the_cost_it_claims(name: str, build: Build, batch) -> None:
    deployed = build(name).deploy().eval()
    plain = deployed.plain if isinstance(deployed, Wrapped) else deployed
    with count_passes(plain) as passes, torch.no_grad():
        deployed(batch[0])
    assert passes.forward == len(batch[0]) * PASSES.get(name, 1)


@pytest.mark.parametrize("name", NAMES)
def test_prediction_changes_nothing_and_repeats(name: str, build: Build, batch) -> None:
    deployed = build(name).deploy().eval()
    before, state = bits(deployed), torch.get_rng_state()
    first = deployed(batch[0])
    assert torch.equal(first, deployed(batch[0]))
    assert_same(before, bits(deployed))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", NAMES)
def test_the_rest_of_the_batch_has_no_say_in_a_prediction(name: str, build: Build, batch) -> None:
    deployed = build(name).deploy().eval()
    alone = torch.cat([deployed(image[None]) for image in batch[0]])
    torch.testing.assert_close(deployed(batch[0]), alone)


@pytest.mark.parametrize("name", NAMES)
def test_deployed_network_can_be_attacked(name: str, build: Build, batch) -> None:
    images = batch[0].clone().requires_grad_()
    deployed = build(name).deploy().eval()
    (gradient,) = torch.autograd.grad(deployed(images).log_softmax(1)[:, 0].sum(), images)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_only_dynamic_defenses_have_a_state(name: str, build: Build) -> None:
    assert isinstance(build(name).deploy(), Dynamic) == (name in DYNAMIC)


@pytest.mark.parametrize("name", NAMES)
def test_docstring_names_a_source(name: str) -> None:
    if name != "none":
        assert "Source:" in catalog.find("defense", name).doc


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_made_on_the_device_of_the_images(
    name: str, build: Build, batch: tuple[Tensor, Tensor], pretended_gpu: Any
) -> None:
    def found(device: str) -> tuple[Tensor, ...]:
        images, masks = (own.to(device) for own in batch)
        defense = build(name).to(torch.device(device))
        total = loss_of(defense, images, masks).total
        total.backward()
        gradients = [own.grad.norm() for own in defense.parameters() if own.grad is not None]
        deployed = defense.deploy().eval()
        images.requires_grad_()
        logits = deployed(images)
        (gradient,) = torch.autograd.grad(logits.sum(), images)
        if isinstance(deployed, Dynamic):
            deployed.adapt(images.detach())
        return total.detach(), torch.stack(gradients), logits.detach(), gradient, deployed(images).detach()

    expected = found("cpu")
    with pretended_gpu:
        for own, other in zip(found("cuda:0"), expected, strict=True):
            assert own.is_cuda
            assert torch.equal(own.cpu(), other)


class Wide(TorchDispatchMode):
    """Notes operations that return eight bytes for each class and pixel of one image, or more of them."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.values = values
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tensors = [own for own in tree_leaves(made) if isinstance(own, Tensor)]
        if any(own.itemsize == 8 and own.numel() >= self.values for own in tensors):
            self.found.add(str(func))
        return made


@pytest.mark.parametrize("name", [name for name in NAMES if name != "median"])  # whose places are of the three colours
def test_no_prediction_holds_eight_bytes_for_each_class_and_pixel(
    name: str, build: Build, batch: tuple[Tensor, Tensor]
) -> None:
    images = batch[0][:1]
    deployed = build(name).deploy().eval()
    with Wide(images.numel()) as wide, torch.no_grad():  # as many classes as colours
        deployed(images)
        if isinstance(deployed, Certified):
            deployed.certify(images, [torch.Generator()])
    assert not wide.found
