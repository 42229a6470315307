from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import png
import pytest
from PIL import Image

from segbench.datasets.tools.images import read_image, read_labels, read_picture
from segbench.errors import DataError

Write = Callable[..., None]


def write_grey(path: Path, rows: list[list[int]], bits: int) -> None:
    """Write a grey PNG that holds these values in so many bits."""
    with path.open("wb") as file:
        png.Writer(len(rows[0]), len(rows), greyscale=True, bitdepth=bits).write(file, rows)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_grey_mask_of_any_depth_holds_its_own_values(tmp_path: Path, bits: int) -> None:
    rows = np.random.default_rng(bits).integers(0, 2**bits, (5, 7)).tolist()
    rows[0][:2] = [0, 2**bits - 1]
    write_grey(tmp_path / "m.png", rows, bits)
    assert read_labels(tmp_path / "m.png").tolist() == rows


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_mask_of_any_depth_holds_its_own_values(tmp_path: Path, bits: int) -> None:
    rows = np.random.default_rng(bits).integers(0, 2**bits, (5, 7)).tolist()
    palette = [(40 * index % 256, index, 255 - index) for index in range(2**bits)]
    with (tmp_path / "m.png").open("wb") as file:
        png.Writer(7, 5, palette=palette, bitdepth=bits).write(file, rows)
    assert read_labels(tmp_path / "m.png").tolist() == rows


@pytest.mark.parametrize("ending", ["bmp", "tif"])
@pytest.mark.parametrize("mode", ["L", "P", "1"])
def test_other_formats_hold_the_same_values(tmp_path: Path, ending: str, mode: str) -> None:
    values = np.random.default_rng(0).integers(0, 2 if mode == "1" else 256, (5, 7), np.uint8)
    image = Image.fromarray(values if mode != "1" else values.astype(bool))
    if mode == "P":
        image.putpalette([(37 * value) % 256 for value in range(768)])
    image.save(tmp_path / f"m.{ending}")
    assert read_labels(tmp_path / f"m.{ending}").tolist() == values.tolist()


def write_tiff(path: Path, row: list[int], bits: int, sample_format: int = 1) -> None:
    """Write a grey TIFF of one row, for what Pillow does not write."""
    packed = sum(value << bits * place for place, value in enumerate(reversed(row)))
    data = packed.to_bytes(len(row) * bits // 8)
    values = {
        256: len(row),
        257: 1,
        258: bits,
        259: 1,
        262: 1,
        273: 0,
        277: 1,
        278: 1,
        279: len(data),
        339: sample_format,
    }
    values[273] = 8 + 2 + 12 * len(values) + 4
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(values)) + tags + bytes(4) + data)


