"""Evaluation records: the settings and scores of one evaluation, as data. Reports read nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from segbench.reports.names import Digest

SCHEMA_VERSION = 1

Status = Literal["done", "failed", "missing", "not applicable"]
Setting = Literal["clean", "white-box", "black-box"]


class Frozen(BaseModel):
    """A model whose values cannot change and that refuses unknown fields."""

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


class Origin(Frozen):
    """What a network was that segbench did not train: where it came from, and how it is fed and read.

    Attributes:
        load: what was loaded, without the folders that it lay in: "net.py:build".
        architecture: what builds it anew for other weights, if libraries alone do: "smp:unet?classes=12"; else empty.
        config: of a network of transformers, the options of its configuration.
        task: of a network that is told its task, the tokens of that task.
        window: side of the square windows that it is shown images in; None for whole images.
        convention: the input that it expects; see `segbench.config.network.Convention`.
        classes: for every class of the dataset the network's channels; None where its channels are the classes.
        output: the part of its answer that holds the logits; None where they were looked for.
        binary: it has one channel, the logit of the second of two classes.
        parameters: number of its parameters.
        size: bytes of its parameters and buffers.
        file_sha256: hash of the file of its weights, or of the file that is the network; None without one such file.
        source_sha256: hash of the code that built it, as far as it is not of an installed package; None without any.
    """

    load: str
    architecture: str = ""
    config: Mapping[str, Any] = Field(default_factory=dict)
    task: tuple[int, ...] = ()
    window: Annotated[int, Field(ge=1)] | None = None
    convention: Mapping[str, Any] = Field(default_factory=dict)
    classes: Mapping[str, tuple[Annotated[int, Field(ge=0)], ...]] | None = None
    output: str | None = None
    binary: bool = False
    parameters: Annotated[int, Field(ge=0)]
    size: Annotated[int, Field(ge=0)]
    file_sha256: str | None = None
    source_sha256: str | None = None


class Network(Frozen):
    """A network that was scored, or that an attack was made on.

    Attributes:
        model: its architecture.
        defense: the defense that trained it or wraps it.
        recipe: all values of the training recipe; empty for a network that segbench did not train.
        seed: seed of its training.
        digest: identity of its training, or of the given network.
        weights_sha256: hash of the weights; None before the training has finished. Of a network from elsewhere it is
            that of the values of its parameters and buffers, and not of a file.
        access: what a network from elsewhere gives: "gradients", "scores", "labels", or "files" where only its
            predictions were given; None for a network that segbench trained, and in records of before it was noted.
        origin: what a network from elsewhere was; None for a network that segbench trained, and in records of before
            it was noted.
    """

    model: Component
    defense: Component
    recipe: Mapping[str, Any] = Field(default_factory=dict)
    seed: int
    digest: Digest
    weights_sha256: str | None = None
    access: Literal["gradients", "scores", "labels", "files"] | None = None
    origin: Origin | None = None


Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RecordedThreat(Frozen):
    """The threat model of an evaluation: the bound on the change of an image, and the attacker's access to the network.

    Attributes:
        norm: "linf", "l2", "rms" or None.
        eps: the bound in [0, 1] units, or None.
        access: "none", "labels", "logits" or "gradients".
        region: where pixels may change: "patch", or of an attack that hides objects "all", "object", "surroundings" or
            "map"; None for every attack that may change all pixels and hides no object.
        area: share of the image that a patch covers before it is scaled; None for all other regions.
    """

    norm: str | None
    eps: Amount | None
    access: str
    region: str | None = None
    area: Annotated[float, Field(gt=0, le=1)] | None = None

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return plain data without what only an attack with a region has, so that digests of others stay."""
        plain: dict[str, Any] = handler(self)
        return {name: value for name, value in plain.items() if value is not None or name in ("norm", "eps", "access")}


Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Scores(Frozen):
    """Metrics over all images of an evaluation, in per cent.

    Attributes:
        miou: mean IoU over classes, by the protocol's convention for absent classes.
        macc: mean over classes of the share of their pixels that are predicted correctly.
        aacc: share of valid pixels that are predicted correctly.
        class_iou: IoU per class; None for a class in neither truth nor prediction.
        miou_low: lower end of the 95 % bootstrap interval of miou over images.
        miou_high: upper end of that interval.
    """

    miou: Percent
    macc: Percent
    aacc: Percent
    class_iou: tuple[Percent | None, ...]
    miou_low: Percent
    miou_high: Percent


