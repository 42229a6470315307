"""Short strings such as "bim(steps=6, eps=8/255)": read into a name and options, and written."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from segbench.components.values import LONGEST, is_fraction
from segbench.documents.strict_yaml import plain_scalar
from segbench.errors import SegbenchError, shown

DEEPEST = 20
"""Levels of brackets within brackets."""

_NAME = re.compile(r"[\w.+-]+")
_KEY = re.compile(r"[^\W\d]\w*")
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_BARE = re.compile(r"[\w.-]+(\(.*\))?", re.DOTALL)
_CLOSING = {"(": ")", "[": "]"}
_PYTHON = {"None": None, "True": True, "False": False}


def parse(written: str) -> tuple[str, dict[str, Any]]:
    """Split a short string into a name and options.

    Values are those of YAML: numbers, true, false, null, lists in brackets, and text, in quotes where it holds a space.
    A fraction such as 8/255 and a component with its options are text.

    Args:
        written: the short string.

    Raises:
        SegbenchError: it is none.
    """
    if len(written) > LONGEST:
        raise SegbenchError(f"a component has at most {LONGEST:,} characters with its options, got {len(written):,}")
    if any(unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\r\t" for character in written):
        raise SegbenchError(f"{shown(written)} holds a control character; leave it out")
    content = written.strip()
    name = _NAME.match(content)
    rest = content[name.end() :].strip() if name else ""
    if name is None or (rest and not (rest.startswith("(") and rest.endswith(")"))):
        hint = "; in a YAML list, put what holds a comma in quotes" if content.count("(") != content.count(")") else ""
        raise SegbenchError(f"expected a name such as bim or bim(steps=6, eps=8/255), got {shown(written)}{hint}")
    options, mistakes = _options(rest[1:-1])
    if mistakes:
        reasons = "; ".join(dict.fromkeys(mistakes))
        raise SegbenchError(f"{shown(written)} does not read as name(option=value, ...): {reasons}")
    return name[0], options


def word(text: str) -> str:
    """Write a text as `parse` reads it: as it is where it can stand without quotes."""
    if _BARE.fullmatch(text):
        try:
            if list(_items(text)) == [text] and _value(text) == text:
                return text
        except SegbenchError:
            pass
    quote = '"' if "'" in text and '"' not in text else "'"
    return quote + text.replace("\\", "\\\\").replace(quote, f"\\{quote}") + quote


def _options(text: str) -> tuple[dict[str, Any], list[str]]:
    options: dict[str, Any] = {}
    mistakes: list[str] = []
    try:
        items = list(_items(text))
    except SegbenchError as error:
        return {}, [str(error)]
    for item in items:
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not _KEY.fullmatch(key):
            mistakes.append(f"{shown(item)} is no option")
        elif key in options:
            mistakes.append(f"{shown(key)} stands twice; keep one")
        else:
            options[key] = None
            try:
                options[key] = _value(value)
            except SegbenchError as error:
                mistakes.append(str(error))
    return options, mistakes


def _items(text: str) -> Iterator[str]:
    """Yield what stands between commas outside brackets and quotes; a comma may stand at the end."""
    start, index = 0, 0
    awaited: list[str] = []
    while index < len(text):
        character = text[index]
        if character in "'\"":
            quoted = _QUOTED.match(text, index)
            if quoted is None:
                raise SegbenchError("a quote is not closed")
            index = quoted.end()
            continue
        if character in _CLOSING:
            awaited.append(_CLOSING[character])
            if len(awaited) > DEEPEST:
                raise SegbenchError(f"more than {DEEPEST} brackets within each other")
        elif character in ")]" and (not awaited or awaited.pop() != character):
            raise SegbenchError(f"{character!r} closes no bracket")
        elif character == "," and not awaited:
            yield _filled(text[start:index])
            start = index + 1
        index += 1
    if awaited:
        raise SegbenchError(f"{awaited[-1]!r} is missing")
    if text[start:].strip():
        yield text[start:].strip()


def _filled(item: str) -> str:
    if not item.strip():
        raise SegbenchError("there is nothing before a comma")
    return item.strip()


def _value(text: str) -> Any:
    """Read the value of an option."""
    if not text:
        raise SegbenchError("a value is missing")
    if _QUOTED.fullmatch(text):
        return re.sub(r"\\(['\"\\])", r"\1", text[1:-1])
    if text[0] in _CLOSING and text[-1] == _CLOSING[text[0]]:
        return [_value(item) for item in _items(text[1:-1])]
    if text in _PYTHON:
        return _PYTHON[text]
    value, mistake = plain_scalar(text)
    if mistake:
        raise SegbenchError(mistake)
    head = text.partition("(")[0]
    if isinstance(value, str) and not is_fraction(text) and re.search(r"[\s=\"'\[]", head):
        raise SegbenchError(f"put {shown(text)} in quotes, or a comma between options")
    return value
