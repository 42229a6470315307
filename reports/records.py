"""What one evaluation found, as data: the only thing that reports read."""

from __future__ import annotations

import marshal
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1

Status = Literal["done", "failed", "missing"]
Setting = Literal["clean", "white-box", "black-box"]


class Frozen(BaseModel):
    """Immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Component(Frozen):
    """A named component with all its options resolved.

    Attributes:
        name: its name in the catalog.
        version: its version in the catalog.
        options: every option, defaults included.
        short: the shortest string that a matrix file would need for it: options that differ from the defaults.
    """

    name: str
    version: int = 1
    options: Mapping[str, Any] = Field(default_factory=dict)
    short: str


class Network(Frozen):
    """A network that was attacked or scored.

    Attributes:
        model: its architecture.
        defense: how it was trained or wrapped.
        recipe: the training recipe, resolved; empty for weights that were given.
        seed: seed of its training.
        digest: identity of its training, or of the given weights.
        weights_sha256: hash of the weights; None before they exist.
    """

    model: Component
    defense: Component
    recipe: Mapping[str, Any] = Field(default_factory=dict)
    seed: int
    digest: str
    weights_sha256: str | None = None


class RecordedThreat(Frozen):
    """The threat model: what bounds the change of an image, and what the attacker uses of the network.

    Attributes:
        norm: "linf", "l2", "rms" or None.
        eps: radius in [0, 1] units, or None.
        access: "none", "logits" or "gradients".
    """

    norm: str | None
    eps: float | None
    access: str


class Scores(Frozen):
    """Metrics over all images of a cell, in per cent.

    Attributes:
        miou: mean IoU over classes, by the protocol's convention for absent classes.
        macc: mean over classes of the share of a class's pixels that are right.
        aacc: share of valid pixels that are right.
        class_iou: IoU per class; None for a class in neither truth nor prediction.
        miou_low: lower end of the 95 % bootstrap interval of miou over images.
        miou_high: upper end of it.
    """

    miou: float
    macc: float
    aacc: float
    class_iou: tuple[float | None, ...]
    miou_low: float
    miou_high: float


class Record(Frozen):
    """One evaluation: a target network under an attack made on a source network.

    Attributes:
        digest: identity of the evaluation: the same digest means the same numbers.
        status: "done", "failed" or "missing"; only "done" has scores.
        setting: "clean", "white-box" (source is the target) or "black-box".
        dataset: the dataset and its options.
        data_fingerprint: hash of its files.
        classes: class names.
        split: split that was scored.
        limit: number of images asked for, None for all.
        n_images: number of images scored.
        protocol: how images were attacked and scored.
        absent: the protocol's convention for absent classes in mIoU, "skip" or "zero".
        target: the network that was scored.
        source: the network that the attack used.
        attack: the attack.
        threat: its threat model.
        adaptive: where the target has a defense at inference, whether the attack was made through it or, oblivious, on
            the network without it; None where there is no such difference.
        dynamic: the target changes with the images that it sees: they came one by one, in order.
        seed: seed of the attack's randomness.
        scores: the metrics.
        budget_used: largest distance of an adversarial image, in the units of `threat.eps`.
        passes: forward and backward passes of the source network, in images.
        flags: names of the sanity checks that this evaluation did not pass.
        extras: further numbers that this attack or defense reports.
        error: what went wrong, in one sentence, where status is "failed".
        provenance: versions, device, durations: nothing in here identifies the evaluation.
    """

    schema_version: int = SCHEMA_VERSION
    digest: str
    status: Status
    setting: Setting
    dataset: Component
    data_fingerprint: str
    classes: tuple[str, ...]
    split: str
    limit: int | None
    n_images: int | None = None
    protocol: Component
    absent: Literal["skip", "zero"]
    target: Network
    source: Network
    attack: Component
    threat: RecordedThreat
    adaptive: bool | None = None
    dynamic: bool = False
    seed: int
    scores: Scores | None = None
    budget_used: float | None = None
    passes: Mapping[str, int] = Field(default_factory=dict)
    flags: tuple[str, ...] = ()
    extras: Mapping[str, float | str | None] = Field(default_factory=dict)
    error: str | None = None
    provenance: Mapping[str, Any] = Field(default_factory=dict)

    @property
    def oblivious(self) -> bool:
        """Whether the attack was made on the network without its defense."""
        return self.adaptive is False


class Manifest(Frozen):
    """What a matrix asks for: its evaluations in order, as records without scores.

    Attributes:
        name: name of the matrix.
        title: a line for the head of the report.
        records: the evaluations asked for.
        worst_of: sets of attacks whose worst case is shown, by the name of the column.
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    title: str
    records: tuple[Record, ...]
    worst_of: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)


def reader() -> Callable[[object], Record]:
    """Return a function from plain data to records, in which equal networks, components and threats are one object.

    Many records share few of them: to read each of them once takes a fraction of the time and memory. What is no
    record raises pydantic's ValidationError.
    """
    known: dict[tuple[str, bytes], Frozen] = {}

    def shared(kind: type[Frozen], plain: object) -> object:
        if not isinstance(plain, dict):
            return plain
        key = kind.__name__, marshal.dumps(plain, 2)  # never read back: a key that is quickly made
        if key not in known:
            known[key] = kind.model_validate(plain)
        return known[key]

    def read(plain: object) -> Record:
        if not isinstance(plain, dict):
            return Record.model_validate(plain)
        parts = {name: shared(kind, plain[name]) for name, kind in _PARTS.items() if name in plain}
        return Record.model_validate({**plain, **parts})

    return read


_PARTS: Mapping[str, type[Frozen]] = {
    "dataset": Component,
    "protocol": Component,
    "attack": Component,
    "target": Network,
    "source": Network,
    "threat": RecordedThreat,
}
