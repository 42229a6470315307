from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.errors import CellError
from segbench.evaluation import batch_size
from segbench.evaluation.batch_size import MOST, BatchSizes
from segbench.evaluation.training_data import Piecewise
from segbench.store import Store

CPU = torch.device("cpu")
SIZES = (64, 64), (473, 473), (1024, 2048)


class Small(nn.Module):
    """A device with room for a number of images, as torch and others tell of its end."""

    def __init__(self, room: int, error: Exception) -> None:
        super().__init__()
        self.room, self.error = room, error
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.room:
            raise self.error
        self.seen.append(len(images))
        return images * 2


def halves(network: nn.Module, images: Tensor, sizes: BatchSizes) -> Tensor:
    return torch.cat(sizes.in_parts("net", network, images, "net", lambda part: network(images[part])))


def test_where_memory_ends_the_number_is_halved_and_remembered(tmp_path: Path) -> None:
    images = torch.rand(11, 3, 4, 4)
    store, network = Store(tmp_path), Small(3, torch.OutOfMemoryError("CUDA out of memory"))
    torch.testing.assert_close(halves(network, images, BatchSizes(store, CPU, None)), images * 2)
    assert network.seen == [1, 2, 2, 2, 2, 2, 1]  # one to see whether it draws, then 11 -> 5 -> 2
    network.seen.clear()
    halves(network, images, BatchSizes(Store(tmp_path), CPU, 8))
    assert network.seen == [2, 2, 2, 2, 2, 1]
    network.seen.clear()
    halves(network, images, BatchSizes(store, CPU, 1))
    assert network.seen == [1] * 11


def test_an_image_that_never_fits_is_a_sentence(tmp_path: Path) -> None:
    network = Small(1, torch.OutOfMemoryError("CUDA out of memory"))

    def never(part: slice) -> Tensor:
        raise network.error

    with pytest.raises(CellError, match="net: one image of 4x6 takes more memory than cpu has"):
        BatchSizes(Store(tmp_path), CPU, 2).in_parts("net", network, torch.rand(2, 3, 4, 6), "net", never)


def test_other_errors_are_not_taken_for_a_lack_of_memory(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        halves(Small(0, KeyError("x")), torch.rand(1, 3, 4, 4), BatchSizes(Store(tmp_path), CPU, 1))


def test_a_network_that_draws_random_numbers_gets_one_image_at_a_time(tmp_path: Path) -> None:
    sizes = BatchSizes(Store(tmp_path), CPU, 8)
    state = torch.get_rng_state()
    image = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert sizes.most("drop", nn.Dropout(0.5), image) == 8  # in eval mode it draws nothing
    for name, draw in (("torch", torch.rand_like), ("numpy", lambda _: __import__("numpy").random.rand())):

        class Noisy(nn.Module):
            def forward(self, images: Tensor, draw: Any = draw) -> Tensor:
                return images + draw(images)

        assert sizes.most(name, Noisy(), image) == 1
    assert torch.equal(torch.get_rng_state(), state)


def test_on_a_cpu_the_number_follows_the_size(tmp_path: Path) -> None:
    sizes = BatchSizes(Store(tmp_path), CPU, None)
    found = [
        sizes.most("net", nn.Identity(), torch.zeros(1, 3, *size)) for size in ((64, 64), (473, 473), (1024, 2048))
    ]
    assert found == [MOST, 4, 1]


def test_on_a_gpu_the_number_fills_most_of_what_is_free() -> None:
    assert batch_size._fitting(each=1 << 30, free=10 << 30) == 8
    assert batch_size._fitting(each=1 << 30, free=1 << 20) == 1
    assert batch_size._fitting(each=1.0, free=1 << 30) == MOST


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_a_number_and_goes_on_where_its_memory_ends(tmp_path: Path) -> None:
    device = torch.device("cuda")
    network = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 3, 3, padding=1)).to(device)
    images = torch.rand(1, 3, 256, 256, device=device).expand(1 << 14, -1, -1, -1)
    found = BatchSizes(Store(tmp_path), device, None).most("net", network.eval(), images[:1])
    assert 1 <= found <= MOST

    def passed(part: slice) -> int:
        own = images[part].clone().requires_grad_()
        torch.autograd.grad(network(own).sum(), own)
        return len(own)

    sizes = BatchSizes(Store(tmp_path), device, len(images))
    assert sum(sizes.in_parts("net", network, images, "net", passed)) == len(images)
    assert sizes.most("net", network, images[:1]) < len(images)


def test_a_batch_in_pieces_has_the_same_gradient() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()).eval()
    images = torch.rand(5, 3, 8, 8, requires_grad=True)
    answers = [one(images) for one in (network, Piecewise(network, 2))]
    gradients = [torch.autograd.grad(answer.square().sum(), images)[0] for answer in answers]
    torch.testing.assert_close(answers[0], answers[1])
    torch.testing.assert_close(gradients[0], gradients[1])
