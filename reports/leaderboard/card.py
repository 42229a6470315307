"""Parts of the page of an entry: IoU per class, commands to load the network, and its provenance."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from segbench.reports.leaderboard.columns import attack_key, attack_label
from segbench.reports.leaderboard.entries import Entry, EntryResult
from segbench.reports.names import is_name
from segbench.reports.numbers import number
from segbench.reports.records import Component

_SPEC = re.compile(r"[a-z][a-z0-9_-]*(\([^:\\\x00-\x1f\x7f-\x9f]*\))?")
"""A component of the catalog: no file, no module and no address, which could bring code."""


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
    """Instructions to load a network.

    Attributes:
        text: sentences.
        shell: shell commands; may be empty.
        python: lines of Python; may be empty.
    """

    text: str
    shell: str = ""
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
    """Return instructions to load a network and to attack it again.

    Args:
        entry: the entry of the network.
    """
    model = entry.model
    if not model.weights:
        return Loading("Its weights are not published: these numbers can be read, but not measured again.")
    zoo = next((weights.zoo for weights in model.weights if weights.zoo is not None), None)
    if zoo is not None:
        return Loading(
            "It is in a zoo; SEGBENCH_ZOO names the zoos to search.",
            shell=_evaluation(entry, [zoo]),
            python=f"import segbench\n\nnetwork = segbench.load_model({zoo!r})  # images in [0, 1] -> logits",
        )
    short, classes = model.architecture.short, len(entry.data.classes)
    if not _is_spec(model.architecture):
        return Loading("Its code is not part of segbench: its authors say how to load it.")
    where = next((weights.url for weights in model.weights if weights.url is not None), None)
    text = (
        "Its weights are published as a file; check its hash against the table before use."
        if where
        else "Where its weights are is not said; a file of them can be told by its hash."
    )
    known = f", num_classes={classes}" if classes else ""
    return Loading(
        f"{text} What follows loads the plain network: whatever a defense adds at inference is not in it.",
        shell=_evaluation(entry, [short, "--weights", "weights.safetensors"]),
        python="import segbench\n\n"
        f"network = segbench.load_model({short!r}{known}, weights='weights.safetensors')  # images in [0, 1] -> logits",
    )


def _evaluation(entry: Entry, network: Sequence[str]) -> str:
    """Return the command that scores the network again.

    It is empty for black-box entries, which need a second network, and where a name in it could be something else than
    a component's.
    """
    data, worst = entry.data, entry.worst
    named = [data.dataset, entry.protocol.component, *([worst.attack] if worst and worst.attack else [])]
    if entry.threat.setting == "black-box" or not all(map(_is_spec, named)) or not is_name(data.split):
        return ""
    limit = [] if data.limit is None else ["--limit", str(data.limit)]
    attack = worst.attack.short if worst is not None and worst.attack is not None else "clean"
    scored = ["--dataset", data.dataset.short, "--split", data.split, *limit]
    return shlex.join(
        ["segbench", "eval", *network, *scored, "--protocol", entry.protocol.component.short, "--attack", attack]
    )


def _is_spec(component: Component) -> bool:
    """Return whether the short form of a component can be read as one of the catalog, and as nothing else."""
    short, name = component.short, component.name
    return _SPEC.fullmatch(short) is not None and short.partition("(")[0] == name


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
