"""Targets of targeted attacks: one class for all pixels, or a label map."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

LOSSLESS = ("PNG", "BMP", "TIFF")
"""Kinds of image files that keep labels as they are."""
FORMATS = (*LOSSLESS, "JPEG", "WEBP", "GIF")
"""Kinds that are looked into; Pillow knows more, some of which run other programs."""
LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
MOST_PIXELS = 64 << 20
"""Pixels of a label map; as many as Pillow opens without a warning, nearly."""
ORIENTATION, BITS, PHOTOMETRIC = 0x0112, 258, 262
"""Tags of EXIF and of TIFF."""
WHITE_IS_ZERO = 0

Target = int | Tensor | Path
"""A class index; or a label map, (H, W) for all images or (N, H, W); or an image file of labels, one byte per pixel."""


def goal(masks: Tensor, target: Target | None, *, ignore_index: int = 255) -> Tensor:
    """Return the labels for an attack's loss: those of the target, or the masks if there is no target.

    A pixel that is void in the masks or in the target map is void in the result, and the attack ignores it.

    Args:
        masks: (N, H, W).
        target: class or label map that the attack drives the prediction towards. A map of another size is resized to
            the size of the masks by nearest neighbour.
        ignore_index: label of void pixels, in the masks and in the target map.

    Raises:
        ValueError: the target map does not hold integers, or has the wrong shape.
    """
    if target is None:
        return masks
    if isinstance(target, int):
        return masks.where(masks == ignore_index, target)
    labels = read_labels(target) if isinstance(target, Path) else target
    if labels.is_floating_point() or labels.ndim not in (2, 3) or (labels.ndim == 3 and len(labels) != len(masks)):
        raise ValueError(
            f"a target map must hold integers and have shape (H, W) or ({len(masks)}, H, W), got {labels.dtype} of "
            f"shape {tuple(labels.shape)}"
        )
    rows, columns = (_nearest(*sizes) for sizes in zip(labels.shape[-2:], masks.shape[-2:], strict=True))
    labels = labels.to(masks)[..., rows[:, None], columns]
    return masks.where(masks == ignore_index, labels)


def read_labels(file: Path) -> Tensor:
    """Read a label map from a grey or palette image file, (H, W) int64: the value that the file holds for each pixel.

    Raises:
        ValueError: the file cannot be read, is too large, has more than one byte per pixel, or is of a kind that
            changes labels or that readers do not agree on.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                reason = _unfit(image)
                if reason:
                    raise ValueError(reason)
                bits = _bits(file, image)
                labels = np.array(image)
    except Exception as error:  # Pillow raises anything for damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"target {file}: cannot read this image as labels ({reason})") from error
    if labels.dtype == bool:
        labels = labels.astype(np.uint8)
    # Pillow spreads grey of few bits over 0..255.
    return torch.from_numpy(labels // (255 // (2**bits - 1))).long()


def _unfit(image: Image.Image) -> str:
    """Return why an image that was opened is no label map; "" if it is one."""
    if image.width * image.height > MOST_PIXELS:
        return f"{image.width}x{image.height} pixels; at most {MOST_PIXELS:,} are read"
    if image.format not in LOSSLESS or image.info.get("compression") in LOSSY_TIFF:
        return f"{image.format} data, which does not keep labels as they are; use PNG"
    if getattr(image, "n_frames", 1) != 1:
        return f"it holds {getattr(image, 'n_frames', 1)} images; save one alone"
    if image.mode not in ("1", "L", "P"):
        return f"a label map has one byte per pixel (grey or palette), got mode {image.mode}"
    if isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        return "a TIFF that stores white as 0, which readers invert; use PNG"
    if image.getexif().get(ORIENTATION) in range(2, 9):
        return "its EXIF says to turn it, which readers do not agree on; save it turned"
    return ""


def _bits(file: Path, image: Image.Image) -> int:
    """Return the bits of a pixel in the file, where it is grey; 8 for palettes, whose indices Pillow keeps."""
    if image.mode != "L":
        return 8
    if isinstance(image, TiffImageFile):
        return int(max(image.tag_v2.get(BITS, (1,))))
    if image.format == "PNG":
        # The image header is the first chunk: 8 bytes of signature, 8 of its own head, width and height.
        with file.open("rb") as raw:
            return raw.read(25)[24]
    return 8


def _nearest(size: int, wanted: int) -> Tensor:
    """Return, for each of `wanted` pixels along an axis, the index of the nearest of `size` pixels."""
    return ((torch.arange(wanted) + 0.5) * size / wanted).long()
