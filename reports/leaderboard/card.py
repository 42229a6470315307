"""Parts of the page of an entry: IoU per class, where its weights are, and its provenance."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from segbench.reports.leaderboard.columns import attack_key, attack_label
from segbench.reports.leaderboard.entries import Entry, EntryResult
from segbench.reports.leaderboard.reproduce import is_spec, whereabouts
from segbench.reports.numbers import number

_LIBRARY = re.compile(r"(?P<name>smp|torchvision):\w+(\?[\w=&., \[\]()-]*)?")
"""A network that a library builds, of which no part is an address or a file."""


@dataclass(frozen=True)
class Classes:
    """A table of IoU per class, with means over the runs.

    Attributes:
        heads: heads of the columns: clean images, then the attacks.
        rows: name of a class, then its IoU in every column; None if it is in neither truth nor prediction.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]


@dataclass(frozen=True)
class Loading:
    """Where the weights of a network are, and how to load them.

    Attributes:
        text: sentences.
        python: lines of Python; may be empty.
    """

    text: str
    python: str = ""


def result_label(result: EntryResult) -> str:
    """Return the label of a result: "clean" or the heading of its attack."""
    key = attack_key(result)
    return "clean" if key is None else attack_label(key)


def per_class(entry: Entry) -> Classes | None:
    """Return IoU per class; None if no run has it.

    Args:
        entry: the entry.
    """
    told = [result for result in entry.results if result.runs]
    sizes = {len(run.class_iou) for result in told for run in result.runs}
    if len(sizes) != 1 or sizes == {0}:
        return None
    count = sizes.pop()
    names = entry.data.classes if len(entry.data.classes) == count else [f"class {i}" for i in range(count)]
    means = [[_mean([run.class_iou[i] for run in result.runs]) for i in range(count)] for result in told]
    rows = tuple((name, tuple(column[i] for column in means)) for i, name in enumerate(names))
    return Classes(tuple(result_label(result) for result in told), rows)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def loading(entry: Entry) -> Loading:
    """Return where the weights of a network are, and how to load them.

    Args:
        entry: the entry of the network.
    """
    model = entry.model
    zoo = next((weights.zoo for weights in model.weights if weights.zoo is not None), None)
    if zoo is not None:
        return Loading(
            "Its weights are in a zoo; SEGBENCH_ZOO names the zoos to search.",
            f"import segbench\n\nnetwork = segbench.load_model({zoo!r})  # images in [0, 1] -> logits",
        )
    text = "Its weights are published as a file; check its hash against the table before use."
    if all(weights.url is None for weights in model.weights):
        if entry.links.weights is not None:
            return Loading("Its authors offer the weights on the page above.")
        text = "Its weights are not public."
        if not model.weights:
            return Loading(text)
        text += " If you have a file of them, its hash tells."
    origin = model.weights[0].origin if model.weights else None
    if origin is not None and (library := _LIBRARY.fullmatch(origin.architecture)):
        return Loading(
            f"{text} {library['name']} builds the network; the hash in the table is of the values, not of a file.",
            "import segbench\n\n"
            f"convention = { ({key: value for key, value in origin.convention.items() if value is not None})!r}\n"
            f"network = segbench.load_model({origin.architecture!r}, weights='weights.safetensors', "
            "convention=convention)  # images in [0, 1] -> logits",
        )
    if origin is not None or not is_spec(model.architecture):
        return Loading(f"{text} Its code is not part of segbench: its authors say how to load it.")
    short, classes = model.architecture.short, len(entry.data.classes)
    known = f", num_classes={classes}" if classes else ""
    return Loading(
        f"{text} What follows loads the plain network: whatever a defense adds at inference is not in it.",
        "import segbench\n\n"
        f"network = segbench.load_model({short!r}{known}, weights='weights.safetensors')  # images in [0, 1] -> logits",
    )


def details(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a mapping as rows of text, sorted by key.

    Args:
        values: options, a recipe or provenance, as plain data.
    """
    return [(key.replace("_", " "), _text(value)) for key, value in sorted(values.items())]


def _text(value: Any) -> str:
    if value is None or isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in sorted(value.items()))
    if isinstance(value, list | tuple):
        return ", ".join(_text(inner) for inner in value)
    return str(value)


def described(options: Mapping[str, Any]) -> str:
    """Return the options of a component as one line of text.

    Args:
        options: the options.
    """
    return ", ".join(f"{name} {text}" for name, text in details(options)) or "no options are known"


def facts(entry: Entry) -> list[tuple[str, str]]:
    """Return facts about a network as rows of text.

    Args:
        entry: the entry of the network.
    """
    model = entry.model
    return [
        ("architecture", model.architecture.short),
        ("defense", model.defense.short),
        ("parameters", f"{model.parameters:,}" if model.parameters is not None else "not known"),
        ("extra data", model.extra_data),
        ("training seeds", ", ".join(str(weights.seed) for weights in model.weights) or "not known"),
        ("weights", whereabouts(entry)),
        ("licence of the weights", entry.licence or "not known"),
        *([("changes with the images that it sees", "yes")] if model.dynamic else []),
    ]


def scored(entry: Entry) -> list[tuple[str, str]]:
    """Return the data and the protocol of an entry as rows of text.

    Args:
        entry: the entry.
    """
    data, protocol = entry.data, entry.protocol
    return [
        ("dataset", data.dataset.short),
        ("split", data.split if data.limit is None else f"first {data.limit} of {data.split}"),
        ("images", f"{data.images:,}" if data.images is not None else "not known"),
        ("fingerprint of the files", data.fingerprint or "not known"),
        ("protocol", protocol.component.short),
        ("absent classes", "left out of the mean" if protocol.absent == "skip" else "count 0"),
    ]
