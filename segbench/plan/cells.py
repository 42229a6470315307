"""Work as data: trainings, networks from elsewhere and evaluations, each with a digest of what can change its numbers.

A cell carries its components bound to their options: they are looked up once, when the matrix is read.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch

from segbench.attacks.base import Attack, ThreatModel
from segbench.components import catalog, specs
from segbench.components.specs import Bound
from segbench.config.matrix import Precision
from segbench.config.network import ExternalNetwork, NetworkAccess
from segbench.plan.access import allows, refusal
from segbench.plan.identity import component_identity, digest, plain, shared_by
from segbench.plan.traits import Trait
from segbench.protocols.void import BACKGROUND, background
from segbench.reports import records
from segbench.reports.records import Component

TRAINING_VERSION = 1
"""Raised when training gives other weights from the same cell."""
EXTERNAL_VERSION = 2
"""Raised when a network from elsewhere gives other logits from the same cell."""
EVALUATION_VERSION = 1
"""Raised when evaluation gives other numbers from the same cell."""


@dataclass(frozen=True)
class Data:
    """A dataset as cells see it.

    Attributes:
        dataset: the dataset and its options.
        fingerprint: hash of its files; "unknown" where they are not there.
        warnings: what is odd about its files, as sentences.
        classes: names of its classes; empty where it was not opened.
    """

    dataset: Bound
    fingerprint: str
    warnings: tuple[str, ...] = field(default=(), compare=False)
    classes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def identity(self) -> dict[str, Any]:
        """What of it can change numbers."""
        return {**component_identity(self.dataset), "fingerprint": self.fingerprint}

    def open(self, root: Path | None = None) -> Any:
        """Open the dataset; `root` is its folder, for those that have files."""
        return self.dataset.make(root=root) if needs_root(self.dataset.component) else self.dataset.make()


@dataclass(frozen=True)
class TrainCell:
    """One network to train.

    Attributes:
        data: what it is trained on.
        model: architecture.
        defense: training method.
        recipe: the resolved recipe, as plain data.
        seed: seed of initial weights, order, augmentation and attacks.
        files: hashes of the files that options of `model` and `defense` name, by their paths.
    """

    data: Data
    model: Bound
    defense: Bound
    recipe: Mapping[str, Any]
    seed: int
    files: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Identity of the training."""
        return digest(
            {
                "kind": "train",
                "version": TRAINING_VERSION,
                "data": self.data.identity,
                "model": component_identity(self.model, self.files),
                "defense": component_identity(self.defense, self.files),
                "recipe": dict(self.recipe),
                "seed": self.seed,
            }
        )

    @property
    def label(self) -> str:
        """The name in progress lines and errors."""
        return f"{self.model.short} {self.defense.short} seed {self.seed}"

    def network(self, weights_sha256: str | None = None) -> records.Network:
        """Return what a record says of this network."""
        return records.Network(
            model=self.model.identity,
            defense=self.defense.identity,
            recipe=self.recipe,
            seed=self.seed,
            digest=self.digest,
            weights_sha256=weights_sha256,
        )

    @cached_property
    def expected(self) -> records.Network:
        """What records say of it before its weights are known: many evaluations share it."""
        return self.network()

    def build(self, num_classes: int, ignore_index: int) -> Any:
        """Build the training network, with fresh weights from the global random state."""
        segmenter = self.model.make(num_classes=num_classes)
        return self.defense.make(segmenter=segmenter, aux_weight=self.recipe["aux_weight"], ignore_index=ignore_index)

    def deployed(self, num_classes: int, ignore_index: int) -> torch.nn.Module:
        """Build the network that is evaluated, for weights that are loaded into it next.

        The file of the encoder's initial weights is not looked for.
        """
        model = self.model.with_options(weights=None) if "weights" in self.model.options else self.model
        fresh = TrainCell(self.data, model, self.defense, self.recipe, self.seed)
        network: torch.nn.Module = fresh.build(num_classes, ignore_index).deploy()
        return network

    def to_plain(self) -> dict[str, Any]:
        """Return the cell as JSON can hold it."""
        return {
            "data": {
                "component": self.data.dataset.identity.model_dump(mode="json"),
                "fingerprint": self.data.fingerprint,
            },
            "model": self.model.identity.model_dump(mode="json"),
            "defense": self.defense.identity.model_dump(mode="json"),
            "recipe": dict(self.recipe),
            "seed": self.seed,
            "files": dict(self.files),
        }

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> TrainCell:
        """Return the cell that `to_plain` wrote.

        Raises:
            SegbenchError: a component is not in the catalog any more, in that version.
            KeyError, TypeError, ValueError: the content is of another form.
        """
        dataset, model, defense = (
            specs.stored(kind, Component.model_validate(own))
            for kind, own in (
                ("dataset", content["data"]["component"]),
                ("model", content["model"]),
                ("defense", content["defense"]),
            )
        )
        data = Data(dataset, str(content["data"]["fingerprint"]))
        return cls(data, model, defense, dict(content["recipe"]), int(content["seed"]), dict(content["files"]))


@dataclass(frozen=True)
class ExternalCell:
    """One network that was not trained here.

    Attributes:
        data: what it is evaluated on.
        external: where it comes from.
        identity: what it is: hashes of its code, files and weights; "unknown" before it was looked at.
        convention: the input that it expects, resolved, as plain data.
        traits: what it offers beside logits; see `segbench.plan.traits`.
        notes: what was chosen when it was loaded, as sentences.
        answers: logits at fixed places of the split's first image, by which it is known again; empty where they differ
            each time, and before it was looked at.
        access: what it gives.
        origin: what a record says of where it came from; None before it was looked at.
    """

    data: Data
    external: ExternalNetwork
    identity: Mapping[str, str]
    convention: Mapping[str, Any]
    traits: tuple[Trait, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)
    answers: tuple[float, ...] = field(default=(), compare=False)
    access: NetworkAccess = field(default="gradients", compare=False)
    origin: records.Origin | None = field(default=None, compare=False)

    @cached_property
    def digest(self) -> str:
        """Identity of the network, and of what records call it."""
        named = self.external.model_dump(
            mode="json", include={"name", "defense", "seed", "classes", "output", "binary"}
        )
        declared = {} if self.external.access is None else {"access": self.external.access}
        return digest(
            {
                "kind": "given",
                "version": EXTERNAL_VERSION,
                "data": self.data.identity,
                "identity": dict(self.identity),
                "convention": plain(self.convention),
                **named,
                **declared,
            }
        )

    @property
    def seed(self) -> int:
        """The number that tells runs of one training apart."""
        return self.external.seed

    @property
    def label(self) -> str:
        """The name in progress lines and errors."""
        return f"{self.external.name} {self.external.defense} seed {self.seed}"

    def network(self, weights_sha256: str | None = None) -> records.Network:
        """Return what a record says of this network."""
        name, defense = self.external.name, self.external.defense
        return records.Network(
            model=Component(name=name, short=name),
            defense=Component(name=defense, short=defense),
            seed=self.seed,
            digest=self.digest,
            weights_sha256=weights_sha256,
            access=self.access,
            origin=self.origin,
        )

    @cached_property
    def expected(self) -> records.Network:
        """What records say of it before its weights are known: many evaluations share it."""
        return self.network()


NetworkCell = TrainCell | ExternalCell


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


def needs_root(component: catalog.Definition) -> bool:
    """Whether a dataset reads files from a folder that the user names."""
    return "root" in inspect.signature(component.object).parameters
