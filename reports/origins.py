"""Networks that segbench did not train, in words: what was loaded, and how it is fed and read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segbench.reports.records import Origin


def convention_in_words(convention: Mapping[str, Any]) -> str:
    """Return the input that a network expects in words: "RGB, values 0-1, not normalised".

    Args:
        convention: see `segbench.config.network.Convention`, as plain data.
    """
    parts = [str(convention.get("channels", "rgb")).upper(), f"values {convention.get('range', '0-1')}"]
    statistics = [(name, convention.get(name)) for name in ("mean", "std")]
    parts += [f"{name} {list(value)}" for name, value in statistics if value]
    parts += [] if any(value for _, value in statistics) else ["not normalised"]
    size = convention.get("size")
    return ", ".join([*parts, f"resized to {size[0]}x{size[1]}"] if size else parts)


def described(origin: Origin) -> list[tuple[str, str]]:
    """Return what is known of a network from elsewhere, as rows of text.

    Args:
        origin: what a record says of it.
    """
    built = origin.architecture if origin.architecture != origin.load else ""
    config = ", ".join(f"{key}={value}" for key, value in origin.config.items())
    padded = origin.convention.get("multiple", 1)
    return [
        ("loaded", origin.load),
        *([("built by", f"{built} ({config})" if config else built)] if built else []),
        ("input", convention_in_words(origin.convention) + (f", padded to multiples of {padded}" * (padded > 1))),
        ("channels of the classes", channels_in_words(origin)),
        ("parameters", f"{origin.parameters:,}"),
        ("parameters and buffers", f"{origin.size:,} bytes"),
        *([("file (SHA-256)", origin.file_sha256)] if origin.file_sha256 else []),
        *([("code (SHA-256)", origin.source_sha256)] if origin.source_sha256 else []),
    ]


def channels_in_words(origin: Origin) -> str:
    """Return which channels of a network are which classes: "road 0, car 13 or 14, sky none"."""
    if origin.binary:
        return "one, of the second class"
    if origin.classes is None:
        return "in the order of the classes"
    return ", ".join(f"{name} {' or '.join(map(str, own)) or 'none'}" for name, own in origin.classes.items())
