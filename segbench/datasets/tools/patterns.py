"""Patterns of paths: which files of a folder are images or masks, and which of them belong together."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from segbench.datasets.tools.images import SUFFIXES

SPLIT = "split"
"""Name of the placeholder for a split's word."""
MOST_WILDCARDS = 6

_PART = re.compile(r"\*\*|\*")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Pattern:
    """A pattern of paths below a folder.

    `*` stands for part of a name, and `**` for any path. Files of two patterns with as many wildcards belong together
    where the wildcards stand for the same. A pattern without wildcards is a folder and means every file below it; one
    that ends in no ending of an image stands for all of them.

    Attributes:
        text: the pattern, with "/" between the parts and without placeholders.
    """

    text: str

    @property
    def folder(self) -> str:
        """The folder in which to look: the parts before the first wildcard."""
        parts = PurePosixPath(self.whole).parts
        return "/".join(parts[: next(i for i, part in enumerate(parts) if "*" in part)])

    @property
    def whole(self) -> str:
        """The pattern with its wildcards: of a folder, all that is below it."""
        return self.text if "*" in self.text else f"{self.text}/**"

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder and no more."""
        return "*" not in self.text

    @property
    def wildcards(self) -> int:
        """Number of wildcards."""
        return len(_PART.findall(self.whole))

    @cached_property
    def has_ending(self) -> bool:
        """Whether it says which ending files have."""
        return self.whole.lower().endswith(SUFFIXES)

    def name(self, path: str) -> str | None:
        """Return the sample's name of a file: what the wildcards stand for, with "/" between; None for no match.

        Args:
            path: of the file, which has an ending, below the folder that patterns begin in; "/" between its parts.
        """
        text = path if self.has_ending else path.rpartition(".")[0]
        found = self._expression.fullmatch(unicodedata.normalize("NFC", text))
        return None if found is None else "/".join(found.groups())

    def path(self, root: Path, name: str) -> Path:
        """Return where the file of a sample should be; a PNG where the pattern does not say which ending it has.

        Args:
            root: the folder that patterns begin in.
            name: name of the sample.
        """
        parts = iter(name.split("/", self.wildcards - 1))
        path = _PART.sub(lambda _: next(parts, ""), self.whole)
        return root / (path if self.has_ending else f"{path}.png")

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        whole = unicodedata.normalize("NFC", self.whole)
        texts = [re.escape(text) for text in _PART.split(whole)]
        groups = ["(.+)" if wildcard == "**" else "([^/]+)" for wildcard in _PART.findall(whole)]
        return re.compile("".join(text for pair in zip(texts, [*groups, ""], strict=True) for text in pair))


def filled(text: str, words: Mapping[str, str]) -> Pattern:
    """Return a pattern with words in place of its placeholders, which may hold wildcards themselves."""
    return Pattern(_PLACEHOLDER.sub(lambda found: words[found[1]], text))


def placeholders(text: str) -> set[str]:
    """Return the names of the placeholders of a pattern."""
    return set(_PLACEHOLDER.findall(text))


def wrong(text: str) -> str | None:
    """Say what is wrong with a pattern, or return None."""
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts:
        return f"{text!r} leads out of the folder"
    if "\\" in text:
        return f"{text!r} has a backslash; write / between folders"
    if "***" in text:
        return f"{text!r}: three stars mean nothing; * is part of a name, ** any path"
    if "{" in _PLACEHOLDER.sub("", text) or "}" in _PLACEHOLDER.sub("", text):
        return f"{text!r} has a brace without its other half"
    if len(_PART.findall(text)) > MOST_WILDCARDS:
        return f"{text!r} has more than {MOST_WILDCARDS} wildcards"
    return None
