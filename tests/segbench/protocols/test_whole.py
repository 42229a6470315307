from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.attacks.bim import bim
from segbench.errors import SegbenchError
from segbench.protocols.geometry import windows
from segbench.protocols.whole import SlidingWindow, Whole


def sample(height: int, width: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8))
    return image, torch.from_numpy(rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (height, width)))


def test_an_image_is_one_piece_as_it_is(context: nn.Module) -> None:
    image, mask = sample(9, 14)
    protocol = Whole()
    crops = protocol.crops(image, mask)
    assert torch.equal(crops.images, image[None] / 255)
    assert torch.equal(crops.masks, mask[None].long())
    assert torch.equal(crops.truth, mask.long())
    assert protocol.network(context) is context
    scores = protocol.scores(context, crops.images, attacked=True)
    with torch.no_grad():
        assert torch.equal(scores, context(image[None] / 255))
    assert torch.equal(protocol.merge(scores, crops), scores[0].argmax(0))


def test_at_another_size_the_truth_stays(context: nn.Module) -> None:
    image, mask = sample(9, 14)
    protocol = Whole(size=(18, 28))
    crops = protocol.crops(image, mask)
    assert crops.images.shape == (1, 3, 18, 28)
    assert torch.equal(crops.masks[0], mask.repeat_interleave(2, 0).repeat_interleave(2, 1).long())
    assert torch.equal(crops.truth, mask.long())
    scores = protocol.scores(context, crops.images, attacked=False)
    # Halving without antialiasing is the mean of two by two.
    assert torch.equal(protocol.merge(scores, crops), F.avg_pool2d(scores, 2)[0].argmax(0))


@pytest.mark.parametrize("size", [(20, 31), (12, 12), (7, 30), (5, 6)])
def test_windows_change_nothing_for_a_network_that_sees_one_pixel(pixelwise: nn.Module, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size)
    sliding = SlidingWindow(pixelwise, (12, 12), 2 / 3)
    with torch.no_grad():
        torch.testing.assert_close(sliding(images), pixelwise(images))


def test_a_window_as_large_as_the_image_is_the_network_itself(context: nn.Module) -> None:
    images = torch.rand(2, 3, 12, 17)
    with torch.no_grad():
        assert torch.equal(SlidingWindow(context, (12, 17), 2 / 3)(images), context(images))


def averaged(model: nn.Module, images: Tensor, window: int, stride: int) -> Tensor:
    """Slow reference that keeps the whole graph."""
    total, count = 0, 0
    for top, left in windows((images.shape[2], images.shape[3]), (window, window), (stride, stride)):
        sides = (left, images.shape[3] - left - window, top, images.shape[2] - top - window)
        logits = model(images[..., top : top + window, left : left + window])
        total, count = total + F.pad(logits, sides), count + F.pad(torch.ones_like(logits), sides)
    return total / count


def test_the_gradient_flows_through_all_windows(context: nn.Module) -> None:
    images = torch.rand(2, 3, 20, 26, requires_grad=True)
    weights = torch.randn(2, 4, 20, 26)
    sliding, plain = SlidingWindow(context, (9, 9), 2 / 3)(images), averaged(context, images, 9, 6)
    torch.testing.assert_close(sliding, plain)
    (ours,) = torch.autograd.grad((sliding * weights).sum(), images)
    (theirs,) = torch.autograd.grad((plain * weights).sum(), images)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert (ours.abs().amax(1) > 0).all()


def test_no_window_keeps_its_activations(context: nn.Module) -> None:
    def kept(height: int) -> int:
        sizes = []

        def note(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel() if tensor.shape[1:2] == (6,) else 0)
            return tensor

        images = torch.rand(1, 3, height, 12, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            SlidingWindow(context, (12, 12), 0.5)(images)
        return sum(sizes)

    # The network's inner maps have 6 channels; without checkpoints each window would keep some.
    assert kept(12) == kept(48) == 0


def test_an_attack_moves_one_image_and_hits_every_window(context: nn.Module) -> None:
    image, mask = sample(20, 26)
    protocol = Whole(window=(9, 9))
    crops = protocol.crops(image, mask)
    network = protocol.network(context)
    adversarial = bim(network, crops.images, crops.masks, eps=0.1, alpha=0.05, steps=4)
    assert adversarial.shape == crops.images.shape
    before = protocol.merge(protocol.scores(context, crops.images, attacked=False), crops)
    after = protocol.merge(protocol.scores(context, adversarial, attacked=True), crops)
    valid = crops.truth != 255
    assert (after == crops.truth)[valid].float().mean() < (before == crops.truth)[valid].float().mean()
    assert (adversarial != crops.images).any(1).float().mean() > 0.9


@pytest.mark.parametrize("options", [{"size": (0, 4)}, {"window": (4,)}, {"stride": 0.0}, {"stride": 1.5}])
def test_impossible_options_are_errors(options: dict[str, object]) -> None:
    with pytest.raises(SegbenchError, match="whole-v1: '"):
        Whole(**options)
