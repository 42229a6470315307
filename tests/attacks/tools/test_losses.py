"""Losses, their gradients and the weights of the attacks against slow numpy code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.attacks.cospgd import cospgd_loss
from segbench.attacks.segpgd import segpgd_loss, segpgd_weight
from segbench.attacks.tools.losses import (
    LossName,
    balanced_masked_cross_entropy,
    carlini_wagner,
    cross_entropy,
    image_mean,
    input_gradient,
    jensen_shannon,
    known_classes,
    logit_scale,
    margin,
    masked_cross_entropy,
    masked_spherical,
    named_loss,
    objective,
    predicted,
    right_pixels,
    soft_margin,
    typical_margin,
    unfooled_pixels,
)
from segbench.attacks.tools.targets import goal

VOID = 255
CLASS_PIXELS = torch.tensor([900.0, 100.0, 40.0, 10.0])
Array = NDArray[np.float64]


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.double) * 3


@pytest.fixture
def masks(logits: Tensor) -> Tensor:
    """Half of the pixels right, some void."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randint(4, (2, 3, 5), generator=generator)
    masks = torch.where(torch.rand(2, 3, 5, generator=generator) < 0.5, noise, logits.argmax(1))
    masks[:, 0, :2] = VOID
    return masks


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max())
    return e / e.sum()


def slow_ce(z: Array, label: int) -> float:
    return float(-np.log(softmax(z)[label]))


def slow_js(z: Array, label: int) -> float:
    p, q = softmax(z), np.eye(len(z))[label]
    m = (p + q) / 2
    kl = [sum(a * np.log(a / b) for a, b in zip(d, m, strict=True) if a > 0) for d in (p, q)]
    return float(sum(kl) / 2)


def slow_margin(z: Array, label: int) -> float:
    return float(z[label] - max(z[k] for k in range(len(z)) if k != label))


def slow_cosine(scores: Array, label: int) -> float:
    onehot = np.eye(len(scores))[label]
    return float(scores @ onehot / np.sqrt((scores**2).sum()) / 1.0)


def right(z: Array, label: int) -> float:
    return float(z.argmax() == label)


SLOW: dict[str, tuple[Callable[..., Tensor], Callable[[Array, int], float]]] = {
    "ce": (cross_entropy, slow_ce),
    "masked-ce": (masked_cross_entropy, lambda z, k: right(z, k) * slow_ce(z, k)),
    "balanced-masked-ce": (
        lambda logits, masks: balanced_masked_cross_entropy(logits, masks, class_pixels=CLASS_PIXELS) / 10,
        lambda z, k: right(z, k) * slow_ce(z, k) / float(CLASS_PIXELS[k]),
    ),
    "js": (jensen_shannon, slow_js),
    "masked-spherical": (masked_spherical, lambda z, k: -right(z, k) * z[k] / np.sqrt((z**2).sum())),
    "cw-margin": (carlini_wagner, lambda z, k: -max(slow_margin(z, k), 0.0)),
    "cw-margin, kappa": (
        lambda logits, masks: carlini_wagner(logits, masks, kappa=1.5),
        lambda z, k: -max(slow_margin(z, k), -1.5),
    ),
    "margin": (margin, slow_margin),
    "soft-margin": (
        lambda logits, masks: soft_margin(logits, masks, width=0.3, typical=torch.full((2, 1, 1), 4.0)),
        lambda z, k: -slow_margin(z, k) / (abs(slow_margin(z, k)) + 1.2),
    ),
    "segpgd": (
        lambda logits, masks: segpgd_loss(logits, masks, weight=0.2),
        lambda z, k: (0.8 if right(z, k) else 0.2) * slow_ce(z, k),
    ),
    "segpgd, target": (
        lambda logits, masks: segpgd_loss(logits, goal(masks, 2), weight=0.2, targeted=True),
        lambda z, k: -(0.2 if right(z, 2) else 0.8) * slow_ce(z, 2),
    ),
    "cospgd": (cospgd_loss, lambda z, k: slow_cosine(softmax(z), k) * slow_ce(z, k)),
    "cospgd, sigmoid": (
        lambda logits, masks: cospgd_loss(logits, masks, activation="sigmoid"),
        lambda z, k: slow_cosine(1 / (1 + np.exp(-z)), k) * slow_ce(z, k),
    ),
    "cospgd, target": (
        lambda logits, masks: cospgd_loss(logits, goal(masks, 1), targeted=True),
        lambda z, k: -(1 - slow_cosine(softmax(z), 1)) * slow_ce(z, 1),
    ),
}


@pytest.mark.parametrize("name", SLOW)
def test_values_equal_slow_numpy(name: str, logits: Tensor, masks: Tensor) -> None:
    fast, slow = SLOW[name]
    expected = np.zeros(masks.shape)
    for index in np.ndindex(*masks.shape):
        if masks[index] != VOID:
            expected[index] = slow(logits[index[0], :, index[1], index[2]].numpy(), int(masks[index]))
    np.testing.assert_allclose(fast(logits, masks).numpy(), expected, rtol=1e-6, atol=1e-9)


