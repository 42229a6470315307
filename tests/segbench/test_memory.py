"""Where memory ends: wherever in an evaluation that is, the number of images is halved and the records stay."""

from __future__ import annotations

import errno
import json
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import segbench
from segbench.errors import SegbenchError
from segbench.evaluation import scoring
from segbench.memory import in_parts, out_of_memory, release
from segbench.result import Result

CPU = torch.device("cpu")
DATA = "digits(size=32, train=5, val=5)"
ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "cudnn": RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "no engine": RuntimeError("GET was unable to find an engine to execute this computation"),
    "numpy": MemoryError("Unable to allocate 3.00 GiB for an array"),
    "system": OSError(errno.ENOMEM, "Cannot allocate memory"),
}


class Room(nn.Module):
    """A network with room for some images at once."""

    def __init__(self, room: int, error: str = "cuda", only: bool | None = None, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 1))
        self.room, self.error, self.only = room, error, only

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.room and self.only in (None, images.requires_grad):
            error = ERRORS[self.error]
            raise type(error)(*error.args)
        logits: Tensor = self.layers(images)
        return logits


def evaluated(network: nn.Module, store: Path, attacks: list[str], **options: object) -> Result:
    return segbench.evaluate(network, DATA, attacks, store=store, **options)  # type: ignore[arg-type]


def numbers(result: Result) -> list[object]:
    return [(record.scores, dict(record.passes or {}), record.error) for record in result.records]


@pytest.mark.parametrize("error", ERRORS)
def test_a_lack_of_memory_is_known_by_what_it_says(error: str) -> None:
    assert out_of_memory(ERRORS[error])
    assert not any(map(out_of_memory, (ValueError("out of memory"), OSError(errno.ENOSPC, "full"), RuntimeError("?"))))


