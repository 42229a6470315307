"""Networks as data: trainings and networks from elsewhere, each with a digest of what can change its numbers.

A cell carries its components bound to their options: they are looked up once, when the matrix is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from segbench.components import specs
from segbench.components.specs import Bound
from segbench.config.network import ExternalNetwork, NetworkAccess
from segbench.plan.data import Data
from segbench.plan.identity import component_identity, digest, plain
from segbench.plan.traits import Trait, defense_traits
from segbench.reports import records
from segbench.reports.records import Component

TRAINING_VERSION = 1
"""Raised when training gives other weights from the same cell."""
EXTERNAL_VERSION = 2
"""Raised when a network from elsewhere gives other logits from the same cell."""


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

    @cached_property
    def traits(self) -> tuple[Trait, ...]:
        """What it offers beside logits; see `segbench.plan.traits`."""
        return defense_traits(self.defense)

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
