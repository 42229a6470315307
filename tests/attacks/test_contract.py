"""What every attack in the catalog promises: a new one is tested by existing."""

from __future__ import annotations

import copy
import random
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segbench.attacks.base import Attack, BoundAttack
from segbench.attacks.tools.budget import check_budget
from segbench.attacks.tools.passes import count_passes
from segbench.attacks.tools.targets import goal
from segbench.components import catalog

VOID = 255
CHEAP = {"steps": 4, "queries": 40, "epochs": 1, "restarts": 2, "diversity": 0.5}
CHEAP_BY_NAME = {
    "sea": {"steps": 8},
    "apgd": {"steps": 8},
    "almaprox": {"steps": 15, "alpha": 0.005},
    "dag": {"alpha": 0.02},
    "pdpgd": {"steps": 60, "alpha": 0.1},
    "standard": {"passes": 24, "eps": 0.03},
    "universal": {"epochs": 5, "alpha": 0.01},
    "universal-patch": {"epochs": 5, "alpha": 0.1, "size": 0.2},
    "patch": {"alpha": 0.3},
    "hide": {"alpha": 0.02},
}
CLASS_PIXELS = torch.tensor([900, 100, 40, 0])
HALVES = torch.arange(32).expand(32, 32) // 16
"""A map of two labels, as a target."""
FEW_CHOICES = 7


def cases() -> Iterator[Any]:
    """Every attack with cheap options, then with every other value of its options that have few."""
    for name, component in catalog.components("attack").items():
        known = component.options
        base = {key: value for key, value in CHEAP.items() if key in known} | CHEAP_BY_NAME.get(name, {})
        yield pytest.param(component.object, base, id=name)
        for option, parameter in known.items():
            for value in alternatives(parameter.annotation, parameter.default):
                larger = {"eps": 1.0, "alpha": 0.5} if value == "l2" else {}
                larger = {key: size for key, size in larger.items() if key in known}
                shown = "map" if isinstance(value, Tensor) else value
                yield pytest.param(component.object, {**base, **larger, option: value}, id=f"{name}-{option}={shown}")


def alternatives(annotation: Any, default: Any) -> list[Any]:
    origin = get_origin(annotation)
    if annotation is bool:
        return [not default]
    if origin is Literal and len(get_args(annotation)) <= FEW_CHOICES:
        return [value for value in get_args(annotation) if value != default]
    if origin in (Union, types.UnionType) and default is None:
        if any(get_origin(part) is tuple for part in get_args(annotation)):
            return [(0.2, 0.7)]
        found: list[Any] = [1 if int in get_args(annotation) else 0.02]
        return [*found, HALVES] if Tensor in get_args(annotation) else found
    return []


EVERY_CASE = pytest.mark.parametrize(("attack", "options"), list(cases()))
EVERY_ATTACK = pytest.mark.parametrize(
    ("attack", "options"), [case for case in cases() if case.id in catalog.components("attack")]
)


def bind(attack: Attack[...], options: dict[str, Any], task: Any) -> Any:
    """Fix the options and what some attacks need besides; a call then takes model, images and masks."""
    if attack.name == "corruption":
        pytest.importorskip("imagecorruptions", reason="the extra 'corruptions' is not installed")
    bound = attack.bind(**options)
    extra: dict[str, Any] = {"class_pixels": CLASS_PIXELS}
    if attack.fit is not None:
        extra["perturbation"] = bound.fit(task.model, [(task.images, task.masks)], ignore_index=VOID)

    def run(model: nn.Module, images: Tensor, masks: Tensor, **more: Any) -> Tensor:
        given = extra | {"perturbation": extra["perturbation"].to(images)} if attack.fit else extra
        return bound(model, images, masks, **{"ignore_index": VOID, "generator": seeds(len(images)), **given, **more})

    run.bound = bound  # type: ignore[attr-defined]
    return run


def seeds(count: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + i) for i in range(count)]


