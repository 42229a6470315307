from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segbench.errors import SegbenchError
from segbench.model_zoo.base import IMAGENET_MEAN
from segbench.protocols.ddcat_crop import DdcatCrop


def sample(height: int, width: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(height * 1000 + width)
    image = torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8))
    mask = torch.from_numpy(rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (height, width)))
    return image, mask


def prediction(protocol: DdcatCrop, model: nn.Module, image: Tensor, mask: Tensor, *, attacked: bool) -> Tensor:
    crops = protocol.crops(image, mask)
    return protocol.merge(protocol.scores(model, crops.images, attacked=attacked), crops)


def reference(model: nn.Module, image: Tensor, long_side: int, crop: int, *, mirror: bool) -> NDArray[np.int64]:
    """The paper's inference on one image, as a slow program of its own on OpenCV and float64."""
    cv2 = pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
    picture = image.permute(1, 2, 0).numpy().astype(np.float32)
    height, width = picture.shape[:2]
    new_height = new_width = long_side
    if height > width:
        new_width = round(long_side / height * width)
    else:
        new_height = round(long_side / width * height)
    picture = cv2.resize(picture, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    rows, columns = max(crop - new_height, 0), max(crop - new_width, 0)
    mean = [255 * value for value in IMAGENET_MEAN]
    sides = (rows // 2, rows - rows // 2, columns // 2, columns - columns // 2)
    picture = cv2.copyMakeBorder(picture, *sides, cv2.BORDER_CONSTANT, value=mean)
    stride = math.ceil(crop * 2 / 3)
    total, count = 0.0, np.zeros(picture.shape[:2])
    for row in range(math.ceil((picture.shape[0] - crop) / stride) + 1):
        for column in range(math.ceil((picture.shape[1] - crop) / stride) + 1):
            bottom = min(row * stride + crop, picture.shape[0])
            right = min(column * stride + crop, picture.shape[1])
            piece = torch.from_numpy(picture[bottom - crop : bottom, right - crop : right]).permute(2, 0, 1)[None] / 255
            with torch.no_grad():
                probabilities = model(piece).softmax(1)
                if mirror:
                    probabilities = (probabilities + model(piece.flip(3)).softmax(1).flip(3)) / 2
            canvas = np.zeros((*picture.shape[:2], probabilities.shape[1]))
            canvas[bottom - crop : bottom, right - crop : right] = probabilities[0].permute(1, 2, 0).numpy()
            total = total + canvas
            count[bottom - crop : bottom, right - crop : right] += 1
    total = (total / count[..., None])[rows // 2 :, columns // 2 :][:new_height, :new_width]
    return cv2.resize(total, (width, height), interpolation=cv2.INTER_LINEAR).argmax(2)


@pytest.mark.parametrize("attacked", [False, True])
@pytest.mark.parametrize("size", [(37, 50), (50, 33), (61, 61), (20, 90), (5, 3)])
def test_predictions_are_those_of_the_papers_procedure(
    context: nn.Module, size: tuple[int, int], attacked: bool
) -> None:
    image, mask = sample(*size)
    ours = prediction(DdcatCrop(size=64, crop=33), context, image, mask, attacked=attacked)
    theirs = reference(context, image, 64, 33, mirror=not attacked)
    assert ours.shape == size
    # Rounding may decide a tie.
    assert (ours.numpy() == theirs).mean() > 0.998


def test_mirrored_averaging_is_for_clean_images_only(context: nn.Module) -> None:
    protocol = DdcatCrop(size=32, crop=33)
    images = protocol.crops(*sample(32, 32)).images
    attacked = protocol.scores(context, images, attacked=True)
    mirrored = protocol.scores(context, images.flip(3), attacked=True).flip(3)
    clean = protocol.scores(context, images, attacked=False)
    assert not torch.allclose(attacked, clean, atol=1e-3)
    torch.testing.assert_close(clean, (attacked + mirrored) / 2)
    torch.testing.assert_close(protocol.scores(context, images.flip(3), attacked=False).flip(3), clean)


@pytest.mark.parametrize("size", [(20, 90), (61, 61), (5, 3)])
def test_overlaps_are_averaged(pixelwise: nn.Module, size: tuple[int, int]) -> None:
    image, mask = sample(*size)
    long_side = max(size)
    cut = prediction(DdcatCrop(size=long_side, crop=17), pixelwise, image, mask, attacked=True)
    with torch.no_grad():
        whole = pixelwise(image[None].float() / 255)[0].argmax(0)
    assert torch.equal(cut, whole)


def test_scores_of_an_overlap_are_the_mean_of_its_crops() -> None:
    protocol = DdcatCrop(size=12, crop=9)
    crops = protocol.crops(*sample(9, 12))
    assert crops.layout.corners == [(0, 0), (0, 3)]
    scores = torch.zeros(2, 3, 9, 9)
    scores[0, 0], scores[1, 1], scores[:, 2] = 1.0, 0.9, 0.48
    # Columns 0-2 see the first crop, 9-11 the second, between them 0.5 beats 0.48 and 0.45.
    assert protocol.merge(scores, crops).unique(dim=0).tolist() == [[0] * 9 + [1] * 3]
    scores[:, 2] = 0.52
    assert protocol.merge(scores, crops).unique(dim=0).tolist() == [[0] * 3 + [2] * 6 + [1] * 3]


def test_the_paper_cuts_a_voc_image_into_two_crops() -> None:
    crops = DdcatCrop().crops(*sample(375, 500))
    assert crops.images.shape == (2, 3, 473, 473)
    assert crops.masks.shape == (2, 473, 473)
    assert crops.truth.shape == (375, 500)
    assert crops.layout.size == (384, 512)
    assert crops.layout.offset == (44, 0)


def test_cityscapes_is_scored_at_the_size_of_the_images() -> None:
    image, mask = sample(64, 130)
    crops = DdcatCrop(size=(32, 64), crop=17).crops(image, mask)
    assert crops.truth.shape == (32, 64)
    assert crops.images.shape[1:] == (3, 17, 17)
    # Two rows of labels make one, and the upper one is taken.
    assert torch.equal(crops.truth[:, 0], mask[::2, 0].long())


def test_labels_are_resized_to_the_nearest_and_padded_with_void() -> None:
    image, mask = sample(10, 30)
    crops = DdcatCrop(size=60, crop=41).crops(image, mask)
    assert set(crops.masks.unique().tolist()) <= {0, 1, 2, 3, 255}
    assert crops.layout.size == (20, 60)
    assert (crops.masks[:, :10] == 255).all()
    assert (crops.masks[:, 30:] == 255).all()
    assert torch.equal(crops.masks[0, 10:30, :41], mask.repeat_interleave(2, 0).repeat_interleave(2, 1)[:, :41].long())
    assert torch.equal(crops.truth, mask.long())
    assert crops.images.min() >= 0
    assert crops.images.max() <= 1
    for channel, mean in enumerate(IMAGENET_MEAN):
        assert (crops.images[:, channel, :10] == torch.tensor(mean)).all()


def test_absent_classes_count_zero_and_void_is_skipped() -> None:
    assert (DdcatCrop().absent, DdcatCrop().void, DdcatCrop().scope) == ("zero", "skip", "crop")


@pytest.mark.parametrize("options", [{"size": 0}, {"size": (5, 0)}, {"size": (1, 2, 3)}, {"crop": 0}])
def test_impossible_options_are_errors(options: dict[str, object]) -> None:
    with pytest.raises(SegbenchError, match="ddcat-crop-v1: '"):
        DdcatCrop(**options)
