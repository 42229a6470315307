"""Image files -> pixels: what Pillow would quietly read as something else is refused, by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

from segbench.datasets.tools.matlab import read_sbd
from segbench.errors import DataError

LOSSLESS = (".png", ".bmp", ".tif", ".tiff")
SUFFIXES = (*LOSSLESS, ".jpg", ".jpeg", ".webp")
"""Endings of the images that are read; masks have one of the lossless ones."""

FORMATS = ("PNG", "BMP", "TIFF", "JPEG", "WEBP")
LOSSLESS_FORMATS = ("PNG", "BMP", "TIFF")
LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")

ORIENTATION = 0x0112
BITS, PHOTOMETRIC, SAMPLES, SAMPLE_FORMAT = 258, 262, 277, 339
"""Tags of EXIF and of TIFF."""
WHITE_IS_ZERO = 0
UNSIGNED = 1

Labels = NDArray[Any]
"""What a mask's file holds, (H, W) of whole numbers; a colour is 0xRRGGBB."""


class Held(NamedTuple):
    """An image file that another file holds, such as a row of a table.

    Attributes:
        name: what errors call it.
        content: its bytes.
    """

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


Source = Path | Held
"""Where an image is read from."""


class Picture(NamedTuple):
    """An image, turned as its EXIF says.

    Attributes:
        pixels: (3, H, W) uint8.
        orientation: what EXIF says: 1 is as it is, 2 to 4 keep height and width, 5 to 8 swap them.
    """

    pixels: Tensor
    orientation: int


def read_picture(path: Source) -> Picture:
    """Read an image file as RGB, and turn it as its EXIF says.

    Raises:
        DataError: the file cannot be read, or its pixels are no 8-bit grey, palette or RGB ones without transparency.
    """
    with _opened(path, "an image") as file:
        if _bits(path, file) > 8 or file.mode in ("I", "F") or file.mode.startswith("I;") or not _is_unsigned(file):
            raise DataError(
                f"{path}: has more than 8 bits a channel, or a sign, and an image has 8: save it as 8-bit RGB or grey"
            )
        if file.mode not in ("1", "L", "P", "RGB", "LA", "PA", "RGBA"):
            raise DataError(f"{path}: has mode {file.mode}, and an image is RGB or grey: save it as 8-bit RGB or grey")
        if isinstance(file, TiffImageFile) and file.tag_v2.get(SAMPLES, 1) != len(file.getbands()):
            raise DataError(
                f"{path}: has {file.tag_v2[SAMPLES]} channels, and an image has 3 or 1: save it as 8-bit RGB or grey"
            )
        orientation = _orientation(file)
        ImageOps.exif_transpose(file, in_place=True)
        if "transparency" in file.info or file.mode in ("LA", "PA", "RGBA"):
            whole = np.array(file.convert("RGBA"))
            if whole[..., 3].min() < 255:
                raise DataError(f"{path}: has transparent pixels, and an image has none: save it without transparency")
            array = whole[..., :3]
        else:
            array = np.array(file.convert("RGB"))
    return Picture(torch.from_numpy(array).permute(2, 0, 1).contiguous(), orientation)


def read_image(path: Path) -> Tensor:
    """Read an image file that has no mask to compare it with as RGB, (3, H, W) uint8.

    Raises:
        DataError: as `read_picture`, and where EXIF says to turn it.
    """
    picture = read_picture(path)
    if picture.orientation != 1:
        raise DataError(f"{path}: its EXIF says to turn it (orientation {picture.orientation}); save it turned")
    return picture.pixels


def read_labels(path: Source, *, colours: bool = False) -> Labels:
    """Read a mask: the values that the file holds, whatever its depth.

    Args:
        path: a grey or palette image of up to 16 bits, or SBD's .mat.
        colours: the mask holds colours: an RGB or palette image.

    Raises:
        DataError: the file cannot be read, or is none of these.
    """
    if isinstance(path, Path) and path.suffix.lower() == ".mat":
        return read_sbd(path)
    with _opened(path, "a mask") as file:
        if file.format not in LOSSLESS_FORMATS or file.info.get("compression") in LOSSY_TIFF:
            raise DataError(f"{path}: holds {file.format} data, which changes labels when it compresses; use PNG")
        if _orientation(file) != 1:
            raise DataError(f"{path}: its EXIF says to turn it, which readers of masks do not agree on; save it turned")
        if isinstance(file, TiffImageFile):
            _refuse_odd_tiff(path, file)
        if colours:
            return _colours(path, file)
        if file.mode not in ("L", "P", "1", "I") and not file.mode.startswith("I;16"):
            raise DataError(
                f"{path}: has mode {file.mode}, but a mask holds one label index a pixel: save it as 8-bit grey or "
                "palette PNG, or say in dataset.yaml which colour is which class: colors: {road: [128, 64, 128], ...}"
            )
        bits = _bits(path, file)
        values = np.array(file)
    if values.dtype == bool:
        return values.astype(np.uint8)
    if file.mode == "L" and bits < 8:
        # Pillow spreads grey of few bits over 0..255.
        values = values // (255 // (2**bits - 1))
    # Pillow's mode of 16-bit PNG was I before it was I;16.
    return values.astype(np.uint16) if bits == 16 else values


