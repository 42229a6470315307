"""What a leaderboard knows of a network under one threat model: an entry, one JSON file each."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from segbench.reports.numbers import in_255ths
from segbench.reports.records import Component, Frozen

Percent = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s<>\"]+$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\n\r]*$")]


class ScoredData(Frozen):
    """What was attacked and scored.

    Attributes:
        dataset: the dataset and its options.
        split: the split.
        limit: number of images asked for, None for all.
        images: number of images scored, where it is known.
        fingerprint: hash of the files, where it is known.
        classes: class names, where they are known.
    """

    dataset: Component
    split: Line
    limit: int | None = Field(default=None, ge=1)
    images: int | None = Field(default=None, ge=1)
    fingerprint: str | None = None
    classes: tuple[Line, ...] = ()


class Procedure(Frozen):
    """How images were attacked and scored.

    Attributes:
        component: the protocol and its options.
        absent: what a class counts in mIoU that is neither in truth nor prediction, "skip" or "zero".
    """

    component: Component
    absent: Literal["skip", "zero"]


class BoardThreat(Frozen):
    """What the attacker may do.

    Attributes:
        setting: "white-box" (the network is known), "black-box" (images made on another network) or "corruptions".
        norm: what bounds the change of an image; None for corruptions.
        eps: the bound in [0, 1] units; None for corruptions.
    """

    setting: Literal["white-box", "black-box", "corruptions"]
    norm: Literal["linf", "l2", "rms"] | None = None
    eps: float | None = Field(default=None, gt=0)


class Weights(Frozen):
    """One trained network.

    Attributes:
        seed: seed of its training.
        sha256: hash of the weights.
        url: where to get them.
        zoo: its name in a zoo.
    """

    seed: int
    sha256: Sha256
    url: Url | None = None
    zoo: Line | None = None


class Model(Frozen):
    """A network, or several that differ in their seeds alone.

    Attributes:
        name: how the leaderboard calls it.
        architecture: its architecture.
        defense: how it was trained or wrapped.
        recipe: the training recipe, resolved; empty where it is not known.
        parameters: number of parameters when it is deployed, where it is known.
        extra_data: what it was trained on besides the dataset's training split, "none" if nothing.
        dynamic: it changes with the images that it sees.
        weights: the networks, one a seed; empty where only numbers are known.
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
    """What one network scored, in per cent.

    Attributes:
        seed: seed of its training.
        source_seed: seed of the network that the attack was made on, in a black-box setting.
        miou: mean IoU.
        miou_low: lower end of its 95 % bootstrap interval over images.
        miou_high: upper end of it.
        macc: mean over classes of the share of right pixels.
        aacc: share of right pixels.
        class_iou: IoU per class; None for a class in neither truth nor prediction.
        record: digest of the record that says everything else.
        extras: further numbers that this attack or defense reports.
    """

    seed: int
    source_seed: int | None = None
    miou: Percent
    miou_low: Percent
    miou_high: Percent
    macc: Percent
    aacc: Percent
    class_iou: tuple[Percent | None, ...]
    record: str
    extras: Mapping[str, float] = Field(default_factory=dict)


class EntryResult(Frozen):
    """mIoU under one attack, or on clean images.

    Attributes:
        attack: the attack; None for clean images.
        source: the network that the attack was made on, in a black-box setting.
        adaptive: where the network has a defense at inference, whether the attack was made through it.
        strong: the attack is held to be strong enough to rank by: an ensemble of attacks on several losses.
        mean: mean mIoU over the runs, in per cent.
        std: sample standard deviation (n - 1) over the runs; None for fewer than two.
        low: lower end of the mean's 95 % interval, where it is known.
        high: upper end of it.
        runs: the single runs; empty where only mean and deviation are known.
        flags: sanity checks that a run did not pass.
        note: what must be known of the value.
    """

    attack: Component | None
    source: Line | None = None
    adaptive: bool | None = None
    strong: bool = False
    mean: Percent
    std: float | None = Field(default=None, ge=0)
    low: Percent | None = None
    high: Percent | None = None
    runs: tuple[Run, ...] = ()
    flags: tuple[str, ...] = ()
    note: str = ""


class Publication(Frozen):
    """Where numbers were published.

    Attributes:
        citation: authors, year and venue.
        url: where to read it.
        where: table, figure or section.
    """

    citation: Line
    url: Url
    where: Line


class Links(Frozen):
    """Where to find more.

    Attributes:
        paper: the paper of the method.
        code: its code.
    """

    paper: Url | None = None
    code: Url | None = None


class Verification(Frozen):
    """What a reviewer found when scoring a submission's sample again.

    Attributes:
        date: when.
        software: version of segbench, and what it ran on.
        bundle_sha256: hash of the bundle.
        images: number of images, clean and attacked, that were predicted again.
        disagreement: largest share of an image's pixels that was predicted otherwise.
    """

    date: datetime.date
    software: Line
    bundle_sha256: Sha256
    images: int = Field(ge=1)
    disagreement: Share


class Entry(Frozen):
    """A network's results on one dataset, by one protocol, under one threat model.

    Attributes:
        status: "reported" by its authors, or "verified": a sample was predicted again from the weights.
        added: when it was entered.
        data: what was scored.
        protocol: how.
        threat: what the attacker may do.
        model: the network.
        results: clean images first, then the attacks.
        source: where the numbers were published, if they were.
        links: where to find more.
        licence: of the weights, an SPDX identifier where there is one.
        provenance: versions and hardware that the numbers were made with.
        verification: what a reviewer found; only where the status is "verified".
        notes: what must be known of the entry.
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
        """The results under attack that count for the rank: not those of attacks made around a defense."""
        return tuple(result for result in self.results if result.attack is not None and result.adaptive is not False)

    @property
    def worst(self) -> EntryResult | None:
        """The attacked result of least mIoU."""
        return min(self.attacked, key=lambda result: result.mean, default=None)

    @property
    def unranked(self) -> str:
        """Why it is not ranked, as a sentence; empty where it is."""
        if not self.attacked:
            return "No result under an attack that counts."
        if self.model.dynamic:
            return "It changes with the images that it sees, so that its numbers depend on their order."
        if self.threat.setting == "white-box" and not any(result.strong for result in self.attacked):
            return "No strong attack (an ensemble, such as SEA) is among its results."
        return ""

    @property
    def board(self) -> str:
        """Folder of its board: entries of one board, and no others, are compared with each other."""
        subset = self.data.split if self.data.limit is None else f"{self.data.split}-first-{self.data.limit}"
        parts = (f"{self.data.dataset.short}-{subset}", self.protocol.component.short, threat_name(self.threat))
        return "/".join(slug(part) for part in parts)

    @property
    def path(self) -> str:
        """Where it lies in a folder of entries."""
        return f"{self.board}/{slug(self.model.name)}.json"


def threat_name(threat: BoardThreat) -> str:
    """Return a threat model in a few words: "white-box linf 8/255"."""
    if threat.norm is None or threat.eps is None:
        return threat.setting
    fraction = in_255ths(threat.eps) if threat.eps < 1 else None
    return f"{threat.setting} {threat.norm} {fraction or f'{threat.eps:g}'}"


def slug(text: str) -> str:
    """Return text as a file's name: lower-case letters, digits, dots and single hyphens, at most 120 of them."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower())[:120].strip("-.") or "unnamed"