def right(model: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        return ((model(images).argmax(1) == masks) & (masks != VOID)).flatten(1).sum(1)


@EVERY_CASE
def test_images_keep_budget_box_shape_and_type(attack: Attack[...], options: dict[str, Any], task: Any) -> None:
    run = bind(attack, options, task)
    made = run(task.model, task.images, task.masks)
    allowed = run.bound.allowed(task.images, task.masks, ignore_index=VOID, generator=seeds(3))
    check_budget(made, task.images, run.bound.threat, allowed=allowed, tolerance=1e-6)
    assert made.dtype == task.images.dtype
    assert made.device == task.images.device
    assert not made.requires_grad


@EVERY_CASE
def test_void_pixels_have_no_say(attack: Attack[...], options: dict[str, Any], task: Any) -> None:
    run = bind(attack, options, task)
    made = run(task.model, task.images, task.masks)
    other = torch.where(task.masks == VOID, 99, task.masks)
    assert torch.equal(made, run(task.model, task.images, other, ignore_index=99))


@EVERY_CASE
def test_a_void_image_comes_back_clean(attack: Attack[...], options: dict[str, Any], task: Any) -> None:
    if attack.access == "none":
        pytest.skip("it looks at no mask")
    masks = task.masks.clone()
    masks[1] = VOID
    made = bind(attack, options, task)(task.model, task.images, masks)
    assert torch.equal(made[1], task.images[1])
    assert not torch.equal(made[0], task.images[0])


@EVERY_ATTACK
def test_same_seed_same_bits(attack: Attack[...], options: dict[str, Any], task: Any) -> None:
    run = bind(attack, options, task)
    assert torch.equal(run(task.model, task.images, task.masks), run(task.model, task.images, task.masks))


@EVERY_ATTACK
def test_another_seed_gives_other_images_where_there_is_randomness(
    attack: Attack[...], options: dict[str, Any], task: Any
) -> None:
    run = bind(attack, options, task)
    first = run(task.model, task.images, task.masks)
    other = run(task.model, task.images, task.masks, generator=seeds(3, first=100))
    takes = "generator" in attack.__wrapped__.__code__.co_varnames  # type: ignore[attr-defined]
    assert torch.equal(first, other) is not takes


@EVERY_ATTACK
def test_the_rest_of_the_batch_has_no_say(attack: Attack[...], options: dict[str, Any], task: Any) -> None:
    run = bind(attack, options, task)
    model = task.model.double()
    images = task.images.double()
    together = run(model, images, task.masks)
    alone = run(model, images[1:2], task.masks[1:2], generator=seeds(3)[1:2])
    # Kernels may round differently at another batch size, which a sign can make a whole step at a few values.
    differing = ((together[1:2] - alone).abs() > 1e-9).double().mean()
    assert differing <= 0.001


@EVERY_ATTACK
def test_the_world_is_left_as_found(attack: Attack[...], options: dict[str, Any], task: Any) -> None:
    run = bind(attack, options, task)
    task.model[1].eval()
    modes = [module.training for module in task.model.modules()]
    state = copy.deepcopy(task.model.state_dict())
    images, masks = task.images.clone(), task.masks.clone()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global state is what is tested
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    with torch.no_grad():
        run(task.model, images, masks)
        assert not torch.is_grad_enabled()
    assert [module.training for module in task.model.modules()] == modes
    assert all(torch.equal(value, task.model.state_dict()[key]) for key, value in state.items())
    assert all(parameter.grad is None for parameter in task.model.parameters())
    assert torch.equal(images, task.images)
    assert torch.equal(masks, task.masks)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    assert before[2] == random.getstate()


@EVERY_ATTACK
def test_passes_fit_the_access(attack: Attack[...], options: dict[str, Any], task: Any) -> None:
    run = bind(attack, options, task)
    with count_passes(task.model) as passes:
        run(task.model, task.images, task.masks)
    assert (passes.forward > 0) is (attack.access != "none" and attack.fit is None)
    assert (passes.backward > 0) is (attack.access == "gradients" and attack.fit is None)
    choosing = 3 if attack.ensemble else 0  # a call looks at the parts once more to choose among them
    for most in ("queries", "passes"):
        if most in options:
            assert passes.forward <= (options[most] + choosing) * len(task.images)


@EVERY_CASE
def test_it_fools_the_network(attack: Attack[...], options: dict[str, Any], task: Any) -> None:
    if attack.access == "none":
        pytest.skip("it does not look at the network")
    made = bind(attack, options, task)(task.model, task.images, task.masks)
    if options.get("target") is not None:
        aim = goal(task.masks, options["target"])
        assert (right(task.model, made, aim) > right(task.model, task.images, aim)).all()
    else:
        assert (right(task.model, made, task.masks) < right(task.model, task.images, task.masks)).all()


@EVERY_ATTACK
def test_iterates_are_results_of_fewer_steps(attack: Attack[...], options: dict[str, Any], task: Any) -> None:
    bound: BoundAttack = attack.bind(**options)
    if not attack.nested:
        if attack.access != "none" and attack.fit is None and not attack.ensemble:
            with pytest.raises(TypeError, match="not nested"):
                bound.iterates([1], task.model, task.images, task.masks)
        return
    swept = bound.iterates([1, 3], task.model, task.images, task.masks)
    assert sorted(swept) == [1, 3]
    for steps, images in swept.items():
        separate = attack.bind(**{**options, "steps": steps})(task.model, task.images, task.masks)
        assert torch.equal(images, separate)


@EVERY_ATTACK
def test_parts_hold_the_worst_image(attack: Attack[...], options: dict[str, Any], task: Any) -> None:
    if not attack.ensemble:
        return
    bound: BoundAttack = attack.bind(**options)
    arguments = (task.model, task.images, task.masks)
    parts = bound.parts(*arguments, generator=seeds(3), class_pixels=CLASS_PIXELS)
    assert len(parts) > 1
    worst = torch.stack([right(task.model, images, task.masks) for images in parts.values()]).amin(0)
    made = bound(*arguments, generator=seeds(3), class_pixels=CLASS_PIXELS)
    assert torch.equal(right(task.model, made, task.masks), worst)
    for images in parts.values():
        check_budget(images, task.images, bound.threat)


@EVERY_ATTACK
def test_unusable_input_is_refused(attack: Attack[...], options: dict[str, Any], task: Any) -> None:
    run = bind(attack, options, task)
    with pytest.raises(ValueError, match=r"floats in \[0, 1\]"):
        run(task.model, task.images * 255, task.masks)
    with pytest.raises(ValueError, match="images must be"):
        run(task.model, task.images, task.masks[:, :-1])


@pytest.mark.slow
@EVERY_CASE
def test_everything_is_made_on_the_device_of_the_images(
    attack: Attack[...], options: dict[str, Any], task: Any, pretended_gpu: Any
) -> None:
    options = options | {key: 3 for key in ("steps", "queries", "epochs") if key in options}
    expected = bind(attack, options, task)(task.model, task.images, task.masks)
    with pretended_gpu:
        there = type(task)(*(own.to("cuda:0") for own in task))
        made = bind(attack, options, there)(there.model, there.images, there.masks)
        assert made.is_cuda
        assert torch.equal(made.cpu(), expected)


@pytest.mark.parametrize(
    "name", ["bim", "cospgd", "hide", "label-square", "mifgsm", "patch", "pgd", "segpgd", "universal-patch"]
)
def test_what_follows_every_image_to_the_end_never_waits_for_the_device(
    name: str, task: Any, pretended_gpu: Any
) -> None:
    attack, waits = catalog.components("attack")[name].object, []
    with pretended_gpu:
        there = type(task)(*(own.to("cuda:0") for own in task))
        for passes in (2, 5):
            pretended_gpu.waits.clear()
            known = catalog.components("attack")[name].options
            run = bind(attack, {key: passes for key in ("steps", "epochs") if key in known}, there)
            run(there.model, there.images, there.masks)
            waits.append(pretended_gpu.waits.total())
    assert waits[0] == waits[1] > 0
