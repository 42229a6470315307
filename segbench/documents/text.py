"""Text files that people write: in UTF-8, of a bounded size."""

from __future__ import annotations

import stat
from pathlib import Path

from segbench.errors import SegbenchError, shown

LARGEST = 256 << 10
"""Bytes of a YAML text that are read at most: aliases and nesting cost far more than their bytes."""
LONGEST_INTEGER = 40
"""Characters of a whole number; in YAML, longer ones are text, which no field for numbers takes."""


class DocumentError(SegbenchError):
    """Mistakes in a YAML or JSON text; the error's text holds one a line."""


def read_text(path: Path, largest: int = LARGEST) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        largest: its largest size in bytes.

    Raises:
        DocumentError: there is no such file, it is too large, or it is not UTF-8.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            kind = "folder" if stat.S_ISDIR(found.st_mode) else "device"
            raise DocumentError(f"{path}: cannot be read (it is a {kind}, not a file)")
        if found.st_size > largest:
            raise DocumentError(f"{path}: {found.st_size:,} bytes; a file of this kind has at most {largest:,}")
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise DocumentError(f"{path}: there is no such file") from error
    except (OSError, ValueError) as error:  # a ValueError where the name itself is none
        reason = error.strerror if isinstance(error, OSError) else error
        raise DocumentError(f"{shown(str(path))[1:-1]}: cannot be read ({reason})") from error
    return decoded(raw, str(path))


def decoded(raw: bytes, where: str) -> str:
    """Return bytes as text in UTF-8, without a byte order mark.

    Raises:
        DocumentError: they are in another encoding.
    """
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw[:200]:
        raise DocumentError(f"{where}: is not UTF-8 but looks like UTF-16; save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DocumentError(f"{where}:{line}: is not UTF-8 (byte {raw[error.start]:#04x}); save it as UTF-8") from error
