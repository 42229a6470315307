"""Descriptions of data sets in YAML, of a folder or of segbench; every mistake has its line."""

from __future__ import annotations

import difflib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segbench.datasets.tools.contradictions import contradictions
from segbench.datasets.tools.grammar import Description
from segbench.documents.strict_yaml import Document, Mistake, Place, parse_yaml, read_yaml
from segbench.documents.text import DocumentError
from segbench.errors import DataError

__all__ = ["Description", "packaged", "packaged_names", "read_description"]

PACKAGED = resources.files("segbench") / "datasets" / "descriptions"
"""The descriptions that come with segbench."""


def read_description(path: Path) -> Description:
    """Read the description of a folder, `dataset.yaml`.

    Raises:
        DataError: with all mistakes, a line each.
    """
    if not path.is_file():
        raise DataError(f"{path}: cannot be read; a folder of your own images needs it, see docs/data.md")
    try:
        return _described(read_yaml(path))
    except DocumentError as error:
        raise DataError(str(error)) from error


def packaged_names() -> list[str]:
    """Return the names of the data sets that segbench describes."""
    files = (file.name for file in PACKAGED.iterdir())
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


@cache
def packaged(name: str) -> Description:
    """Return the description of a data set that comes with segbench.

    Raises:
        DataError: there is none of this name, or it holds mistakes.
    """
    text = PACKAGED.joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return _described(parse_yaml(text, f"{name}.yaml"))


def _described(document: Document) -> Description:
    mistakes = list(document.mistakes)
    if not isinstance(document.data, dict):
        mistakes.append(Mistake((), 1, "should say 'classes: [...]' and what else there is to say, see docs/data.md"))
    else:
        data, found = _with_classes(document.data)
        mistakes += [_at(document, *each) for each in found]
        try:
            description = Description.model_validate(data)
            mistakes += [_at(document, *found) for found in contradictions(description)]
        except ValidationError as error:
            mistakes += [_at(document, _place(each["loc"]), _message(each)) for each in error.errors()]
    if mistakes:
        mistakes.sort(key=lambda mistake: mistake.line)
        raise DataError("\n".join(dict.fromkeys(f"{document.where}:{each.line}: {each.message}" for each in mistakes)))
    return description


def _with_classes(data: dict[Any, Any]) -> tuple[dict[Any, Any], list[tuple[Place, str]]]:
    """Add the classes and colours of the data set that a description is like."""
    like = data.get("like")
    if not isinstance(like, str):
        return data, []
    known = packaged_names()
    if like not in known:
        close = difflib.get_close_matches(like, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
        return {"classes": ["a", "b"], **data}, [(("like",), f"like: there is no description {like!r}; {hint}")]
    other = packaged(like)
    said = "and like say the same in different ways; keep one"
    twice: list[tuple[Place, str]] = [((key,), f"{key} {said}") for key in ("classes", "palette") if key in data]
    first = [data["background"]] if "background" in data else []
    colours = [*([0, 0, 0] for _ in first), *(list(colour) for colour in other.colours)]
    return {**data, "classes": [*first, *other.classes], "palette": colours}, twice


def _at(document: Document, place: Place, message: str) -> Mistake:
    return Mistake(place, document.line(place) or 1, message)


def _place(keys: tuple[int | str, ...]) -> Place:
    # Where a value has one of several types, or is a key, the library adds that to the path.
    return tuple(key for key in keys if key != "[key]")


def _message(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        name = str(problem["loc"][-1])
        close = difflib.get_close_matches(name, Description.model_fields, n=1)
        return f"there is no key {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        message = "is missing"
    elif problem["type"] == "string_type":
        message = f"{problem['input']!r} is no text; write it in quotes"
    return ".".join(map(str, _place(problem["loc"]))) + f": {message}"
