"""The grammar of a description of a data set: where its files lie, its classes, and what the values in masks mean."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool

from segbench.datasets.base import VOID
from segbench.datasets.tools import patterns
from segbench.datasets.tools.label_map import LARGEST, LAST, LabelMap

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def _one_or_many(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _colour_or_many(value: Any) -> Any:
    return [value] if isinstance(value, list) and value and not isinstance(value[0], list) else value


def _split_names(value: Any) -> Any:
    names = list(value) if isinstance(value, list | dict) else []
    words = list(value.values()) if isinstance(value, dict) else []
    if not names or not all(isinstance(word, str) and word for word in (*names, *words)):
        raise ValueError("should name subfolders, [train, val], or a list file for each split, {train: train.txt}")
    for word in (*names, *words):
        if reason := patterns.wrong(word):
            raise ValueError(reason)
    if len(set(names)) < len(names):
        raise ValueError("names a split twice")
    return tuple(names) if isinstance(value, list) else value


def _pattern(value: Any) -> Any:
    if isinstance(value, str) and (reason := patterns.wrong(value) if value else "is empty"):
        raise ValueError(reason)
    return value


def _own_name(value: Any) -> Any:
    if isinstance(value, str) and not NAME.fullmatch(value):
        raise ValueError(f"{value!r} is no name; write up to 40 small letters, digits, '-' and '_'")
    return value


Byte = Annotated[int, Field(strict=True, ge=0, le=255)]
Colour = tuple[Byte, Byte, Byte]
Colours = Annotated[tuple[Colour, ...], BeforeValidator(_colour_or_many), Field(min_length=1)]
Label = Annotated[int, Field(strict=True, ge=0, le=LARGEST)]
VoidLabel = Annotated[int, Field(strict=True, ge=LAST, le=LARGEST)]
Text = Annotated[str, Field(min_length=1)]
Path_ = Annotated[str, BeforeValidator(_pattern)]
Many = Annotated[tuple[Path_, ...], BeforeValidator(_one_or_many)]


class Description(BaseModel):
    """What a description holds.

    Attributes:
        name: what tables, boards and `--data` call the data set.
        summary: what it is, in a sentence.
        source: where it was published.
        get: where to get its files, as the end of a sentence.
        within: folders in which the files may lie below the one that the user names, such as that of an archive.
        images: pattern of the images, a folder or a path with wildcards; `{split}` is a split's word.
        masks: pattern of the masks, with as many wildcards.
        splits: names of splits, which are their words too; or a word for each name; or, where no pattern holds
            `{split}`, a list file for each name.
        options: what the user may choose in place of everything; values by the placeholder in the patterns.
        lengths: number of images of the official splits.
        like: a data set of segbench whose classes and palette these are.
        background: name of a class of its own, black, which precedes those of `like`.
        classes: names of the classes.
        palette: a colour per class; by default those of `colors`, or colours far from one another.
        labels: name of a class by the label in the files; by default labels are 0..C-1 in the order of the classes.
        colors: a colour or several by the name of a class, for masks in colours; those of "void" are void.
        ignore_index: a void label in the files or several, -1 for the largest one of 8 or 16 bits; by default 255,
            unless that is the label of a class.
        reduce_zero_label: label 0 is void, and the classes have the labels 1..C.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[Text, BeforeValidator(_own_name)] | None = None
    summary: Text | None = None
    source: Text | None = None
    get: Text | None = None
    within: Many = ()
    images: Path_ | None = None
    masks: Path_ | None = None
    splits: Annotated[tuple[str, ...] | dict[str, str], BeforeValidator(_split_names)] = ("train", "val")
    options: dict[Annotated[str, Field(pattern="[a-z_]+")], Annotated[tuple[Path_, ...], Field(min_length=2)]] = {}
    lengths: dict[str, Annotated[int, Field(strict=True, ge=1)]] = {}
    like: Text | None = None
    background: Text | None = None
    classes: Annotated[tuple[Text, ...], Field(min_length=2)]
    palette: tuple[Colour, ...] | None = None
    labels: dict[Label, str] | None = None
    colors: dict[str, Colours] | None = None
    ignore_index: Annotated[tuple[VoidLabel, ...], BeforeValidator(_one_or_many)] | None = None
    reduce_zero_label: StrictBool = False

    @property
    def colours(self) -> tuple[Colour, ...]:
        """A colour for each class: those given, or colours around the wheel, with two brightnesses in turn."""
        if self.palette is not None:
            return self.palette
        if self.colors is not None:
            return tuple(self.colors[name][0] for name in self.classes)
        count = len(self.classes)
        wheel = (colorsys.hsv_to_rgb(i / count, 0.65, 0.95 if i % 2 else 0.7) for i in range(count))
        return tuple((round(r * 255), round(g * 255), round(b * 255)) for r, g, b in wheel)

    @property
    def lists(self) -> bool:
        """Whether list files say which samples are in which split, and not folders."""
        return isinstance(self.splits, dict) and not any(
            patterns.SPLIT in patterns.placeholders(text or "") for text in (self.images, self.masks)
        )

    def word(self, split: str) -> str:
        """Return what `{split}` stands for, or the list file of a split."""
        return self.splits[split] if isinstance(self.splits, dict) else split

    def top(self, kind: str) -> str:
        """Return the folder that all files of a kind, "images" or "masks", lie in: what precedes the first unknown."""
        return patterns.Pattern(re.sub(r"\{[^{}]*\}", "*", self._pattern(kind))).folder

    def pattern(self, kind: str, split: str, chosen: Mapping[str, str | None]) -> patterns.Pattern:
        """Return the pattern of a split's files.

        Args:
            kind: "images" or "masks".
            split: name of the split.
            chosen: what the user chose of the options; None for all.
        """
        words = {name: value or "*" for name, value in chosen.items()}
        return patterns.filled(self._pattern(kind), {**words, patterns.SPLIT: self.word(split)})

    def _pattern(self, kind: str) -> str:
        default = kind if self.lists else f"{kind}/{{{patterns.SPLIT}}}"
        return (self.images if kind == "images" else self.masks) or default

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
        of_classes = {label: numbers[name] for label, name in self.named_labels().items()}
        return LabelMap({**dict.fromkeys(self._void(), VOID), **of_classes})

    def named_labels(self) -> dict[int, str]:
        """Return the name of the class of each label that is one's."""
        first = 1 if self.reduce_zero_label else 0
        return self.labels if self.labels is not None else dict(enumerate(self.classes, first))

    def _void(self) -> tuple[int, ...]:
        zero = (0,) if self.reduce_zero_label else ()
        if self.ignore_index is not None:
            return (*self.ignore_index, *zero)
        return (*zero, *({VOID} - set(self.named_labels())))
