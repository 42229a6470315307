"""YAML that people write, read strictly.

Plain scalars are those of YAML 1.2: `true`, `false`, `null`, decimal numbers and text. What YAML 1.1 reads as something
surprising (`yes`, `010`, `0x10`, `1_000`, `1:30`) is a mistake, and so is a key that stands twice, a second document, a
tag, or an alias that contains itself. Every mistake has its line, and all of them are told at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from segbench.documents.text import LARGEST, LONGEST_INTEGER, DocumentError, read_text
from segbench.errors import shown

Place = tuple[str | int, ...]

MOST_VALUES = 20_000
"""Values that a document may have once its aliases are written out."""
LONGEST_NUMBER = 400
"""Characters of a number; longer ones are text."""
DEEPEST = 60
"""Levels of nesting that a document may have."""

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = {".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_OLD_BOOLEANS = ("yes", "no", "on", "off", "y", "n")
_ODD_NUMBERS = (
    (re.compile(r"[-+]?0[0-9_]+"), "octal in old YAML, decimal in new"),
    (re.compile(r"[-+]?0[xXoObB][0-9a-fA-F_]+"), "not a decimal number"),
    (re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?"), "a number with underscores"),
    (re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"), "a number to the base 60 in old YAML"),
)
_STANDARD = "tag:yaml.org,2002:"
_TAGS = {f"{_STANDARD}{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "timestamp", "value")}
_MERGE = f"{_STANDARD}merge"


@dataclass(frozen=True)
class Mistake:
    """A mistake in a document.

    Attributes:
        path: keys and indices that lead to it.
        line: its line, from 1.
        message: what is wrong, as a sentence.
    """

    path: Place
    line: int
    message: str


@dataclass(frozen=True)
class Document:
    """A text that was read.

    Attributes:
        where: what errors name, usually the file.
        data: its content as dictionaries, lists, text, numbers, booleans and None.
        lines: the line of every key and item, by its path.
        mistakes: what is wrong with it, in the order of its lines.
    """

    where: str
    data: Any
    lines: Mapping[Place, int] = field(default_factory=dict)
    mistakes: tuple[Mistake, ...] = ()

    def checked(self) -> Document:
        """Return the document, or raise a `DocumentError` with all of its mistakes."""
        if self.mistakes:
            told = (f"{self.where}:{mistake.line}: {mistake.message}" for mistake in self.mistakes)
            raise DocumentError("\n".join(dict.fromkeys(told)))
        return self

    def line(self, path: Sequence[str | int]) -> int | None:
        """Return the line of a path, or of the nearest of its parents that has one."""
        for end in range(len(path), 0, -1):
            if tuple(path[:end]) in self.lines:
                return self.lines[tuple(path[:end])]
        return None


def read_yaml(path: Path) -> Document:
    """Read a YAML file; its mistakes are in the document.

    Raises:
        DocumentError: the file cannot be read, or is no YAML at all.
    """
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, where: str) -> Document:
    """Read a YAML text; its mistakes are in the document.

    Args:
        text: the text.
        where: what errors name.

    Raises:
        DocumentError: it is no YAML at all, or too large.
    """
    if len(text) > LARGEST:
        raise DocumentError(f"{where}: {len(text):,} characters; a YAML text has at most {LARGEST:,}")
    try:
        nodes = list(yaml.compose_all(text, Loader=_Loader))
    except _TooMuch as error:
        raise DocumentError(f"{where}:{error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        hint = "; put text that holds a comma or a bracket in quotes" if "expected ','" in str(error.problem) else ""
        raise DocumentError(f"{where}{line}: not valid YAML: {error.problem or error.context}{hint}") from error
    except yaml.YAMLError as error:
        raise DocumentError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error
    except (ValueError, OverflowError) as error:  # an escape of no character, or a directive with a huge number
        raise DocumentError(f"{where}: not valid YAML: {error}") from error
    reader = _Reader(where)
    if not nodes:
        return Document(where, None)
    if len(nodes) > 1:
        second = nodes[1].start_mark.line + 1
        reader.mistakes.append(Mistake((), second, "a second document begins here; keep one"))
    data = reader.value(nodes[0], (), ())
    mistakes = tuple(sorted(reader.mistakes, key=lambda mistake: mistake.line))
    return Document(where, data, reader.lines, mistakes)


def plain_scalar(text: str) -> tuple[Any, str | None]:
    """Read a value that stands without quotes.

    Args:
        text: the value as it stands.

    Returns:
        The value, and what is wrong with how it is written, or None.
    """
    lower = text.lower()
    if lower in _WORDS and text in (lower, lower.capitalize(), lower.upper()):
        return _WORDS[lower], None
    if lower in _OLD_BOOLEANS and text in (lower, lower.capitalize(), lower.upper()):
        if len(text) == 1:
            return text, None
        meant = "true" if lower in ("yes", "on") else "false"
        return text, f"{text} is a truth value in old YAML; write {meant}, or '{text}' for the word"
    if len(text) > LONGEST_NUMBER:
        return text, None
    for pattern, what in _ODD_NUMBERS:
        if pattern.fullmatch(text):
            return text, f"{text} is {what}; write a decimal number, or '{text}' for text"
    if _INTEGER.fullmatch(text):
        return (int(text), None) if len(text) <= LONGEST_INTEGER else (text, None)
    if _FLOAT.fullmatch(text):
        return float(text), None
    return _SPECIAL.get(lower, text), None


class _TooMuch(Exception):
    pass


class _Loader(yaml.SafeLoader):
    """Stops where a text grows too deep or too long, before that takes time."""

    depth = 0
    count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Read one value, with all that is in it."""
        self.depth += 1
        self.count += 1
        if self.depth > DEEPEST + 1:
            raise _TooMuch(f"{self.line + 1}: nested too deeply; a document has at most {DEEPEST} levels")
        if self.count > 2 * MOST_VALUES:  # keys count too
            raise _TooMuch(f"{self.line + 1}: more than {MOST_VALUES:,} values")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Reader:
    """Turns nodes of PyYAML into plain data and collects mistakes."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.lines: dict[Place, int] = {}
        self.mistakes: list[Mistake] = []
        self.count = 0

    def value(self, node: yaml.Node, path: Place, parents: tuple[yaml.Node, ...]) -> Any:
        self.count += 1
        line = node.start_mark.line + 1
        if self.count > MOST_VALUES:
            raise DocumentError(f"{self.where}:{line}: more than {MOST_VALUES:,} values once aliases are written out")
        if len(parents) > DEEPEST:
            raise DocumentError(f"{self.where}:{line}: nested too deeply; a document has at most {DEEPEST} levels")
        if node in parents:
            raise DocumentError(f"{self.where}:{line}: an alias contains itself; write the values out")
        self.lines.setdefault(path, line)
        if node.tag not in _TAGS:
            self._mistake(path, node, f"the tag {node.tag[:100]} is not read; leave it out")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, parents)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index), (*parents, node)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Place, parents: tuple[yaml.Node, ...]) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        seen: dict[Any, int] = {}
        merged: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                for other in self._merged(value_node, path, parents):
                    merged = {**other, **merged}
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._mistake(path, key_node, "a key is a word or a number, not a list or a mapping")
                continue
            key = self._scalar(key_node, path)
            if key in seen:
                message = f"the key {shown(key)} stands twice (also in line {seen[key]}); keep one"
                self.mistakes.append(Mistake((*path, key), line, message))
                continue
            seen[key] = line
            self.lines[(*path, key)] = line
            found[key] = self.value(value_node, (*path, key), (*parents, node))
            self.lines[(*path, key)] = line
        return {**merged, **found}

    def _merged(self, node: yaml.Node, path: Place, parents: tuple[yaml.Node, ...]) -> Iterator[dict[Any, Any]]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for one in nodes:
            content = self.value(one, path, parents)
            if isinstance(content, dict):
                yield content
            else:
                self._mistake(path, one, "'<<' merges mappings, and this is none")

    def _scalar(self, node: yaml.Node, path: Place) -> Any:
        text = str(node.value)
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            self._mistake(path, node, f"{shown(text)} holds half of a character, which no file can hold")
            return ""
        if not isinstance(node, yaml.ScalarNode) or node.style is not None:
            return text
        value, mistake = plain_scalar(text)
        if mistake:
            self._mistake(path, node, mistake)
        return value

    def _mistake(self, path: Place, node: yaml.Node, message: str) -> None:
        self.mistakes.append(Mistake(path, node.start_mark.line + 1, message))
