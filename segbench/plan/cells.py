"""Work as data, each piece with a digest of all that can change its numbers: networks (trained, given), evaluations."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from segbench.attacks.base import BoundAttack, ThreatModel
from segbench.components import catalog, specs
from segbench.components.specs import Bound
from segbench.config.network import ExternalNetwork
from segbench.model_zoo.base import Segmenter
from segbench.plan.identity import component_identity, digest, plain
from segbench.plan.traits import Trait
from segbench.reports import records
from segbench.reports.records import Component

TRAINING_VERSION = 1
"""Raised when training gives other weights from the same cell."""
EXTERNAL_VERSION = 1
"""Raised when a given network gives other logits from the same cell."""
EVALUATION_VERSION = 1
"""Raised when evaluation gives other numbers from the same cell."""


class Data(BaseModel):
    """A dataset as cells see it.

    Attributes:
        component: the dataset and its options.
        fingerprint: hash of its files; "unknown" where they are not there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    component: Component
    fingerprint: str


class TrainCell(BaseModel):
    """One network to train.

    Attributes:
        data: what it is trained on.
        model: architecture.
        defense: training method.
        recipe: the resolved recipe, as plain data.
        seed: seed of initial weights, order, augmentation and attacks.
        files: hashes of the files that options of `model` and `defense` name, by their paths.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Data
    model: Component
    defense: Component
    recipe: Mapping[str, Any]
    seed: int
    files: Mapping[str, str] = Field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Identity of the training."""
        return digest(
            {
                "kind": "train",
                "version": TRAINING_VERSION,
                "data": _data_identity(self.data),
                "model": component_identity(self.model, self.files),
                "defense": component_identity(self.defense, self.files),
                "recipe": dict(self.recipe),
                "seed": self.seed,
            }
        )

    @property
    def label(self) -> str:
        """What progress lines and errors call it."""
        return f"{self.model.short} {self.defense.short} seed {self.seed}"

    def network(self, weights_sha256: str | None = None) -> records.Network:
        """Return what a record says of this network."""
        return records.Network(
            model=self.model,
            defense=self.defense,
            recipe=self.recipe,
            seed=self.seed,
            digest=self.digest,
            weights_sha256=weights_sha256,
        )


class ExternalCell(BaseModel):
    """One network that was not trained here.

    Attributes:
        data: what it is evaluated on.
        external: where it comes from.
        identity: what it is: hashes of its code, file and weights; "unknown" before it was looked at.
        convention: the input that it expects, resolved, as plain data.
        traits: what it offers beside logits; see `segbench.plan.traits`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Data
    external: ExternalNetwork
    identity: Mapping[str, str]
    convention: Mapping[str, Any]
    traits: tuple[Trait, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Identity of the network, and of what records call it."""
        named = self.external.model_dump(mode="json", include={"name", "defense", "seed", "classes"})
        return digest(
            {
                "kind": "given",
                "version": EXTERNAL_VERSION,
                "data": _data_identity(self.data),
                "identity": dict(self.identity),
                "convention": plain(self.convention),
                **named,
            }
        )

    @property
    def model(self) -> Component:
        """What stands for its architecture: its name."""
        return Component(name=self.external.name, short=self.external.name)

    @property
    def defense(self) -> Component:
        """What stands for its training, in the user's words."""
        return Component(name=self.external.defense, short=self.external.defense)

    @property
    def seed(self) -> int:
        """Tells runs of one training apart."""
        return self.external.seed

    @property
    def label(self) -> str:
        """What progress lines and errors call it."""
        return f"{self.external.name} {self.external.defense} seed {self.seed}"

    def network(self, weights_sha256: str | None = None) -> records.Network:
        """Return what a record says of this network."""
        return records.Network(
            model=self.model,
            defense=self.defense,
            seed=self.seed,
            digest=self.digest,
            weights_sha256=weights_sha256,
        )


NetworkCell = TrainCell | ExternalCell


class EvalCell(BaseModel):
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
        files: hashes of the files that options of `attack` name, by their paths.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: NetworkCell
    source: NetworkCell
    attack: Component
    protocol: Component
    split: str
    limit: int | None
    seed: int
    adaptive: bool | None = None
    certified: bool = False
    dynamic: bool = False
    files: Mapping[str, str] = Field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Identity of the evaluation."""
        special = {"oblivious": self.oblivious, "certified": self.certified, "dynamic": self.dynamic}
        return digest(
            {
                "kind": "eval",
                "version": EVALUATION_VERSION,
                "target": self.target.digest,
                "source": self.source.digest,
                "attack": component_identity(self.attack, self.files),
                "protocol": component_identity(self.protocol),
                "split": self.split,
                "limit": self.limit,
                "seed": self.seed,
                **{name: True for name, holds in special.items() if holds},
            }
        )

    @property
    def oblivious(self) -> bool:
        """Whether the attack is made on the network without its defense."""
        return self.adaptive is False

    @property
    def label(self) -> str:
        """What progress lines and errors call it."""
        source = "" if self.source == self.target else f" from {self.source.label}"
        return f"{self.attack.short}{', oblivious,' if self.oblivious else ''} on {self.target.label}{source}"

    @property
    def setting(self) -> records.Setting:
        """Clean, white-box or black-box."""
        if self.source.digest != self.target.digest:
            return "black-box"
        return "clean" if self.attack.name == "clean" else "white-box"

    def expected(self) -> records.Record:
        """Return the record of this evaluation before it has been done."""
        threat = threat_of(self.attack)
        protocol = revive("protocol", self.protocol).make()
        dataset = self.target.data
        return records.Record(
            digest=self.digest,
            status="missing",
            setting=self.setting,
            dataset=dataset.component,
            data_fingerprint=dataset.fingerprint,
            classes=(),
            split=self.split,
            limit=self.limit,
            protocol=self.protocol,
            absent=protocol.absent,
            target=self.target.network(),
            source=self.source.network(),
            attack=self.attack,
            threat=records.RecordedThreat(norm=threat.norm, eps=threat.eps, access=threat.access),
            adaptive=self.adaptive,
            dynamic=self.dynamic,
            seed=self.seed,
        )


def revive(kind: str, component: Component) -> Bound:
    """Bind a stored component to today's catalog again.

    Raises:
        SegbenchError: it is not there any more, in that version, or does not take those options.
    """
    return specs.bound(kind, component_identity(component))


def attack_of(component: Component) -> BoundAttack:
    """Return the attack that a stored component means."""
    return revive("attack", component).attack()


def threat_of(component: Component) -> ThreatModel:
    """Return the threat model of a stored attack."""
    return attack_of(component).threat


def build_defense(cell: TrainCell, num_classes: int, ignore_index: int) -> Any:
    """Build the training network of a cell, with fresh weights from the global random state."""
    segmenter: Segmenter = revive("model", cell.model).make(num_classes=num_classes)
    return revive("defense", cell.defense).make(
        segmenter=segmenter, aux_weight=cell.recipe["aux_weight"], ignore_index=ignore_index
    )


def open_dataset(component: Component, root: Any = None) -> Any:
    """Open a stored dataset; `root` is its folder, for those that have files."""
    bound = revive("dataset", component)
    return bound.make(root=root) if needs_root(bound.component) else bound.make()


def needs_root(component: catalog.Definition) -> bool:
    """Whether a dataset reads files from a folder that the user names."""
    return "root" in inspect.signature(component.object).parameters


def _data_identity(data: Data) -> dict[str, Any]:
    return {**component_identity(data.component), "fingerprint": data.fingerprint}