DETACHED = {"cospgd", "cospgd, sigmoid", "cospgd, target"}


@pytest.mark.parametrize("name", sorted(set(SLOW) - DETACHED))
def test_gradients_equal_finite_differences_of_slow_numpy(name: str, logits: Tensor, masks: Tensor) -> None:
    fast, slow = SLOW[name]
    logits = logits.requires_grad_()
    (gradient,) = torch.autograd.grad(fast(logits, masks).sum(), logits)
    for index in np.ndindex(*masks.shape):
        n, i, j = index
        z, label = logits[n, :, i, j].detach().numpy(), int(masks[index])
        expected = np.zeros(4)
        for k in range(4) if label != VOID else ():
            h = np.eye(4)[k] * 1e-6
            expected[k] = (slow(z + h, label) - slow(z - h, label)) / 2e-6
        np.testing.assert_allclose(gradient[n, :, i, j].numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_cospgd_weight_carries_no_gradient(activation: Any, logits: Tensor, masks: Tensor) -> None:
    logits = logits.requires_grad_()
    (gradient,) = torch.autograd.grad(cospgd_loss(logits, masks, activation=activation).sum(), logits)
    for index in np.ndindex(*masks.shape):
        n, i, j = index
        z, label = logits[n, :, i, j].detach().numpy(), int(masks[index])
        expected = np.zeros(4)
        if label != VOID:
            scores = softmax(z) if activation == "softmax" else 1 / (1 + np.exp(-z))
            expected = slow_cosine(scores, label) * (softmax(z) - np.eye(4)[label])
        np.testing.assert_allclose(gradient[n, :, i, j].numpy(), expected, rtol=1e-6, atol=1e-9)


def test_segpgd_weight_rises_from_zero_towards_a_half() -> None:
    assert [segpgd_weight(t, 5) for t in range(1, 6)] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert [segpgd_weight(t, 20) for t in (1, 11, 20)] == [0.0, 0.25, 0.475]


@pytest.mark.parametrize("name", ["ce", "masked-ce", "balanced-masked-ce", "js", "masked-spherical", "cw-margin"])
def test_values_and_gradients_stay_finite_where_probabilities_underflow(name: LossName) -> None:
    logits = torch.tensor([[500.0, -500.0, 0.0], [-500.0, 500.0, 0.0], [0.0, 0.0, 0.0]]).T.reshape(1, 3, 1, 3)
    logits = torch.cat([logits, logits[:, :1] - 500], 1).requires_grad_()
    loss = named_loss(name, class_pixels=CLASS_PIXELS)(logits, torch.zeros(1, 1, 3, dtype=torch.long))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(gradient).all()


def test_jensen_shannon_lies_between_zero_and_log_two() -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]]).T.reshape(1, 2, 1, 2)
    loss = jensen_shannon(logits, torch.zeros(1, 1, 2, dtype=torch.long))
    torch.testing.assert_close(loss, torch.tensor([[[0.0, np.log(2)]]]).float(), atol=1e-6, rtol=0)


def test_balanced_loss_asks_for_the_class_counts() -> None:
    with pytest.raises(ValueError, match="pass class_pixels"):
        named_loss("balanced-masked-ce")


def test_image_mean_skips_void_and_empty_images(masks: Tensor) -> None:
    masks = masks.clone()
    masks[1] = VOID
    values = torch.arange(30.0).view(2, 3, 5)
    expected = np.mean([values[0, i, j].item() for i, j in np.ndindex(3, 5) if masks[0, i, j] != VOID])
    torch.testing.assert_close(image_mean(values, masks), torch.tensor([expected, 0.0]).float())


@pytest.mark.parametrize("classes", [2, 11])
def test_the_first_of_equal_logits_is_predicted_as_numpy_says(classes: int) -> None:
    rng = np.random.default_rng(classes)
    logits = rng.integers(-2, 3, (2, classes, 13, 17)).astype(np.float32)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        given = torch.from_numpy(logits).contiguous(memory_format=memory_format).requires_grad_()
        found = predicted(given)
        assert not found.requires_grad
        np.testing.assert_array_equal(found, logits.argmax(1))
        np.testing.assert_array_equal(predicted(given[0], 0), logits[0].argmax(0))


def test_right_pixels_counts_no_void(logits: Tensor, masks: Tensor) -> None:
    counted = [
        sum(right(logits[n, :, i, j].numpy(), int(masks[n, i, j])) for i, j in np.ndindex(3, 5)) for n in range(2)
    ]
    assert right_pixels(logits, masks).tolist() == counted
    assert 0 < counted[0] < 13


