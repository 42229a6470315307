"""Entries of a leaderboard: results of a network under one threat model, one JSON file per entry."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from segbench.reports.names import Digest, ZooName
from segbench.reports.numbers import in_255ths
from segbench.reports.records import Component, Frozen

Percent = Annotated[float, Field(ge=0, le=100)]
Real = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Url = Annotated[str, StringConstraints(max_length=2000, pattern=r"^https?://[^\s\x00-\x20\x7f-\x9f<>\"]+$")]
MatrixName = Annotated[str, StringConstraints(max_length=100, pattern=r"^[a-z][a-z0-9-]*$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\n\r]*$")]


class ScoredData(Frozen):
    """The images that were attacked and scored.

    Attributes:
        dataset: the dataset and its options.
        split: the split.
        limit: number of images to score; None for all.
        images: number of images scored; None if it is not known.
        fingerprint: hash of the dataset's files; None if it is not known.
        classes: class names; empty if they are not known.
    """

    dataset: Component
    split: Line
    limit: int | None = Field(default=None, ge=1)
    images: int | None = Field(default=None, ge=1)
    fingerprint: str | None = None
    classes: tuple[Line, ...] = ()


class Procedure(Frozen):
    """The protocol by which images were attacked and scored.

    Attributes:
        component: the protocol and its options.
        absent: rule for mIoU: a class in neither truth nor prediction is left out ("skip") or counts 0 ("zero").
    """

    component: Component
    absent: Literal["skip", "zero"]


class BoardThreat(Frozen):
    """The threat model of a board.

    Attributes:
        setting: "white-box" (the attacker knows the network), "black-box" (images are made on another network) or
            "corruptions".
        norm: norm of the change of an image; None for corruptions.
        eps: bound of that norm in [0, 1] units; None for corruptions.
    """

    setting: Literal["white-box", "black-box", "corruptions"]
    norm: Literal["linf", "l2", "rms"] | None = None
    eps: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Weights(Frozen):
    """One trained network.

    Attributes:
        seed: seed of its training.
        sha256: hash of the weights.
        url: address of the weights.
        zoo: name of the network in a zoo.
    """

    seed: int
    sha256: Sha256
    url: Url | None = None
    zoo: ZooName | None = None


class Model(Frozen):
    """A network, or several networks that differ only in their seeds.

    Attributes:
        name: its name on the leaderboard.
        architecture: its architecture.
        defense: the defense that trained it or wraps it.
        recipe: all values of the training recipe; empty if they are not known.
        parameters: number of parameters of the deployed network; None if it is not known.
        extra_data: training data besides the dataset's training split; "none" if there are none.
        dynamic: the network changes with the images that it sees.
        weights: the networks, one per seed; empty if only numbers are known.
    """

    name: Line
    architecture: Component
    defense: Component
    recipe: Mapping[str, Any] = Field(default_factory=dict)
    parameters: int | None = Field(default=None, ge=1)
    extra_data: Line = "none"
    dynamic: bool = False
    weights: tuple[Weights, ...] = ()


class Run(Frozen):
    """The scores of one network, in per cent.

    Attributes:
        seed: seed of its training.
        source_seed: seed of the network that the attack was made on, in a black-box setting.
        miou: mean IoU.
        miou_low: lower end of the 95 % bootstrap interval of miou over images.
        miou_high: upper end of that interval.
        macc: mean over classes of the share of their pixels that are predicted correctly.
        aacc: share of valid pixels that are predicted correctly.
        class_iou: IoU per class; None for a class in neither truth nor prediction.
        record: digest of the record, which holds all other values.
        metrics: every standard metric by its name, as in records; empty in entries of earlier versions.
        extras: other numbers that this attack or defense reports.
    """

    seed: int
    source_seed: int | None = None
    miou: Percent
    miou_low: Percent
    miou_high: Percent
    macc: Percent
    aacc: Percent
    class_iou: tuple[Percent | None, ...]
    record: Digest
    metrics: Mapping[Line, Real | None] = Field(default_factory=dict)
    extras: Mapping[str, Real] = Field(default_factory=dict)


class EntryResult(Frozen):
    """The mIoU under one attack, or on clean images.

    Attributes:
        attack: the attack; None for clean images.
        source: the network that the attack was made on, in a black-box setting.
        adaptive: for a network with a defense at inference: True if the attack was made through that defense, False if
            it was made on the network without it. None for all other networks.
        strong: the attack is strong enough to rank by: an ensemble of attacks on several losses.
        mean: mean mIoU over the runs, in per cent.
        std: sample standard deviation (n - 1) over the runs; None for fewer than two runs.
        low: lower end of the 95 % interval of the mean; None if it is not known.
        high: upper end of that interval.
        runs: the single runs; empty if only mean and deviation are known.
        flags: sanity checks that at least one run failed.
        note: a remark on the value; may be empty.
    """

    attack: Component | None
    source: Line | None = None
    adaptive: bool | None = None
    strong: bool = False
    mean: Percent
    std: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    low: Percent | None = None
    high: Percent | None = None
    runs: tuple[Run, ...] = ()
    flags: tuple[str, ...] = ()
    note: str = ""


class Publication(Frozen):
    """The publication that numbers come from.

    Attributes:
        citation: authors, year and venue.
        url: address of the publication.
        where: table, figure or section.
    """

    citation: Line
    url: Url
    where: Line


class Links(Frozen):
    """Links to more information.

    Attributes:
        paper: address of the paper of the method.
        code: address of the code of the method.
        weights: address at which its authors offer the weights, where these are not listed one by one.
    """

    paper: Url | None = None
    code: Url | None = None
    weights: Url | None = None


class Verification(Frozen):
    """The outcome of a review, in which the sampled images of a submission are predicted again.

    Attributes:
        date: date of the review.
        software: versions of segbench and torch, and the device.
        bundle_sha256: hash of the bundle.
        images: number of images, clean and attacked, that were predicted again.
        disagreement: largest share of the pixels of an image whose prediction changed.
    """

    date: datetime.date
    software: Line
    bundle_sha256: Sha256
    images: int = Field(ge=1)
    disagreement: Share


class Entry(Frozen):
    """The results of a network on one dataset, by one protocol, under one threat model.

    Attributes:
        status: "reported" by its authors, or "verified": a reviewer predicted a sample again from the weights.
        added: date on which the entry was added.
        data: the scored images.
        protocol: the protocol.
        threat: the threat model.
        model: the network.
        results: the result on clean images, then those under attack.
        source: the publication of the numbers, if there is one.
        links: links to more information.
        matrix: name of the matrix of segbench that has the network, the attacks and the protocol of the publication.
        licence: licence of the weights, as an SPDX identifier if there is one.
        provenance: software versions and hardware.
        verification: the outcome of the review; only if the status is "verified".
        notes: remarks on the entry; may be empty.
    """

    schema_version: Literal[1] = 1
    status: Literal["reported", "verified"]
    added: datetime.date
    data: ScoredData
    protocol: Procedure
    threat: BoardThreat
    model: Model
    results: tuple[EntryResult, ...] = Field(min_length=1)
    source: Publication | None = None
    links: Links = Links()
    matrix: MatrixName | None = None
    licence: Line | None = None
    provenance: Mapping[str, Any] = Field(default_factory=dict)
    verification: Verification | None = None
    notes: str = ""

    @property
    def clean(self) -> EntryResult | None:
        """The result on clean images."""
        return next((result for result in self.results if result.attack is None), None)

    @property
    def attacked(self) -> tuple[EntryResult, ...]:
        """The results under attack that count for the rank; oblivious attacks do not."""
        return tuple(result for result in self.results if result.attack is not None and result.adaptive is not False)

    @property
    def worst(self) -> EntryResult | None:
        """The result of lowest mIoU among `attacked`; None without any."""
        return min(self.attacked, key=lambda result: result.mean, default=None)

    @property
    def unranked(self) -> str:
        """A sentence on why the entry is not ranked; empty if it is ranked."""
        if not self.attacked:
            return "No result under an attack that counts."
        if self.model.dynamic:
            return "It changes with the images that it sees, so that its numbers depend on their order."
        if self.threat.setting == "white-box" and not any(result.strong for result in self.attacked):
            return "No strong attack (an ensemble, such as SEA) is among its results."
        return ""

    @property
    def board(self) -> str:
        """The folder of the entry's board. Only entries of one board are compared with each other."""
        subset = self.data.split if self.data.limit is None else f"{self.data.split}-first-{self.data.limit}"
        parts = (f"{self.data.dataset.short}-{subset}", self.protocol.component.short, threat_name(self.threat))
        return "/".join(slug(part) for part in parts)

    @property
    def path(self) -> str:
        """The path of the entry's file in the folder of all entries."""
        return f"{self.board}/{slug(self.model.name)}.json"


def threat_name(threat: BoardThreat) -> str:
    """Return a threat model in a few words: "white-box linf 8/255"."""
    if threat.norm is None or threat.eps is None:
        return threat.setting
    fraction = in_255ths(threat.eps) if threat.eps < 1 else None
    return f"{threat.setting} {threat.norm} {fraction or f'{threat.eps:g}'}"


def slug(text: str) -> str:
    """Return a text as a file name: lower-case letters, digits, dots and single hyphens, at most 120 characters."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower())[:120].strip("-.") or "unnamed"