class Record(Frozen):
    """One evaluation: a target network under an attack made on a source network.

    Attributes:
        digest: identity of the evaluation; equal digests mean equal numbers.
        status: "done", "failed", "missing", or "not applicable" where the attack needs more than its source network
            gives; only a record that is "done" has scores.
        setting: "clean", "white-box" (source is the target) or "black-box".
        dataset: the dataset and its options.
        data_fingerprint: hash of the dataset's files.
        classes: class names.
        split: the split that was scored.
        limit: number of images to score; None for all.
        n_images: number of images scored.
        protocol: the protocol that attacked and scored the images.
        absent: the protocol's rule for mIoU: a class in neither truth nor prediction is left out ("skip") or counts 0
            ("zero").
        target: the network that was scored.
        source: the network that the attack was made on.
        attack: the attack.
        threat: its threat model.
        adaptive: for a target with a defense at inference: True if the attack was made through that defense, False if
            it was made on the network without it (oblivious). None for all other targets.
        dynamic: the target changes with the images that it sees; it saw them one by one, in order.
        precision: of the networks' passes: "fp32", "tf32" or "bf16".
        seed: seed of the attack.
        scores: the metrics.
        budget_used: largest distance of an adversarial image from its clean image, in the units of `threat.eps`.
        passes: number of images that went forward and backward through the source network.
        curve: (forward passes of an image, mIoU of the attack's best candidates so far by right pixels) of a white-box
            attack with a budget, each image after as many of its own passes; empty where it was not recorded.
        flags: names of the sanity checks that failed.
        metrics: every standard metric by its name (see `segbench.reports.metrics.registry`); None where it has
            none. Empty for a record of an earlier segbench.
        tallied: what was counted beside the pixels of each class (see `segbench.reports.metrics.tallied`); the metrics
            of other families are not in `metrics`.
        extras: other numbers that this attack or defense reports.
        error: the reason, in one sentence, if the status is "failed" or "not applicable".
        notes: what was chosen or noticed when the data and the networks were read, as sentences.
        answers: logits of the target at fixed places of the first image, by which a network from elsewhere is known
            again; empty where it answers differently each time.
        provenance: software versions, device and durations; not part of the evaluation's identity.
    """

    schema_version: int = SCHEMA_VERSION
    digest: Digest
    status: Status
    setting: Setting
    dataset: Component
    data_fingerprint: str
    classes: tuple[str, ...]
    split: str
    limit: int | None
    n_images: Annotated[int, Field(ge=1)] | None = None
    protocol: Component
    absent: Literal["skip", "zero"]
    target: Network
    source: Network
    attack: Component
    threat: RecordedThreat
    adaptive: bool | None = None
    dynamic: bool = False
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    seed: int
    scores: Scores | None = None
    budget_used: Amount | None = None
    passes: Mapping[str, Count] = Field(default_factory=dict)
    curve: tuple[tuple[Count, Percent], ...] = ()
    flags: tuple[str, ...] = ()
    metrics: Mapping[str, Percent | None] = Field(default_factory=dict)
    tallied: tuple[str, ...] = ()
    extras: Mapping[str, float | str | None] = Field(default_factory=dict)
    error: str | None = None
    notes: tuple[str, ...] = ()
    answers: tuple[float, ...] = ()
    provenance: Mapping[str, Any] = Field(default_factory=dict)

    @property
    def oblivious(self) -> bool:
        """True if the attack was made on the network without its defense at inference."""
        return self.adaptive is False


class Manifest(Frozen):
    """All evaluations of a matrix, in order.

    Attributes:
        name: name of the matrix.
        title: the title of the report.
        records: one record per evaluation; without scores where it has not run yet.
        worst_of: column name -> attacks whose worst case the column shows.
        metrics: names of the metrics that its report shows beside mIoU.
        labels: display names of components and networks (see `segbench.reports.labels.Labels`).
        reference: the network that errors under corruption are divided by, as "pspnet with none"; empty for none.
        threads: CPU threads of each worker, on which the last bits of numbers depend; None where it is not known.
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    title: str
    records: tuple[Record, ...]
    worst_of: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    labels: Mapping[str, str] = Field(default_factory=dict)
    reference: str = ""
    threads: int | None = Field(default=None, ge=1)