def test_gradient_of_an_image_is_that_of_its_own_mean(pixel_linear: Any, masks: Tensor) -> None:
    model = pixel_linear(num_classes=4, height=3, width=5)
    images = torch.rand(2, 3, 3, 5, generator=torch.Generator().manual_seed(2))
    gradient, losses, logits = input_gradient(model, images, masks, cross_entropy)
    weight = model.weight.detach()
    for n in range(2):
        count = int((masks[n] != VOID).sum())
        for i, j in np.ndindex(3, 5):
            expected = torch.zeros(3)
            if masks[n, i, j] != VOID:
                p = logits[n, :, i, j].softmax(0) - torch.eye(4)[masks[n, i, j]]
                expected = weight[:, :, i, j].T @ p / count
            torch.testing.assert_close(gradient[n, :, i, j], expected)
    torch.testing.assert_close(losses, image_mean(cross_entropy(logits, masks), masks))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_rescaled_loss_does_not_see_the_scale_of_logits(logits: Tensor, masks: Tensor) -> None:
    loss = objective(cross_entropy, rescale=True)
    torch.testing.assert_close(loss(logits, masks), loss(10 * logits, masks))
    first, second = logits.detach().topk(2, 1).values.unbind(1)
    gap = [(first - second)[n][masks[n] != VOID].mean() for n in range(2)]
    torch.testing.assert_close(logit_scale(logits, masks).flatten(), torch.stack(gap))
    assert logit_scale(torch.zeros_like(logits), masks).unique().item() == 1


def test_a_target_is_approached(logits: Tensor, masks: Tensor) -> None:
    labels = goal(masks, 2)
    made = objective(cross_entropy, targeted=True)(logits, labels)
    torch.testing.assert_close(made, -cross_entropy(logits, masks.where(masks == VOID, 2)))
    assert (made[masks == VOID] == 0).all()


def test_soft_margin_does_not_see_the_scale_of_logits_and_counts_at_width_zero(logits: Tensor, masks: Tensor) -> None:
    made = soft_margin(logits, masks, width=0.3)
    torch.testing.assert_close(soft_margin(10 * logits, masks, width=0.3), made)
    mean = [margin(logits, masks)[n][masks[n] != VOID].abs().mean() for n in range(2)]
    torch.testing.assert_close(typical_margin(logits, masks).flatten(), torch.stack(mean))
    assert typical_margin(torch.zeros_like(logits), masks).unique().item() == 1
    valid = (masks != VOID).flatten(1).sum(1)
    counted = (valid - soft_margin(logits, masks, width=1e-9).flatten(1).sum(1)) / 2
    torch.testing.assert_close(counted, right_pixels(logits, masks).double(), atol=1e-3, rtol=0)


def test_unfooled_pixels_are_the_right_ones_or_those_off_target(logits: Tensor, masks: Tensor) -> None:
    labels = goal(masks, 2)
    assert torch.equal(unfooled_pixels(logits, masks), right_pixels(logits, masks))
    off = [sum(int(k) != 2 for k in logits[n].argmax(0)[masks[n] != VOID]) for n in range(2)]
    assert unfooled_pixels(logits, labels, targeted=True).tolist() == off


def test_typical_margin_leaves_out_pixels_of_classes_that_the_network_does_not_know() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 8, 8, generator=generator) * 3
    masks = torch.randint(0, 4, (3, 8, 8), generator=generator)
    by_hand = [margin(logits, masks)[i].abs().mean() for i in range(3)]
    torch.testing.assert_close(typical_margin(logits, masks).flatten(), torch.stack(by_hand))
    # Two further classes: never computed, and computed but never near the highest.
    rest = torch.stack([torch.full((3, 8, 8), -1e4), torch.randn(3, 8, 8, generator=generator) - 40], 1)
    wider = torch.cat([logits, rest], 1)
    assert known_classes(wider).tolist() == [[True] * 4 + [False, True]] * 3
    unknown = masks.clone()
    unknown[:, 2] = 4
    void = masks.clone()
    void[:, 2] = 255
    assert torch.equal(typical_margin(wider, unknown), typical_margin(wider, void))
    far = masks.clone()
    far[:, 2] = 5
    assert (typical_margin(wider, far) > typical_margin(wider, void)).all()
    torch.testing.assert_close(typical_margin(10 * wider, unknown), 10 * typical_margin(wider, unknown))
    # Through a log-softmax the logit of the unknown class is no longer quite constant.
    assert known_classes(wider.log_softmax(1)).tolist() == known_classes(wider).tolist()
    # Logits that are the same everywhere and the highest are known.
    flat = torch.zeros(1, 3, 4, 4)
    flat[:, 1] = 2
    assert known_classes(flat).tolist() == [[False, True, False]]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_label_is_the_first_of_the_highest(layout: torch.memory_format, dtype: torch.dtype) -> None:
    source = torch.Generator().manual_seed(0)
    logits = torch.randint(-3, 4, (2, 9, 6, 5), generator=source).to(dtype).contiguous(memory_format=layout)
    np.testing.assert_array_equal(predicted(logits), logits.float().numpy().argmax(1))
    np.testing.assert_array_equal(predicted(logits[0], 0), logits[0].float().numpy().argmax(0))
    assert predicted(logits).dtype == torch.int64
