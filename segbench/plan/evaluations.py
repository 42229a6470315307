"""Evaluations as data: a network under an attack, with a digest of what can change its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from segbench.attacks.base import Attack, ThreatModel
from segbench.components.specs import Bound
from segbench.config.matrix import Precision
from segbench.plan.access import allows, refusal
from segbench.plan.identity import component_identity, shared_by
from segbench.plan.networks import ExternalCell, NetworkCell, TrainCell
from segbench.protocols.void import BACKGROUND, background
from segbench.reports import records

EVALUATION_VERSION = 1
"""Raised when evaluation gives other numbers from the same cell."""


@dataclass(frozen=True)
class EvalCell:
    """One target network under an attack made on a source network.

    Attributes:
        target: the network that is scored.
        source: the network that the attack uses; the target itself unless this is a transfer.
        attack: the attack.
        protocol: how images are attacked and scored.
        split: the split that is scored.
        limit: number of its first images; None for all.
        seed: seed of the attack's randomness.
        adaptive: where the target has a defense at inference, whether the attack is made through it or, oblivious, on
            the network without it; None where there is no such difference.
        certified: the target's certificates are scored too.
        dynamic: the target changes with the images that it sees, which come one by one, in order.
        precision: of the networks' passes.
        files: hashes of the files that options of `attack` name, by their paths.
    """

    target: NetworkCell
    source: NetworkCell
    attack: Bound
    protocol: Bound
    split: str
    limit: int | None
    seed: int
    adaptive: bool | None = None
    certified: bool = False
    dynamic: bool = False
    precision: Precision = "fp32"
    files: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Identity of the evaluation."""
        parts = ((own, own.component.source, own.component.object) for own in (self.attack, self.protocol))
        key = (
            *(*parts, tuple(self.files.items()), self.target.data.classes),
            *(self.split, self.limit, self.seed, self.precision),
            *(self.white, self.adaptive, self.certified, self.dynamic),
        )
        shared = shared_by(key, lambda: (self._shared(), ("target", "source")))
        return shared.digest(target=self.target.digest, source=self.source.digest)

    def _shared(self) -> dict[str, Any]:
        """Return what identifies the evaluation beside its networks."""
        special = {
            "oblivious": self.oblivious,
            "certified": self.certified,
            "dynamic": self.dynamic,
            "disturbed whole": self.disturbs_whole,
            "anticipating": self.anticipating,
            "without background": self.lacks_background,
        }
        return {
            "kind": "eval",
            "version": EVALUATION_VERSION,
            "attack": component_identity(self.attack, self.files),
            "protocol": component_identity(self.protocol),
            "split": self.split,
            "limit": self.limit,
            "seed": self.seed,
            **{name: True for name, holds in special.items() if holds},
            **({} if self.precision == "fp32" else {"precision": self.precision}),
        }

    @property
    def lacks_background(self) -> bool:
        """Whether void is left out although the protocol counts it as background: the dataset has no such class."""
        protocol, classes = self.protocol.make(), self.target.data.classes
        return bool(classes) and protocol.void == BACKGROUND and background(protocol, classes) is None

    @property
    def oblivious(self) -> bool:
        """Whether the attack is made on the network without its defense."""
        return self.adaptive is False

    @property
    def anticipating(self) -> bool:
        """Whether the attack is made on a dynamic network as it will stand when it has learned from the image."""
        if not self.dynamic or not self.white or self.oblivious:
            return False
        return isinstance(self.attack.component.object, Attack) and self.attack.attack().threat.access != "none"

    @property
    def disturbs_whole(self) -> bool:
        """Whether the images are disturbed as a whole before they are cut, for an attack that uses no network."""
        if self.attack.name == "clean" or not isinstance(self.attack.component.object, Attack):
            return False
        threat = self.attack.attack().threat
        return threat.access == "none" and threat.norm is None and self.protocol.make().scope == "crop"

    @property
    def white(self) -> bool:
        """Whether the attack is made on the network that is scored."""
        return self.source.digest == self.target.digest

    @property
    def label(self) -> str:
        """The name in progress lines and errors."""
        source = "" if self.white else f" from {self.source.label}"
        return f"{self.attack.short}{', oblivious,' if self.oblivious else ''} on {self.target.label}{source}"

    @property
    def setting(self) -> records.Setting:
        """Clean, white-box or black-box."""
        if not self.white:
            return "black-box"
        return "clean" if self.attack.name == "clean" else "white-box"

    @property
    def lacks(self) -> str | None:
        """Why the attack cannot be made on its source, as a sentence; None where it can."""
        if isinstance(self.source, TrainCell):
            return None
        given, needed = self.source.access, self.attack.attack().threat.access
        return None if allows(given, needed) else refusal(self.attack.short, needed, self.source.external.name, given)

    def expected(self) -> records.Record:
        """Return the record of this evaluation before it has been done, or of one that cannot be done."""
        threat = self.attack.attack().threat
        data = self.target.data
        return records.Record(
            digest=self.digest,
            status="missing" if self.lacks is None else "not applicable",
            error=self.lacks,
            setting=self.setting,
            dataset=data.dataset.identity,
            data_fingerprint=data.fingerprint,
            classes=(),
            split=self.split,
            limit=self.limit,
            protocol=self.protocol.identity,
            absent=self.protocol.make().absent,
            target=self.target.expected,
            source=self.source.expected,
            attack=self.attack.identity,
            threat=recorded_threat(threat),
            adaptive=self.adaptive,
            dynamic=self.dynamic,
            precision=self.precision,
            seed=self.seed,
            notes=self.notes,
            answers=self.target.answers if isinstance(self.target, ExternalCell) else (),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be known of the data and of networks from elsewhere, as sentences."""
        networks = {cell.digest: cell for cell in (self.target, self.source) if isinstance(cell, ExternalCell)}
        data = self.target.data
        of_data = [f"{data.dataset.short}: {warning}" for warning in data.warnings]
        if self.lacks_background:
            of_data.append(f"{data.dataset.short}: no class is {BACKGROUND}, so void is left out of losses and scores")
        return (*of_data, *(f"{cell.label}: {note}" for cell in networks.values() for note in cell.notes))


@cache
def recorded_threat(threat: ThreatModel) -> records.RecordedThreat:
    """Return what a record says of a threat model."""
    return records.RecordedThreat(
        norm=threat.norm, eps=threat.eps, access=threat.access, region=threat.region, area=threat.area
    )
