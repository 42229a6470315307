"""What `dataset.yaml` says: classes, and what the values in mask files mean; every mistake at once, with its line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError

from segbench.datasets.base import VOID
from segbench.datasets.tools.label_map import LARGEST, LAST, MOST_CLASSES, LabelMap
from segbench.documents import Document, DocumentError, Mistake, Place, read_yaml
from segbench.errors import DataError

VOID_COLOURS = "void"
"""Key of the void colours in `colors`."""


def _one_or_many(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _colour_or_many(value: Any) -> Any:
    return [value] if isinstance(value, list) and value and not isinstance(value[0], list) else value


def _split_names(value: Any) -> Any:
    names = list(value) if isinstance(value, list | dict) else []
    files = list(value.values()) if isinstance(value, dict) else []
    if not names or not all(isinstance(word, str) and word for word in (*names, *files)):
        raise ValueError("should name subfolders, [train, val], or a list file for each split, {train: train.txt}")
    odd = [word for word in (*names, *files) if PurePosixPath(word).is_absolute() or ".." in PurePosixPath(word).parts]
    if odd:
        raise ValueError(f"{odd[0]!r} leads out of the folder")
    if len(set(names)) < len(names):
        raise ValueError("names a split twice")
    return tuple(names) if isinstance(value, list) else value


Byte = Annotated[int, Field(strict=True, ge=0, le=255)]
Colour = tuple[Byte, Byte, Byte]
Colours = Annotated[tuple[Colour, ...], BeforeValidator(_colour_or_many), Field(min_length=1)]
Label = Annotated[int, Field(strict=True, ge=0, le=LARGEST)]
VoidLabel = Annotated[int, Field(strict=True, ge=LAST, le=LARGEST)]
Name = Annotated[str, Field(min_length=1)]


class Description(BaseModel):
    """What `dataset.yaml` holds.

    Attributes:
        classes: names of the classes.
        palette: a colour per class; by default those of `colors`, or colours far from one another.
        labels: name of a class by the label in the files; by default labels are 0..C-1 in the order of the classes.
        colors: a colour or several by the name of a class, for masks in colours; those of "void" are void.
        ignore_index: a void label in the files or several, -1 for the largest one of 8 or 16 bits; by default 255,
            unless that is the label of a class.
        reduce_zero_label: label 0 is void, and the classes have the labels 1..C.
        splits: names of splits that are subfolders of images and masks, or a list file for each name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: Annotated[tuple[Name, ...], Field(min_length=2)]
    palette: tuple[Colour, ...] | None = None
    labels: dict[Label, str] | None = None
    colors: dict[str, Colours] | None = None
    ignore_index: Annotated[tuple[VoidLabel, ...], BeforeValidator(_one_or_many)] | None = None
    reduce_zero_label: StrictBool = False
    splits: Annotated[tuple[str, ...] | dict[str, str], BeforeValidator(_split_names)] = ("train", "val")

    def label_map(self) -> LabelMap:
        """Return what the values in mask files mean."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        if self.colors is not None:
            return LabelMap(
                {
                    red << 16 | green << 8 | blue: numbers.get(name, VOID)
                    for name, colours in self.colors.items()
                    for red, green, blue in colours
                },
                colours=True,
            )
        of_classes = {label: numbers[name] for label, name in self._labels().items()}
        return LabelMap({**dict.fromkeys(self._void(), VOID), **of_classes})

    def _labels(self) -> dict[int, str]:
        first = 1 if self.reduce_zero_label else 0
        return self.labels if self.labels is not None else dict(enumerate(self.classes, first))

    def _void(self) -> tuple[int, ...]:
        zero = (0,) if self.reduce_zero_label else ()
        if self.ignore_index is not None:
            return (*self.ignore_index, *zero)
        return (*zero, *({VOID} - set(self._labels())))


def read_description(path: Path) -> Description:
    """Read `dataset.yaml`.

    Raises:
        DataError: with all mistakes, a line each.
    """
    if not path.is_file():
        raise DataError(f"{path}: cannot be read; a folder of your own images needs it, see docs/data.md")
    try:
        document = read_yaml(path)
    except DocumentError as error:
        raise DataError(str(error)) from error
    mistakes = list(document.mistakes)
    if not isinstance(document.data, dict):
        mistakes.append(Mistake((), 1, "should say 'classes: [...]' and what else there is to say, see docs/data.md"))
    else:
        try:
            description = Description.model_validate(document.data)
            mistakes += [_at(document, *found) for found in _contradictions(description)]
        except ValidationError as error:
            mistakes += [_at(document, _place(each["loc"]), _message(each)) for each in error.errors()]
    if mistakes:
        mistakes.sort(key=lambda mistake: mistake.line)
        raise DataError("\n".join(dict.fromkeys(f"{path}:{each.line}: {each.message}" for each in mistakes)))
    return description


def _contradictions(said: Description) -> Iterator[tuple[Place, str]]:
    if len(set(said.classes)) < len(said.classes):
        yield ("classes",), "two classes have the same name"
    if len(said.classes) > MOST_CLASSES:
        yield ("classes",), f"{len(said.classes)} classes; there are at most {MOST_CLASSES}, because labels are bytes"
    if said.palette is not None and len(said.palette) != len(said.classes):
        yield ("palette",), f"palette has {len(said.palette)} colours for {len(said.classes)} classes"
    ways = [key for key in ("labels", "colors", "reduce_zero_label") if getattr(said, key)]
    if len(ways) > 1:
        yield (ways[1],), f"{' and '.join(ways)} say the same in different ways; keep one"
    elif said.colors is not None:
        yield from _contradictions_of_colours(said)
    else:
        yield from _contradictions_of_labels(said)


def _contradictions_of_labels(said: Description) -> Iterator[tuple[Place, str]]:
    if said.labels is not None:
        for label, name in said.labels.items():
            if name not in said.classes:
                yield ("labels", label), f"labels.{label}: {_unknown(name, said.classes)}"
        yield from _classes_without("labels", "label", said.classes, said.labels.values())
    named = said._labels()
    for void in said.ignore_index or ():
        taken = {255, LARGEST} & set(named) if void == LAST else {void} & set(named)
        if taken:
            label = min(taken)
            shown = ", ".join(f"{number}: {name}" for number, name in enumerate(said.classes[:2], 1))
            ways = f"or say which label is which class, labels: {{{shown}, ...}}"
            zero = f"write reduce_zero_label: true where classes begin at 1, {ways}"
            instead = zero if void == 0 else f"use one above, such as 255, {ways}"
            yield ("ignore_index",), f"ignore_index {void} is the label of a class, {named[label]!r}; {instead}"


def _contradictions_of_colours(said: Description) -> Iterator[tuple[Place, str]]:
    colours = said.colors or {}
    if said.ignore_index is not None:
        yield ("ignore_index",), "masks in colours have no labels; name the void colours in colors, as 'void'"
    seen: dict[Colour, str] = {}
    for name, own in colours.items():
        if name not in (*said.classes, VOID_COLOURS):
            yield ("colors", name), f"colors: {_unknown(name, said.classes)}"
        for colour in own:
            if colour in seen:
                yield ("colors", name), f"colors: {list(colour)} is {seen[colour]!r} and {name!r}; keep one"
            seen[colour] = name
    yield from _classes_without("colors", "colour", said.classes, colours)


def _classes_without(key: str, what: str, classes: Iterable[str], named: Iterable[str]) -> Iterator[tuple[Place, str]]:
    missing = [name for name in classes if name not in set(named)]
    if missing:
        yield (key,), f"{key}: no {what} is {missing[0]!r}; give every class one"


def _unknown(name: str, classes: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, classes, n=1)
    return f"there is no class {name!r}" + (f"; did you mean {close[0]!r}?" if close else "; classes are named above")


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
