"""Arrays as the bytes of npz files, read many times as fast as numpy does: a store holds a hundred thousand of them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.errors import StoreError, describe

LARGEST_ARRAYS = 1 << 30
"""Bytes that a file of arrays may unpack to."""
_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_NAMES = struct.Struct("<2H")
_LOCAL = 30
_DEFLATED = 8


def packed(**arrays: Any) -> bytes:
    """Return arrays as the bytes of an npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpacked(content: bytes, path: str | Path, only: str = "") -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz file.

    Args:
        content: its bytes.
        path: what errors name.
        only: name of the one array that is needed; empty for all.

    Raises:
        StoreError: it is damaged, or would unpack to more than `LARGEST_ARRAYS`.
    """
    try:
        members = _plain(content)
        members = _any(content) if members is None else members
        named = {name.removesuffix(".npy"): own for name, own in members.items()}
        return {name: _array(own) for name, own in named.items() if only in ("", name)}
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for damaged bytes
        raise StoreError(f"{path}: damaged ({describe(error)}); delete {Path(path).parent} to make it again") from error


def _plain(content: bytes) -> dict[str, bytes] | None:
    """Return the files of an archive as `packed` writes it, or None for any other one and for a damaged one."""
    end = len(content) - _END.size
    if end < 0:
        return None
    mark, disk, first, here, number, size, place, comment = _END.unpack_from(content, end)
    if (mark, disk, first, comment, here, place + size) != (b"PK\5\6", 0, 0, 0, number, end):
        return None
    found: dict[str, bytes] = {}
    room = LARGEST_ARRAYS
    for _ in range(number):
        if place + _ENTRY.size > end:
            return None
        mark, _, _, flags, method, _, _, crc, short, full, *lengths, _, _, _, at = _ENTRY.unpack_from(content, place)
        room -= full
        if (mark, flags, method, *lengths[1:]) != (b"PK\1\2", 0, _DEFLATED, 0, 0) or full == 0 or room < 0:
            return None
        place += _ENTRY.size
        name = content[place : place + lengths[0]]
        place += lengths[0]
        if at + _LOCAL > end:
            return None
        begin = at + _LOCAL + sum(_NAMES.unpack_from(content, at + _LOCAL - _NAMES.size))
        own = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[begin : begin + short], full)
        if len(own) != full or zlib.crc32(own) != crc:
            return None
        found[name.decode("ascii")] = own
    return found if place == end else None


def _any(content: bytes) -> dict[str, bytes]:
    """Return the files of an archive.

    Raises:
        Exception: whatever zipfile raises for damaged bytes.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > LARGEST_ARRAYS:
            raise ValueError("it would unpack to more than anything that a store holds")
        return {member.filename: archive.read(member) for member in members}


def _array(content: bytes) -> NDArray[Any]:
    """Return the array of an npy file; see numpy.lib.format."""
    end = 10 + int.from_bytes(content[8:10], "little")
    if content[6:8] != b"\x01\x00":
        array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        return array
    shape, fortran, dtype = _header(content[:end])
    return np.frombuffer(content, dtype, offset=end).reshape(shape, order="F" if fortran else "C").copy()


@lru_cache(maxsize=256)
def _header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, order and type of an array; the files of a store have few headers, which numpy reads slowly."""
    file = io.BytesIO(head)
    np.lib.format.read_magic(file)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject:
        raise ValueError("it holds objects of Python, and no numbers")
    return shape, fortran, dtype
