"""A matrix as it was written: its content, and the place of every part of it for errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from segbench.components.specs import Problem
from segbench.documents.strict_yaml import Mistake, Place, parse_yaml
from segbench.documents.text import read_text
from segbench.errors import MatrixError, SegbenchError, shown, unknown

SINGULAR = ("dataset", "model", "defense", "seed", "attack", "network")
"""Keys that may be written in place of their plural, for one value."""
MOST = 200
"""Mistakes that are shown."""


@dataclass
class Source:
    """A matrix as it was written.

    Attributes:
        where: what errors name, usually the file; empty where there is none.
        name: name of the matrix unless it says another.
        data: its content.
        lines: the line of every key and item.
        options: the command line's option that wrote a part, such as "--set".
        mistakes: what is wrong with how it is written.
        refused: what is wrong with the command line's options.
    """

    where: str
    name: str
    data: dict[Any, Any]
    lines: dict[Place, int] = field(default_factory=dict)
    options: dict[Place, str] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def place(self, path: Place) -> int | str | None:
        """Return the line of a path, or the option that wrote it; else that of its nearest parent which has one."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.options:
                return self.options[path[:end]]
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return None

    def error(self, problems: Sequence[Problem]) -> MatrixError:
        """Return all mistakes as an error, each once and in the order of their lines."""
        known = {(mistake.path, mistake.line) for mistake in self.mistakes}
        found = [(0, mistake.line, f":{mistake.line}", mistake.message) for mistake in self.mistakes]
        for problem in problems:
            place = self.place(problem.path)
            if isinstance(place, int):
                if (problem.path, place) not in known:
                    found.append((0, place, f":{place}", problem.message))
            else:
                found.append((2 if place is None else 1, 0, f" ({place})" if place else "", problem.message))
        found.sort(key=lambda one: one[:2])
        told = [f"{self.where}{place}: {message}" if self.where else message for _, _, place, message in found]
        told += self.refused
        lines = list(dict.fromkeys(told))
        more = ["more mistakes are not shown; correct these first"] if len(lines) > MOST else []
        return MatrixError("\n".join([*lines[:MOST], *more]))


def builtin_matrices() -> dict[str, str]:
    """Names of the built-in matrices with their titles."""
    found = {}
    for name in _builtin_names():
        data = parse_yaml(_builtin(name), f"{name}.yaml").checked().data
        found[name] = str(data.get("title", ""))
    return found


def read(matrix: str) -> Source:
    """Read a built-in matrix or a YAML file.

    Args:
        matrix: name of a built-in matrix, or path of a file.

    Raises:
        MatrixError: there is no such matrix, or it is no mapping in YAML.
    """
    names = _builtin_names()
    path = Path(matrix)
    try:
        if path.suffix in (".yaml", ".yml") or _is_file(path):
            where, text, name = matrix, read_text(path), path.stem
        elif matrix in names:
            where, text, name = f"{matrix}.yaml", _builtin(matrix), matrix
        else:
            sentence = unknown("matrix", matrix[:100], dict.fromkeys(names))
            raise MatrixError(f"{sentence}; a file's name ends in .yaml")
        document = parse_yaml(text, where)
    except MatrixError:
        raise
    except SegbenchError as error:
        hint = f"; built-in matrices: {', '.join(names)}" if "there is no such file" in str(error) else ""
        raise MatrixError(f"{error}{hint}") from error
    content = {} if document.data is None else document.data
    if not isinstance(content, dict):
        raise MatrixError(
            f"{where}: a matrix is a mapping of keys such as 'models' and 'attacks', got {shown(content)}"
        )
    return plural(Source(where, name, content, dict(document.lines), mistakes=list(document.mistakes)))


def plural(source: Source) -> Source:
    """Put the plural in place of every key in the singular, and leave out the keys that begin with `x-`."""
    for one in SINGULAR:
        if one in source.data and f"{one}s" in source.data:
            line = source.lines.get((one,), 0)
            source.mistakes.append(Mistake((one,), line, f"{one!r} and '{one}s' both stand here; keep one"))
            del source.data[one]
        elif one in source.data:
            value = source.data.pop(one)
            source.data[f"{one}s"] = [value]
            if isinstance(value, list):
                message = f"{one!r} is for one; write '{one}s' for several"
                source.mistakes.append(Mistake((one,), source.lines.get((one,), 0), message))
                source.data[f"{one}s"] = value
            first: Place = (f"{one}s",) if isinstance(value, list) else (f"{one}s", 0)
            source.lines = {_moved(path, one, first): line for path, line in source.lines.items()}
            source.mistakes = [
                Mistake(_moved(mistake.path, one, first), mistake.line, mistake.message) for mistake in source.mistakes
            ]
    source.data = {
        key: value for key, value in source.data.items() if not (isinstance(key, str) and key.startswith("x-"))
    }
    return source


def from_data(data: Mapping[str, Any], name: str) -> Source:
    """Return a matrix that was not written to a file."""
    return plural(Source("", name, dict(data)))


def _moved(path: Place, one: str, first: Place) -> Place:
    return (*first, *path[1:]) if path[:1] == (one,) else path


def _builtin_names() -> list[str]:
    entries = (entry.name for entry in (files("segbench") / "matrices").iterdir())
    return sorted(name.removesuffix(".yaml") for name in entries if name.endswith(".yaml"))


def _builtin(name: str) -> str:
    return (files("segbench") / "matrices" / f"{name}.yaml").read_text(encoding="utf-8")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