@pytest.mark.parametrize(("bits", "row"), [(2, [0, 1, 2, 3]), (4, [0, 3, 15, 7]), (8, [0, 3, 255, 7])])
def test_a_tiff_of_few_bits_holds_its_own_values(tmp_path: Path, bits: int, row: list[int]) -> None:
    write_tiff(tmp_path / "m.tif", row, bits)
    assert read_labels(tmp_path / "m.tif").tolist() == [row]
    assert read_image(tmp_path / "m.tif")[0].tolist() == [[value * 255 // (2**bits - 1) for value in row]]


def test_a_tiff_of_signed_numbers_is_refused(tmp_path: Path) -> None:
    write_tiff(tmp_path / "m.tif", [0, 1, 255, 7], 8, sample_format=2)
    with pytest.raises(DataError, match=r"m\.tif: is a TIFF of signed or real numbers"):
        read_labels(tmp_path / "m.tif")
    with pytest.raises(DataError, match=r"m\.tif: has more than 8 bits a channel, or a sign"):
        read_image(tmp_path / "m.tif")


@pytest.mark.parametrize("said", [0, 1, 9])
def test_an_orientation_that_is_not_defined_turns_nothing(tmp_path: Path, said: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = said
    stored = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png").permute(1, 2, 0).numpy(), stored)


def test_of_a_cameras_images_for_two_eyes_the_first_is_read(tmp_path: Path) -> None:
    first, second = (Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (40, 200))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    assert abs(read_image(tmp_path / "a.jpg").float().mean() - 40) < 2


@pytest.mark.parametrize("compression", [None, "tiff_deflate", "tiff_lzw", "packbits"])
def test_a_tiff_of_16_bits_holds_labels(tmp_path: Path, compression: str | None) -> None:
    values = np.array([[0, 300], [65535, 7]], np.uint16)
    Image.fromarray(values).save(tmp_path / "m.tif", compression=compression)
    assert read_labels(tmp_path / "m.tif").tolist() == values.tolist()


def test_what_a_mask_cannot_be_is_refused(tmp_path: Path, write: Write) -> None:
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    inverted = {262: 0}
    turned = Image.Exif()
    turned[0x0112] = 3
    write(tmp_path / "colours.png", np.zeros((3, 4, 3)))
    grey.convert("LA").save(tmp_path / "alpha.png")
    grey.convert("RGBA").save(tmp_path / "rgba.png")
    grey.save(tmp_path / "really.jpg")
    (tmp_path / "really.jpg").rename(tmp_path / "jpeg.png")
    grey.save(tmp_path / "webp.png", format="WEBP", lossless=True)
    grey.save(tmp_path / "jpeg.tif", compression="jpeg")
    grey.save(tmp_path / "inverted.tif", tiffinfo=inverted)
    grey.save(tmp_path / "turned.png", exif=turned)
    grey.save(tmp_path / "pages.tif", save_all=True, append_images=[grey])
    grey.save(tmp_path / "moving.png", save_all=True, append_images=[grey.point(lambda value: 255 - value)])
    Image.fromarray(np.zeros((3, 4), np.float32)).save(tmp_path / "real.tif")
    (tmp_path / "empty.png").touch()
    reasons = {
        "colours.png": "has mode RGB.*palette PNG.*colors: ",
        "alpha.png": "has mode LA",
        "rgba.png": "has mode RGBA",
        "jpeg.png": "holds JPEG data, which changes labels",
        "webp.png": "holds WEBP data",
        "jpeg.tif": "holds TIFF data, which changes labels",
        "inverted.tif": "stores white as 0",
        "turned.png": "EXIF says to turn it",
        "pages.tif": "holds 2 images",
        "moving.png": "holds 2 images",
        "real.tif": "signed or real numbers",
        "empty.png": "is empty, 0 bytes",
        "absent.png": "cannot be read as a mask",
    }
    for name, reason in reasons.items():
        with pytest.raises(DataError, match=rf"{name}: .*{reason}"):
            read_labels(tmp_path / name)


def test_masks_in_colours_hold_a_value_a_colour(tmp_path: Path, write: Write) -> None:
    colours = np.array([[[128, 0, 0], [0, 0, 0]], [[1, 2, 3], [255, 255, 255]]], np.uint8)
    write(tmp_path / "m.png", colours)
    expected = [[0x800000, 0], [0x010203, 0xFFFFFF]]
    assert read_labels(tmp_path / "m.png", colours=True).tolist() == expected
    Image.fromarray(colours).quantize(4).save(tmp_path / "p.png")
    assert read_labels(tmp_path / "p.png", colours=True).tolist() == expected
    Image.fromarray(colours).convert("RGBA").save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: has mode RGBA of 8 bits, but a mask in colours is 8-bit RGB"):
        read_labels(tmp_path / "a.png", colours=True)


def test_images_of_every_plain_kind_are_the_same_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (6, 5), np.uint8)
    expected = np.stack([grey] * 3)
    image = Image.fromarray(grey)
    image.save(tmp_path / "grey.png")
    image.convert("RGB").save(tmp_path / "rgb.bmp")
    image.convert("P").save(tmp_path / "palette.png")
    image.convert("LA").save(tmp_path / "opaque.png")
    image.convert("RGBA").save(tmp_path / "opaque.tif")
    image.convert("RGBA").save(tmp_path / "opaque.webp", lossless=True)
    for path in tmp_path.iterdir():
        assert np.array_equal(read_image(path).numpy(), expected), path.name
    rows = (grey // 64).tolist()
    write_grey(tmp_path / "two.png", rows, 2)
    assert np.array_equal(read_image(tmp_path / "two.png")[0].numpy(), 85 * (grey // 64))


def test_images_that_would_be_read_as_something_else_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8))
    Image.fromarray(rng.integers(0, 65536, (6, 5), np.uint16)).save(tmp_path / "grey16.png")
    with (tmp_path / "rgb16.png").open("wb") as file:
        png.Writer(5, 6, greyscale=False, bitdepth=16).write(file, rng.integers(0, 65536, (6, 15)).tolist())
    Image.fromarray(np.ones((6, 5), np.float32)).save(tmp_path / "real.tif")
    Image.fromarray(np.ones((6, 5), np.int32)).save(tmp_path / "long.tif")
    rgb.convert("CMYK").save(tmp_path / "print.jpg")
    transparent = rgb.convert("RGBA")
    transparent.putalpha(128)
    transparent.save(tmp_path / "alpha.png")
    rgb.convert("LA").point(lambda value: value // 2).save(tmp_path / "la.png")
    rgb.quantize(4).save(tmp_path / "hole.png", transparency=2)
    rgb.save(tmp_path / "moving.png", save_all=True, append_images=[rgb.rotate(180)])
    rgb.save(tmp_path / "moving.webp", save_all=True, append_images=[rgb.rotate(180)])
    rgb.save(tmp_path / "pages.tif", save_all=True, append_images=[rgb])
    rgb.save(tmp_path / "gif.png", format="GIF")
    (tmp_path / "empty.jpg").touch()
    reasons = {
        "grey16.png": "more than 8 bits",
        "rgb16.png": "more than 8 bits",
        "real.tif": "more than 8 bits",
        "long.tif": "more than 8 bits",
        "print.jpg": "has mode CMYK",
        "alpha.png": "transparent pixels",
        "la.png": "transparent pixels",
        "hole.png": "transparent pixels",
        "moving.png": "holds 2 images",
        "moving.webp": "holds 2 images",
        "pages.tif": "holds 2 images",
        "gif.png": "cannot be read as an image",
        "empty.jpg": "is empty, 0 bytes",
    }
    for name, reason in reasons.items():
        with pytest.raises(DataError, match=rf"{name}: .*{reason}"):
            read_picture(tmp_path / name)


def test_a_truncated_jpeg_is_an_error_that_names_the_file(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "a.jpg", np.random.default_rng(0).integers(0, 256, (9, 7, 3)))
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read as an image"):
        read_image(tmp_path / "a.jpg")


def test_a_bit_that_turned_over_in_a_png_is_seen(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 3, (9, 7), np.uint8))
    image.save(tmp_path / "m.png", compress_level=0)
    content = bytearray((tmp_path / "m.png").read_bytes())
    content[content.index(b"IDAT") + 20] ^= 1
    (tmp_path / "m.png").write_bytes(content)
    with pytest.raises(DataError, match=r"m\.png: cannot be read as a mask"):
        read_labels(tmp_path / "m.png")


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    Image.new("L", (1, 1)).save(tmp_path / "bomb.png")
    content = bytearray((tmp_path / "bomb.png").read_bytes())
    # The header, its width and height, and its checksum.
    content[16:24] = (20_000).to_bytes(4) * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4)
    (tmp_path / "bomb.png").write_bytes(content)
    for read in (read_image, read_labels):
        with pytest.raises(DataError, match=r"bomb\.png: cannot be read as .*decompression bomb"):
            read(tmp_path / "bomb.png")


def test_an_image_without_mask_that_exif_turns_is_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    with pytest.raises(DataError, match=r"a\.jpg: its EXIF says to turn it \(orientation 6\); save it turned"):
        read_image(tmp_path / "a.jpg")
