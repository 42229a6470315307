"""A matrix: as it stands in a file, and validated with every component bound to its options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from segbench.components.specs import Bound
from segbench.components.values import Number, Place, Text, Truth, Whole, mistake
from segbench.config.fields import IDENTITY, LAYOUT, RUNTIME
from segbench.config.names import matrix_name
from segbench.config.network import ExternalNetwork
from segbench.errors import shown
from segbench.reports.metrics.registry import is_metric
from segbench.reports.metrics.tallied import Family
from segbench.reports.records import Frozen

Positive = Annotated[Number, Field(gt=0)]
Pixels = Annotated[Whole, Field(ge=1)]
Probability = Annotated[Number, Field(ge=0, le=1)]


class Augmentation(Frozen):
    """What is done to training images, in this order; by default nothing.

    Attributes:
        scale: smallest and largest factor of a random resize (bilinear without antialiasing, masks nearest).
        rotate: largest angle of a rotation, in degrees; the corners get the mean colour and void.
        rotate_probability: how often images are rotated.
        blur: how often images are blurred by a 5x5 Gaussian.
        flip: how often images are mirrored left to right.
        crop: height and width of a random crop; smaller images are padded with the mean colour and void first.
    """

    scale: tuple[Positive, Positive] | None = None
    rotate: Annotated[Number, Field(ge=0, le=180)] = 0.0
    rotate_probability: Probability = 0.5
    blur: Probability = 0.0
    flip: Probability = 0.0
    crop: tuple[Pixels, Pixels] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Augmentation:
        if self.scale is not None and self.scale[0] > self.scale[1]:
            raise ValueError(f"scale is the smallest and the largest factor, got {list(self.scale)}")
        return self


class Recipe(Frozen):
    """How a network is trained, whatever its defense.

    Attributes:
        optimizer: "sgd" (momentum) or "adamw".
        lr: base learning rate, of the trunk.
        head_lr_factor: learning rate of all classifiers and context modules, as a multiple of `lr`.
        momentum: of SGD.
        weight_decay: of all weights but biases and normalisation under AdamW; of all parameters under SGD.
        warmup: iterations over which the learning rate rises linearly.
        power: of the poly schedule, per iteration.
        batch_size: images a step.
        iterations: steps; or None where `epochs` says how long.
        epochs: passes over the training split; or None where `iterations` says how long.
        aux_weight: weight of the auxiliary classifier's loss.
        precision: "fp32", or autocast to "bf16" or "fp16" (the latter with loss scaling).
        clip_norm: largest gradient norm, or None.
        split: the split that is trained on.
        augmentation: changes to training images.
    """

    optimizer: Annotated[Literal["sgd", "adamw"], IDENTITY] = "sgd"
    lr: Annotated[Number, IDENTITY] = Field(default=0.01, gt=0)
    head_lr_factor: Annotated[Number, IDENTITY] = Field(default=1.0, gt=0)
    momentum: Annotated[Number, IDENTITY] = Field(default=0.9, ge=0, lt=1)
    weight_decay: Annotated[Number, IDENTITY] = Field(default=1e-4, ge=0)
    warmup: Annotated[Whole, IDENTITY] = Field(default=0, ge=0)
    power: Annotated[Number, IDENTITY] = Field(default=0.9, ge=0)
    batch_size: Annotated[Whole, IDENTITY] = Field(default=16, ge=2)
    iterations: Annotated[Whole | None, IDENTITY] = Field(default=None, ge=1)
    epochs: Annotated[Whole | None, IDENTITY] = Field(default=None, ge=1)
    aux_weight: Annotated[Number, IDENTITY] = Field(default=0.4, ge=0)
    precision: Annotated[Literal["fp32", "bf16", "fp16"], IDENTITY] = "fp32"
    clip_norm: Annotated[Number | None, IDENTITY] = Field(default=None, gt=0)
    split: Annotated[Text, IDENTITY] = "train"
    augmentation: Annotated[Augmentation, IDENTITY] = Augmentation()


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", value):
        raise mistake(f"expected auto, cpu, cuda or cuda:N, got {shown(value)}")
    return value


def _many(value: Any) -> Any:
    return value if isinstance(value, list | tuple | None) else [value]


def _metric(value: str) -> str:
    if not is_metric(value):
        raise mistake(f"no metric is called {shown(value)}; docs/metrics.md names all, such as ece or person.iou")
    return value


class Report(Frozen):
    """What a report shows beside mIoU; changes no identities.

    Attributes:
        metrics: names of metrics (see docs/metrics.md), for a further table with a column for each.
        reference: the network whose errors under corruption are 100 % in mCE, such as "pspnet with none".
    """

    metrics: Annotated[tuple[Annotated[Text, AfterValidator(_metric)], ...], BeforeValidator(_many), LAYOUT] = ()
    reference: Annotated[Text, LAYOUT] = ""


def _slurm_value(value: Any) -> str:
    if value is True:
        return ""
    if value is False or not isinstance(value, str | int):
        raise mistake(
            f"expected text, a whole number, or true for an option without a value, got {shown(value)}; put times such "
            "as 4:00:00 and lists such as n1,n2 in quotes"
        )
    text = str(value)
    if not text.isprintable():
        raise mistake(f"expected text of one line, got {shown(text)}")
    return text


def _slurm(written: Any) -> Any:
    if isinstance(written, Mapping):
        for key in written:
            if not isinstance(key, str) or not re.fullmatch(r"[a-z][a-z_-]*", key):
                raise mistake(f"an option of sbatch is written like partition or cpus_per_task, got {shown(key)}")
            if key.replace("-", "_") in TAKEN_OF_SLURM:
                raise mistake(f"segbench sets {key} of its jobs itself; leave it out")
            if key.replace("-", "_") in SILENT_OF_SLURM:
                raise mistake(f"with {key}, sbatch does not tell segbench the number of its jobs; leave it out")
        parallel = str(written.get("array_parallelism", written.get("array-parallelism", 1)))
        if not parallel.isdecimal() or int(parallel) < 1:
            raise mistake(f"array_parallelism: expected a whole number from 1 on, got {shown(parallel)}")
    return written


TAKEN_OF_SLURM = (
    "array", "chdir", "dependency", "input", "job_name", "no_requeue", "open_mode", "output", "parsable", "requeue",
    "signal", "wait", "wrap",
)  # fmt: skip
"""Options of sbatch that segbench sets."""
SILENT_OF_SLURM = ("clusters", "help", "quiet", "test_only", "usage", "version")
"""Options of sbatch that keep segbench from following its jobs: no number, or one of another cluster."""
SlurmValue = Annotated[
    str, BeforeValidator(_slurm_value), WithJsonSchema({"anyOf": [{"type": ["string", "integer"]}, {"const": True}]})
]
TrackerName = Literal["tensorboard", "mlflow", "wandb", "trackio"]


class Runtime(Frozen):
    """How and where cells run; changes none of their identities.

    Attributes:
        store: folder of checkpoints, records and reports.
        device: "auto", "cpu", "cuda" or "cuda:N".
        workers: processes on this machine; None for what fits it.
        data: folder of each dataset that has files.
        eval_batch: images (or crops) attacked at once; None for what fits the device. Where memory does not suffice, it
            is halved.
        loader_workers: threads that read images ahead, for each training and each evaluation; None for what fits the
            machine, 0 to read them when they are needed.
        checkpoint_every: seconds between checkpoints of a training.
        keep_images: images of each evaluation that are kept as they were attacked and predicted, evenly over the
            split: reports show them, and others can check them; 0 for none.
        tallies: what is counted on each image beside the pixels of each class: "confidence", "boundary" and "objects"
            (see docs/metrics.md). A finished evaluation is not repeated for more of them.
        track: trackers that hear of the run: "tensorboard", "mlflow", "wandb" and "trackio" (see docs/view.md).
        recompute: keep fewer activations in training and compute them again: less memory, more time, same weights.
        compile: compile the passes of attacks and evaluations with torch.compile, on a GPU into CUDA graphs.
        profile: say of each training and each sweep how long it took, and for how much of that it waited for images.
        engine: what runs cells: "local" (this machine), "ray" or "slurm".
        address: of a Ray cluster, HOST:PORT or "auto" for the one of this machine; None starts one here.
        slurm: options of sbatch, such as `partition` or `time`, and `array_parallelism`, jobs of an array at once.
    """

    store: Annotated[Place, RUNTIME] = Path("runs")
    device: Annotated[Text, AfterValidator(_device), RUNTIME] = "auto"
    workers: Annotated[Whole | None, RUNTIME] = Field(default=None, ge=1)
    data: Annotated[Mapping[Text, Place], RUNTIME] = Field(default_factory=dict)
    eval_batch: Annotated[Whole | None, RUNTIME] = Field(default=None, ge=1)
    loader_workers: Annotated[Whole | None, RUNTIME] = Field(default=None, ge=0)
    checkpoint_every: Annotated[Number, RUNTIME] = Field(default=30.0, gt=0)
    keep_images: Annotated[Whole, RUNTIME] = Field(default=4, ge=0)
    tallies: Annotated[tuple[Family, ...], BeforeValidator(_many), RUNTIME] = get_args(Family)
    track: Annotated[tuple[TrackerName, ...], BeforeValidator(_many), RUNTIME] = ()
    recompute: Annotated[Truth, RUNTIME] = False
    compile: Annotated[Truth, RUNTIME] = False
    profile: Annotated[Truth, RUNTIME] = False
    engine: Annotated[Literal["local", "ray", "slurm"], RUNTIME] = "local"
    address: Annotated[Text | None, RUNTIME] = None
    slurm: Annotated[Mapping[Text, SlurmValue], BeforeValidator(_slurm), RUNTIME] = Field(default_factory=dict)


class Transfer(Frozen):
    """Black-box attacks: adversarial images of the other architectures, trained with one defense.

    Attributes:
        substitutes: the substitutes' defense, by name; each must be in the matrix.
        attacks: the attacks that are transferred; None for all that use gradients or logits.
    """

    substitutes: Annotated[Text, LAYOUT] = "sat"
    attacks: Annotated[tuple[Any, ...] | None, LAYOUT] = None


Precision = Literal["fp32", "tf32", "bf16"]
Many = Annotated[tuple[Any, ...], BeforeValidator(_many), LAYOUT]


class MatrixFile(Frozen):
    """A matrix as it stands in a file; see `Matrix` for its meaning.

    A key at the top level that begins with `x-` is ignored: such keys hold YAML anchors. All paths (of weights, label
    maps, conventions, folders and so on) are relative to the working directory, but those of plugins to the file.

    Attributes:
        name: name of the matrix, of letters, digits, ".", "_" and "-"; by default that of its file.
        title: head of its report.
        plugins: files of Python code and names of modules whose components may stand here.
        datasets: datasets, each a name or a name with options; `dataset` for one.
        models: architectures.
        defenses: defenses; one written as a mapping may carry its own `recipe`, laid over the common one.
        seeds: seeds of training; every network is trained once for each.
        networks: networks from elsewhere (see `ExternalNetwork`); with them, models and defenses may be left out.
        attacks: attacks; one whose `eps`, or whose option of fixed choices, is a list or "all" stands for one each.
        white_box: attack every network itself.
        transfer: black-box attacks, or None.
        worst_of: sets of attacks whose worst case is reported, by the name of the column. "transfer" among them stands
            for all attacks on a network that were made on another one.
        recipe: how networks are trained.
        protocol: how images are attacked and scored.
        split: the split that is scored.
        limit: number of its first images that are scored; None for all.
        attack_seed: seed of the attacks' randomness.
        precision: of networks under attack and evaluation: "fp32"; "tf32", which a GPU rounds products to; or "bf16",
            autocast. Numbers of different precision are never in one table.
        labels: what reports call components and networks, such as `{pspnet: PSPNet, "bim(steps=6)": BIM-6}`; by
            default the published spelling.
        report: what its report shows beside mIoU.
        runtime: how and where cells run.
    """

    name: Annotated[Annotated[str, BeforeValidator(matrix_name)] | None, LAYOUT] = None
    title: Annotated[Text | None, LAYOUT] = None
    plugins: Annotated[tuple[Text, ...], BeforeValidator(_many), LAYOUT] = ()
    datasets: Many = ("digits",)
    models: Many = ("pspnet",)
    defenses: Many = ("none",)
    seeds: Annotated[tuple[Whole, ...], BeforeValidator(_many), LAYOUT] = (0,)
    networks: Many = ()
    attacks: Many = ("clean", "bim")
    white_box: Annotated[Truth, LAYOUT] = True
    transfer: Annotated[Transfer | None, LAYOUT] = None
    worst_of: Annotated[Mapping[Text, tuple[Text, ...]], LAYOUT] = Field(default_factory=dict)
    recipe: Annotated[Mapping[str, Any], IDENTITY] = Field(default_factory=dict)
    protocol: Annotated[Any, IDENTITY] = "whole-v1"
    split: Annotated[Text, IDENTITY] = "val"
    limit: Annotated[Whole | None, IDENTITY] = Field(default=None, ge=1)
    attack_seed: Annotated[Whole, IDENTITY] = Field(default=0, ge=0)
    precision: Annotated[Precision, IDENTITY] = "fp32"
    labels: Annotated[Mapping[Text, Text], LAYOUT] = Field(default_factory=dict)
    report: Annotated[Report, LAYOUT] = Report()
    runtime: Annotated[Runtime, RUNTIME] = Runtime()


class Trained(Frozen):
    """A defense with the recipe that trains it."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    defense: Bound
    recipe: Recipe


class Matrix(Frozen):
    """A validated matrix: components bound to their options; see `MatrixFile` for the fields' meaning."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str
    title: str
    datasets: tuple[Bound, ...]
    models: tuple[Bound, ...]
    defenses: tuple[Trained, ...]
    seeds: tuple[int, ...]
    networks: tuple[ExternalNetwork, ...]
    attacks: tuple[Bound, ...]
    white_box: bool
    substitutes: str | None
    transfer_attacks: tuple[Bound, ...]
    worst_of: Mapping[str, tuple[str, ...]]
    protocol: Bound
    split: str
    limit: int | None
    attack_seed: int
    precision: Precision
    labels: Mapping[str, str]
    report: Report
    runtime: Runtime
