"""SBD's masks in MATLAB files, level 5: the one field that is a mask is read, nothing else of the format.

Source: "MAT-File Format", The MathWorks, chapter 1, https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.errors import DataError

LARGEST = 64 * 2**20
"""Bytes that a file has at most, packed and unpacked."""
HEADER = 128
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4"}
"""Types of whole numbers, by their number in the format."""
MATRIX, COMPRESSED = 14, 15
STRUCT = 2


class _Element(NamedTuple):
    kind: int
    content: bytes


def read_sbd(path: Path) -> NDArray[Any]:
    """Read a mask of SBD, GTcls.Segmentation: (H, W) of whole numbers.

    Raises:
        DataError: the file is none.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise ValueError(f"{size:,} bytes, at most {LARGEST:,} are read")
        return _mask(path.read_bytes())
    except (OSError, ValueError, zlib.error, struct.error) as error:
        raise DataError(f"{path}: cannot be read as a mask of SBD, GTcls.Segmentation ({error})") from error


def _mask(raw: bytes) -> NDArray[Any]:
    order = {b"IM": "<", b"MI": ">"}.get(raw[126:HEADER])
    if order is None:
        raise ValueError("no MATLAB file of level 5")
    room = LARGEST
    for element in _elements(raw[HEADER:], order):
        if element.kind == COMPRESSED:
            unpacked = zlib.decompressobj().decompress(element.content, room)
            room -= len(unpacked)
            if room <= 0:
                raise ValueError(f"more than {LARGEST:,} bytes when unpacked")
            element = next(_elements(unpacked, order))
        if element.kind != MATRIX:
            continue
        parts = _elements(element.content, order)
        head, _, name = next(parts, None), next(parts, None), next(parts, None)
        if head and name and name.content == b"GTcls" and head.content and _class(head, order) == STRUCT:
            return _matrix(_field(parts, "Segmentation", order), order)
    raise ValueError("it has no structure GTcls")


def _elements(content: bytes, order: str) -> Iterator[_Element]:
    """Split content into data elements."""
    at = 0
    while at + 8 <= len(content):
        kind, length = struct.unpack_from(f"{order}II", content, at)
        start = at + 8
        if kind >> 16:
            # A small element: length and type in four bytes, the content in the next four.
            kind, length, start = kind & 0xFFFF, kind >> 16, at + 4
        if start + length > len(content) or (start == at + 4 and length > 4):
            raise ValueError("an element is cut off")
        yield _Element(kind, content[start : start + length])
        end = start + length
        at = at + 8 if start == at + 4 else end if kind == COMPRESSED else end + -length % 8


def _field(parts: Iterator[_Element], wanted: str, order: str) -> _Element:
    """Return a field of a structure whose flags, dimensions and name were taken from its parts."""
    length, names = next(parts, None), next(parts, None)
    if length is None or names is None or len(length.content) != 4:
        raise ValueError("the structure has no fields")
    width = int.from_bytes(length.content, "little" if order == "<" else "big")
    for start in range(0, len(names.content), max(1, width)):
        field = next(parts, None)
        if field is not None and names.content[start : start + width].split(b"\0")[0] == wanted.encode():
            return field
    raise ValueError(f"GTcls has no field {wanted}")


def _matrix(field: _Element, order: str) -> NDArray[Any]:
    flags, size, _, numbers = (*_elements(field.content, order), *[None] * 4)[:4]
    if field.kind != MATRIX or flags is None or size is None or numbers is None or numbers.kind not in NUMBERS:
        raise ValueError("the field is no matrix of whole numbers")
    shape = np.frombuffer(size.content, f"{order}i4").tolist()
    values = np.frombuffer(numbers.content, f"{order}{NUMBERS[numbers.kind]}")
    if len(shape) != 2 or min(shape) < 1 or shape[0] * shape[1] != len(values):
        raise ValueError(f"the field has shape {shape} and {len(values)} values")
    # MATLAB stores columns one after another.
    return np.ascontiguousarray(values.reshape(shape[::-1]).T).astype(values.dtype.newbyteorder("="))


def _class(flags: _Element, order: str) -> int:
    return flags.content[0 if order == "<" else 3]
