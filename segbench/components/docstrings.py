"""A component's docstring in parts, for the terminal and for the generated docs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import NamedTuple


class Sections(NamedTuple):
    """A docstring in parts, each paragraph on one line.

    Attributes:
        prose: what it says before the first section.
        arguments: what each argument means.
        source: where the definition is published.
        departs: where ours departs from it.
    """

    prose: str
    arguments: dict[str, str]
    source: str
    departs: str


def split(doc: str) -> Sections:
    """Split a docstring into its prose, arguments, source and departures."""
    found: dict[str, str] = {}
    section = ""
    for line in doc.splitlines():
        head = re.match(r"(Args|Raises|Returns|Source|Departs from it in):\s*(.*)", line)
        if head:
            section, line = head[1], head[2]
        found[section] = found.get(section, "") + line + "\n"
    prose = "\n\n".join(_joined(paragraph) for paragraph in found.get("", "").strip().split("\n\n"))
    return Sections(
        prose,
        dict(_arguments(found.get("Args", ""))),
        _joined(found.get("Source", "")),
        _joined(found.get("Departs from it in", "")),
    )


def attributes(doc: str) -> dict[str, str]:
    """Return what each attribute means that a docstring describes."""
    section = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)*)", inspect.cleandoc(doc), re.MULTILINE)
    return dict(_arguments(section[1])) if section else {}


def _arguments(text: str) -> Iterator[tuple[str, str]]:
    for entry in re.split(r"\n(?=\S)", inspect.cleandoc(text)):
        name, _, meaning = entry.partition(":")
        yield name.strip(), _joined(meaning)


def _joined(text: str) -> str:
    return " ".join(text.split())
