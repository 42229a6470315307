"""Values of options that no component can mean, by the house's names for options."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from segbench.attacks.tools.patches import Motion, motion
from segbench.attacks.tools.targets import read_labels
from segbench.errors import shown

AT_LEAST_ONE = ("steps", "restarts", "queries", "channels")
AMOUNTS = ("eps", "alpha", "sigma")
"""Options that are amounts of change in [0, 1] units; `alpha` only beside an `eps`."""
SHARES = ("gamma", "omega")
MAPS = {
    "target": "a class or an image file of labels",
    "source": "a class or an image file of objects",
    "region": "all, object, surroundings or an image file of where pixels may change",
}
"""Options that may be an image file of labels, and what else they may be."""
LARGEST_FILE = 64 << 20
"""Bytes of a target's image file."""
MOST_PIXELS = 64 << 20
"""Pixels of a target's image."""


def out_of_range(written: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the options whose values no component can mean, each with a sentence.

    Args:
        written: values as they were written.
        options: values as the component takes them, defaults included.
    """
    for name in AT_LEAST_ONE:
        value = options.get(name)
        if isinstance(value, int) and value < 1:
            yield name, f"{name} must be at least 1, got {value}"
    for name in AMOUNTS:
        reason = _wrong_amount(name, written.get(name), options)
        if reason:
            yield name, reason
    for name in MAPS:
        file = options.get(name)
        reason = _wrong_map(name, file) if isinstance(file, Path) else None
        if reason:
            yield name, reason
    yield from _wrong_patch(options)


def is_amount(name: str, options: Mapping[str, Any]) -> bool:
    """Whether an option is an amount of change in [0, 1] units; an L2 norm adds up over all pixels, so it is none."""
    return name in AMOUNTS and (name != "alpha" or "eps" in options) and options.get("norm") != "l2"


def _wrong_amount(name: str, written: Any, options: Mapping[str, Any]) -> str | None:
    value = options.get(name)
    if not isinstance(value, float):
        return None
    if value < 0:
        return f"{name} must not be negative, got {value:g}"
    if is_amount(name, options):
        if value > 1:
            return f"{name} is in [0, 1] units, got {value:g}; write {value:g}/255 for 0-255 units"
        if value == 1 and isinstance(written, int):
            whole = "1.0 if the whole range is meant"
            return f"{name} is in [0, 1] units, got 1; write 1/255 for one grey level, or {whole}"
    return None


def _wrong_patch(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what no patch can be, and weights that are no shares."""
    if options.keys() >= Motion.__dataclass_fields__.keys():
        try:
            motion(options)
        except ValueError as error:
            yield next(name for name in Motion.__dataclass_fields__ if f" {name} is" in str(error)), str(error)
        if options.get("samples", 1) < 1:
            yield "samples", f"samples must be at least 1, got {options['samples']}"
    for name in SHARES:
        value = options.get(name)
        if isinstance(value, float) and not 0 <= value <= 1:
            yield name, f"{name} is a share from 0 to 1, got {value:g}"


def _wrong_map(name: str, file: Path) -> str | None:
    try:
        if not file.is_file():
            return f"{name} is {MAPS[name]}, and there is no file {shown(str(file))[1:-1]}"
        status = file.stat()
    except OSError as error:
        return f"{name} {shown(str(file))[1:-1]}: cannot be read ({error.strerror})"
    if status.st_size > LARGEST_FILE:
        return f"{name} {file}: {status.st_size:,} bytes; an image file of labels has at most {LARGEST_FILE:,}"
    return _unreadable(file, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _unreadable(file: Path, size: int, changed: int) -> str | None:
    """Return why a file is no image of labels; the size and the time of its change tell its states apart."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                if image.width * image.height > MOST_PIXELS:
                    return f"target {file}: {image.width}x{image.height} pixels; at most {MOST_PIXELS:,} are read"
        read_labels(file)
    except Image.DecompressionBombError:
        return f"target {file}: more than {MOST_PIXELS:,} pixels"
    except ValueError as error:
        return str(error)
    except (OSError, SyntaxError) as error:  # Pillow raises a SyntaxError where a PNG is damaged
        return f"target {file}: no readable image of labels ({error})"
    return None
