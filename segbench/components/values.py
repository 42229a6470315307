"""The types of values that people write: numbers are numbers, truth values are truth values, and text is text."""

from __future__ import annotations

import math
import numbers
import re
import types
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from segbench.attacks.base import BoundAttack
from segbench.errors import shown

LONGEST = 2_000
"""Characters of a text, such as a name, a path, or a component with its options."""
LARGEST = 2**63 - 1
"""The largest whole number: what 64 bits hold."""

_FRACTION = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*/\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*")


def mistake(reason: str) -> PydanticCustomError:
    """Return an error that pydantic reports with this sentence."""
    return PydanticCustomError("house", "{reason}", {"reason": reason})


def is_fraction(written: str) -> bool:
    """Whether a text is a fraction such as 8/255."""
    return len(written) <= 100 and _FRACTION.fullmatch(written) is not None


def number(value: Any) -> float:
    """Return a number: an int, a float, or a fraction such as "8/255"."""
    if isinstance(value, str) and is_fraction(value):
        above, below = (float(part) for part in value.split("/"))
        if below == 0:
            raise mistake(f"nothing can be divided by 0, got {shown(value)}")
        return above / below
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise mistake(f"expected a number such as 0.03 or 8/255, got {_written(value)}")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise mistake(f"expected a finite number, got {shown(value)}")
    if isinstance(value, int) and int(found) != value:
        raise mistake(f"expected a number of fewer digits, got {shown(value)}")
    if found == 0 and math.copysign(1, found) < 0:
        raise mistake("-0.0 is zero with a sign; write 0")
    return found


def whole(value: Any) -> int:
    """Return a whole number of at most 64 bits."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        instead = f"; write {int(value)}" if isinstance(value, float) and value.is_integer() else ""
        raise mistake(f"expected a whole number, got {_written(value)}{instead}")
    if abs(int(value)) > LARGEST:
        raise mistake(f"expected a whole number of at most {LARGEST:,}, got {shown(int(value))}")
    return int(value)


def truth(value: Any) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise mistake(f"expected true or false, got {_written(value)}")
    return value


def line_of_text(value: Any) -> str:
    """Return a text of one line that is not empty, without a line break at its end."""
    if not isinstance(value, str):
        quoted = "; put it in quotes" if isinstance(value, bool | int | float) else ""
        raise mistake(f"expected text, got {shown(value)}{quoted}")
    text: str = value.rstrip("\r\n")
    if not text.strip():
        raise mistake(f"expected text, got {shown(text)}, which is empty")
    if len(text) > LONGEST:
        raise mistake(f"expected at most {LONGEST:,} characters, got {len(text):,}")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise mistake(f"expected text of one line without control characters, got {shown(text)}")
    return text


def place(value: Any) -> Path:
    """Return the path of a file or folder."""
    return value if isinstance(value, Path) else Path(line_of_text(value))


Number = Annotated[float, BeforeValidator(number)]
Whole = Annotated[int, BeforeValidator(whole)]
Truth = Annotated[bool, BeforeValidator(truth)]
Text = Annotated[str, BeforeValidator(line_of_text)]
Place = Annotated[Path, BeforeValidator(place)]

_STRICT: Mapping[Any, Any] = {float: Number, int: Whole, bool: Truth, str: Text, Path: Place}
_WORDS: Mapping[Any, str] = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    BoundAttack: "an attack",
    type(None): "null",
}


def strict(annotation: Any) -> Any:
    """Return an annotation in which every number, truth value, text and path has its strict type of this module."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Annotated[(strict(parts[0]), *parts[1:])]
    if origin is Literal:
        return Annotated[annotation, BeforeValidator(_one_of(parts))]
    if origin in (Union, types.UnionType):
        return Union[tuple(strict(part) for part in parts)]  # noqa: UP007
    if origin in (tuple, list, Sequence, Mapping):
        return origin[tuple(part if part is ... else strict(part) for part in parts)]
    return _STRICT.get(annotation, annotation)


def expected(annotation: Any) -> str:
    """Say in words what an annotation takes."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return expected(parts[0])
    if origin is Literal:
        return _listed([shown(part) for part in parts])
    if origin in (Union, types.UnionType):
        return _listed([words for words in map(expected, parts) if words])
    if origin in (tuple, list, Sequence):
        items = expected(parts[0]).removeprefix("a ")
        return f"a list of {'' if ... in parts or origin is not tuple else f'{len(parts)} '}{items}s"
    return _WORDS.get(annotation, "")


def explained(detail: Any) -> str:
    """Return one of pydantic's errors as a sentence without its place."""
    kind, value = detail["type"], detail["input"]
    if kind == "house":
        return str(detail["msg"])
    if kind == "value_error":
        return str(detail["msg"]).removeprefix("Value error, ")
    if kind == "too_long":
        return f"too many values, got {shown(value)}"
    words = {
        "tuple_type": "a list",
        "list_type": "a list",
        "dict_type": "a mapping",
        "mapping_type": "a mapping",
        "model_type": "a mapping",
        "model_attributes_type": "a mapping",
    }
    if kind in words:
        return f"expected {words[kind]}, got {shown(value)}{'; leave the key out' if value is None else ''}"
    if kind == "literal_error":
        return f"expected {detail['ctx']['expected']}, got {shown(value)}"
    message = str(detail["msg"])
    return f"{message[0].lower()}{message[1:]}, got {shown(value)}"


def _one_of(members: Sequence[Any]) -> Any:
    def exact(value: Any) -> Any:
        for member in members:
            if type(member) is type(value) and member == value:
                return member
        raise mistake(f"expected {_listed([shown(member) for member in members])}, got {shown(value)}")

    return exact


def _listed(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _written(value: Any) -> str:
    """Show a value, and say so where a number was written as text."""
    numeric = isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?", value[:100])
    return f"the text {shown(value)}; leave the quotes out" if numeric else shown(value)
