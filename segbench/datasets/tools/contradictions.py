"""What does not go together in a description of a data set."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from segbench.datasets.tools import patterns
from segbench.datasets.tools.grammar import Colour, Description
from segbench.datasets.tools.images import LOSSLESS, SUFFIXES
from segbench.datasets.tools.label_map import LARGEST, LAST, MOST_CLASSES
from segbench.documents.strict_yaml import Place

VOID_COLOURS = "void"
"""Key of the void colours in `colors`."""


def contradictions(said: Description) -> Iterator[tuple[Place, str]]:
    """Yield what does not go together in a description, each with its place."""
    yield from _contradictions_of_files(said)
    if said.background is not None and said.like is None:
        yield ("background",), "background precedes the classes of like; without like, write it into classes"
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


def _contradictions_of_files(said: Description) -> Iterator[tuple[Place, str]]:
    known = sorted({patterns.SPLIT, *said.options})
    texts = {kind: text for kind, text in (("images", said.images), ("masks", said.masks)) if text is not None}
    for kind, text in texts.items():
        for name in sorted(patterns.placeholders(text) - set(known)):
            yield (kind,), f"{kind}: there is no {{{name}}}; there are {', '.join(f'{{{each}}}' for each in known)}"
    if len(texts) == 1:
        missing = "masks" if "images" in texts else "images"
        yield (*texts,), f"{next(iter(texts))} says where files lie, and {missing} does not; write both"
    if len(texts) < 2:
        return
    images, masks = (patterns.filled(text, dict.fromkeys(patterns.placeholders(text), "x")) for text in texts.values())
    for kind, pattern in (("images", images), ("masks", masks)):
        if pattern.is_folder and pattern.text.lower().endswith(SUFFIXES):
            yield (kind,), f"{kind}: {texts[kind]!r} is one file; write * for the part of its name that differs"
            return
    if images.wildcards != masks.wildcards:
        counts = f"images has {images.wildcards} wildcards and masks {masks.wildcards}"
        yield ("masks",), f"{counts}; an image and its mask are found by what the same wildcards stand for"
    if masks.has_ending and not masks.whole.lower().endswith(LOSSLESS):
        yield ("masks",), f"masks end in {', '.join(LOSSLESS)}: other formats change labels when they compress"
    several = isinstance(said.splits, tuple) and len(said.splits) > 1
    if several and patterns.SPLIT not in patterns.placeholders(texts["images"]):
        yield ("images",), "images: nothing tells the splits apart; write {split}, or a list file for each split"


def _contradictions_of_labels(said: Description) -> Iterator[tuple[Place, str]]:
    if said.labels is not None:
        for label, name in said.labels.items():
            if name not in said.classes:
                yield ("labels", label), f"labels.{label}: {_unknown(name, said.classes)}"
        yield from _classes_without("labels", "label", said.classes, said.labels.values())
    named = said.named_labels()
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
