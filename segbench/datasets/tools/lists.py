"""Lists of samples in text files: a line a sample, none twice."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from segbench.documents.text import DocumentError, read_text
from segbench.errors import DataError

LARGEST = 64 * 2**20
"""Bytes of a list that are read at most."""

Line = tuple[int, str]
"""A line's number, from 1, and its text."""


def read_list(path: Path, get: str) -> list[Line]:
    """Return the lines of a list, without empty ones, spaces around them, and comments, which begin with #.

    Args:
        path: the list: UTF-8, with or without a byte order mark, with line ends of any system.
        get: where to get it, for the error.

    Raises:
        DataError: there is no such list, it cannot be read, or it holds a control character.
    """
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such list; {get}")
    try:
        text = read_text(path, LARGEST)
    except DocumentError as error:
        raise DataError(str(error)) from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    for number, line in lines:
        if any(ord(letter) < 32 and letter != "\t" for letter in line):
            raise DataError(f"{path}:{number}: holds a control character; is this a text file?")
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def distinct(path: Path, lines: Iterable[Line], key: Callable[[str], str] = str) -> list[str]:
    """Return what lines name, each once.

    Args:
        path: the list.
        lines: its lines.
        key: what a line names; two lines are one sample where this is the same.

    Raises:
        DataError: a line names what an earlier one named; both are told.
    """
    seen: dict[str, int] = {}
    for number, line in lines:
        name = key(line)
        if name in seen:
            raise DataError(f"{path}:{number}: {line!r} stands in line {seen[name]} already; keep one")
        seen[name] = number
    return list(seen)


def plain(written: str) -> str:
    r"""Return a path of a list in the one way that it is compared: "/" for "\", no "./", composed letters."""
    return PurePosixPath(unicodedata.normalize("NFC", written.replace("\\", "/"))).as_posix()
