"""JSON that people write, read strictly: no key twice, no number that is none, and bounds on all that grows."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from segbench.documents.text import LONGEST_INTEGER, DocumentError, decoded

LARGEST_JSON = 16 << 20
"""Bytes of a JSON text that are read at most."""


def parse_json(text: str | bytes, where: str, largest: int = LARGEST_JSON) -> Any:
    """Read a JSON text strictly: no key twice, no NaN, bounded in size, depth and numbers.

    Args:
        text: the text.
        where: what errors name.
        largest: its largest size.

    Raises:
        DocumentError: it is none.
    """
    if len(text) > largest:
        raise DocumentError(f"{where}: {len(text):,} bytes; a file of this kind has at most {largest:,}")
    plain = decoded(text, where) if isinstance(text, bytes) else text
    try:
        return json.loads(
            plain, object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_integer, parse_float=_real
        )
    except json.JSONDecodeError as error:
        message = f"{where}:{error.lineno}: not JSON: {error.msg.lower()} (column {error.colno})"
        raise DocumentError(message) from error
    except _Twice as error:
        lines = _lines_of(plain, str(error))
        also = f" (also in line {lines[0]})" if len(lines) > 1 else ""
        place = f":{lines[-1]}" if lines else ""
        raise DocumentError(f"{where}{place}: the key {str(error)!r} stands twice{also}; keep one") from error
    except ValueError as error:
        raise DocumentError(f"{where}: not JSON: {error}") from error
    except RecursionError as error:
        raise DocumentError(f"{where}: nested too deeply to be read") from error


class _Twice(Exception):
    pass


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Twice(key)
        found[key] = value
    return found


def _constant(name: str) -> None:
    raise ValueError(f"{name} is no number; write null where there is none")


def _integer(text: str) -> int:
    if len(text) > LONGEST_INTEGER:
        raise ValueError(f"a whole number of {len(text):,} digits; at most {LONGEST_INTEGER} are read")
    return int(text)


def _real(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:LONGEST_INTEGER]} is larger than any number that is read")
    return number


def _lines_of(text: str, key: str) -> list[int]:
    written = json.dumps(key, ensure_ascii=False)
    return [number for number, line in enumerate(text.splitlines(), 1) if re.search(re.escape(written) + r"\s*:", line)]