def read_sixteen_bits(path: Source, what: str) -> NDArray[np.uint16]:
    """Read a grey PNG of 16 bits a pixel, (H, W).

    Args:
        path: the file.
        what: what it should be, for errors.

    Raises:
        DataError: it is none.
    """
    with _opened(path, what) as file:
        bits, bands = _bits(path, file), len(file.getbands())
        if file.format != "PNG" or bits != 16 or bands != 1:
            found = f"{file.format}, {bits} bits, {bands} channels"
            raise DataError(f"{path}: {what} is a grey PNG of 16 bits a pixel, this one is {found}")
        return np.array(file).astype(np.uint16)


def _colours(path: Source, file: Image.Image) -> Labels:
    bits = _bits(path, file)
    if file.mode not in ("RGB", "P") or bits > 8 or "transparency" in file.info:
        wanted = "8-bit RGB or palette without transparency"
        raise DataError(f"{path}: has mode {file.mode} of {bits} bits, but a mask in colours is {wanted}")
    red, green, blue = np.moveaxis(np.array(file.convert("RGB")).astype(np.int32), -1, 0)
    return np.asarray(red << 16 | green << 8 | blue)


@contextmanager
def _opened(path: Source, what: str) -> Iterator[Image.Image]:
    """Open an image file that is whole and holds one image; whatever goes wrong is a `DataError` naming the file."""
    try:
        with _raw(path) as raw:
            if not raw.read(1):
                raise DataError(f"{path}: is empty, 0 bytes")
        with _raw(path) as raw, Image.open(raw, formats=FORMATS) as file:
            if file.format == "PNG":
                # Reading alone does not compare the checksums.
                file.verify()
        with _raw(path) as raw, Image.open(raw, formats=FORMATS) as file:
            # The further images of an MPO are previews, or for the other eye.
            frames = 1 if file.format == "MPO" else getattr(file, "n_frames", 1)
            if frames != 1:
                raise DataError(f"{path}: holds {frames} images, and a sample is one: save each in a file of its own")
            yield file
    except DataError:
        raise
    except Exception as error:  # Pillow raises anything for damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cannot be read as {what} ({reason})") from error


def _raw(path: Source) -> BinaryIO:
    return path.open("rb") if isinstance(path, Path) else BytesIO(path.content)


def _bits(path: Source, file: Image.Image) -> int:
    """Return the bits of a channel in the file."""
    if isinstance(file, TiffImageFile):
        return int(max(file.tag_v2.get(BITS, (1,))))
    if file.format == "PNG":
        # The image header is the first chunk: 8 bytes of signature, 8 of its own head, width and height.
        with _raw(path) as raw:
            return raw.read(25)[24]
    return 8


def _is_unsigned(file: Image.Image) -> bool:
    return not isinstance(file, TiffImageFile) or set(file.tag_v2.get(SAMPLE_FORMAT, (UNSIGNED,))) == {UNSIGNED}


def _orientation(file: Image.Image) -> int:
    """Return what EXIF says, 1 where it says nothing that is defined: cameras write 0 too."""
    said = file.getexif().get(ORIENTATION)
    return said if isinstance(said, int) and 2 <= said <= 8 else 1


def _refuse_odd_tiff(path: Source, file: TiffImageFile) -> None:
    tags = file.tag_v2
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        raise DataError(f"{path}: is a TIFF that stores white as 0, which readers invert; save the mask as PNG")
    if not _is_unsigned(file) or tags.get(SAMPLES, 1) not in (1, 3):
        raise DataError(f"{path}: is a TIFF of signed or real numbers, or of several channels; save the mask as PNG")