ATTACKS = ["bim(steps=2)"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    return numbers(evaluated(Room(9), tmp_path_factory.mktemp("ample"), ATTACKS))


@pytest.mark.parametrize(("room", "error", "only"), [(1, "cpu", None), (2, "cublas", True), (2, "cudnn", False)])
def test_wherever_memory_ends_the_records_stay(
    room: int, error: str, only: bool | None, expected: list[object], tmp_path: Path
) -> None:
    assert numbers(evaluated(Room(room, error, only), tmp_path, ATTACKS)) == expected
    (kept,) = (json.loads(path.read_text()) for path in (tmp_path / "cache/batches").glob("*.json"))
    assert kept["32x32"] <= room
    assert len(list(tmp_path.rglob("sanity.json"))) == 1


@pytest.mark.slow
def test_a_perturbation_is_fitted_in_as_many_pieces_as_fit(tmp_path: Path) -> None:
    ample, small = (numbers(evaluated(Room(room), tmp_path / str(room), ["universal(epochs=1)"])) for room in (9, 2))
    assert small == ample


def test_pieces_of_an_image_are_compared_and_scored_with_fewer_at_once(tmp_path: Path) -> None:
    options = {"protocol": "ddcat-crop-v1(size=48, crop=32)", "limit": 2}
    expected = numbers(evaluated(Room(9), tmp_path / "ample", ATTACKS, **options))
    assert numbers(evaluated(Room(2), tmp_path / "small", ATTACKS, **options)) == expected


def test_substitutes_have_room_of_their_own(tmp_path: Path) -> None:
    ample, small = (
        evaluated(Room(room), tmp_path / str(room), ATTACKS, substitutes=[Room(other, seed=1)])
        for room, other in ((9, 9), (3, 2))
    )
    assert numbers(small) == numbers(ample)


@pytest.mark.parametrize("only", [None, True])
def test_one_image_that_does_not_fit_is_a_sentence(only: bool | None, tmp_path: Path) -> None:
    with pytest.raises(SegbenchError, match=r"Room: an image .* takes more memory .*; use a protocol that cuts images"):
        evaluated(Room(0, "cpu", only), tmp_path, ATTACKS)


def test_what_is_counted_may_take_too_much_memory_too(
    expected: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, sizes = scoring.pixels, []

    def narrow(preds: Tensor, *rest: int) -> Tensor:
        sizes.append(len(preds))
        if len(preds) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return counted(preds, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(scoring, "pixels", narrow)
    assert numbers(evaluated(Room(9), tmp_path, ATTACKS)) == expected
    assert max(sizes) == 5
    assert sizes.count(5) == 1


class Pointwise(Room):
    """A network whose answers do not depend by a bit on what is beside an image."""

    def forward(self, images: Tensor) -> Tensor:
        super().forward(images)
        return torch.cat([images, images.flip(1) ** 2], 1)


def of_a_batch(network: nn.Module, attack: str) -> Tensor:
    numbers = torch.Generator().manual_seed(0)
    images, masks = torch.rand(5, 3, 40, 40, generator=numbers), torch.randint(6, (5, 40, 40), generator=numbers)
    first, again = (segbench.attack(network, images, masks, attack, generator=numbers) for _ in range(2))
    assert not torch.equal(first, again)  # the generator has moved on
    same = segbench.attack(
        network, images[:1].expand(2, -1, -1, -1), masks[:1].expand(2, -1, -1), attack, generator=[numbers] * 2
    )
    assert not torch.equal(*same)
    return torch.cat([first, again])


def of_a_prediction(network: nn.Module, attack: str) -> Tensor:
    numbers = torch.Generator().manual_seed(0)
    image, masks = torch.rand(3, 40, 40, generator=numbers), torch.randint(6, (40, 40), generator=numbers)
    protocol = "ddcat-crop-v1(size=40, crop=32)"
    return segbench.predict(network, image, protocol=protocol, masks=masks, attack=attack)


@pytest.mark.parametrize("attacked", [of_a_batch, of_a_prediction])
def test_tensors_are_attacked_with_as_many_at_once_as_fit(attacked: Callable[[nn.Module, str], Tensor]) -> None:
    ample, small = (attacked(Pointwise(room, only=True), "pgd(steps=2)") for room in (9, 2))
    assert torch.equal(ample, small)
    with pytest.raises(SegbenchError, match=r"one image takes more memory than there is .*; cut it, as"):
        attacked(Pointwise(0, only=True), "pgd(steps=2)")


@pytest.mark.slow
def test_a_perturbation_is_fitted_on_tensors_in_as_many_pieces_as_fit() -> None:
    images, masks = torch.rand(5, 3, 40, 40), torch.zeros(5, 40, 40, dtype=torch.int64)
    with pytest.warns(UserWarning, match="it is fitted on the images"):
        ample, small = (segbench.attack(Pointwise(n), images, masks, "universal(epochs=1)") for n in (9, 2))
    torch.testing.assert_close(small, ample)


def test_no_error_keeps_tensors_and_none_of_one_thing_alone_is_hidden() -> None:
    left: list[weakref.ref[Tensor]] = []

    def fail(large: Tensor) -> None:
        try:
            raise torch.OutOfMemoryError(f"{len(large)} do not fit")
        except torch.OutOfMemoryError as error:
            raise RuntimeError("layer 3: out of memory") from error

    def work(part: slice) -> int:
        assert all(reference() is None for reference in left)
        large = torch.zeros(part.stop - part.start)
        left.append(weakref.ref(large))
        if len(large) > 1 or part.start == 3:
            fail(large)
        return len(large)

    with pytest.raises(RuntimeError, match="layer 3") as caught:
        in_parts(5, 4, work, CPU)
    assert "1 do not fit" in "".join(traceback.format_exception(caught.value))


def test_errors_that_lead_to_each_other_are_let_go() -> None:
    first, second = RuntimeError(), MemoryError()
    first.__cause__, second.__context__ = second, first
    release(first, CPU)
