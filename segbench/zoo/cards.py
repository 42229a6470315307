"""Names and cards of networks in a zoo. A card holds what is needed to build a network, and its measured numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import Field, ValidationError

from segbench.errors import SegbenchError
from segbench.reports.names import ZOO_NAME
from segbench.reports.records import Component, Frozen, Record

CARD_VERSION = 1
FORM = "dataset/architecture/defense/seed@version"
MOST_CLASSES = 10_000
"""Classes that a network of a zoo may predict; a card of more is a mistake, or wants the memory."""
LARGEST_CARD = 4 << 20
LARGEST_WEIGHTS = 64 << 30
"""Bytes of the two files of a network."""


class ZooError(SegbenchError):
    """A network of a zoo is missing, damaged or cannot be added."""


class Name(NamedTuple):
    """The name of a network in a zoo: dataset/architecture/defense/seed@version.

    Attributes:
        stem: the name without its version.
        version: 1 or more; None for the latest.
    """

    stem: str
    version: int | None

    def __str__(self) -> str:
        """Return the name as a user writes it."""
        return self.stem if self.version is None else f"{self.stem}@{self.version}"

    @property
    def seed(self) -> int:
        """The seed of the network's training."""
        return int(self.stem.rpartition("/")[2])

    @property
    def defense(self) -> str:
        """The defense that trained the network."""
        return self.stem.split("/")[2]


class Number(Frozen):
    """One measured result.

    Attributes:
        attack: the attack, as a short string.
        setting: "clean" or "white-box".
        protocol: the protocol, as a short string.
        split: the split that was scored.
        n_images: number of its images.
        miou: mean IoU in per cent.
        aacc: pixel accuracy in per cent.
        record: digest of the record, which holds all other values.
    """

    attack: str
    setting: str
    protocol: str
    split: str
    n_images: int
    miou: float
    aacc: float
    record: str


class Card(Frozen):
    """The card of a network.

    Attributes:
        name: its name in the zoo.
        model: its architecture, with all options.
        defense: the defense that trained it, with all options.
        recipe: the training recipe; empty if it is not known.
        dataset: the dataset that it was trained on; None if it is not known.
        data_fingerprint: hash of the dataset's files.
        num_classes: number of classes that it predicts.
        classes: their names; empty if they are not known.
        sha256: hash of the weights file.
        size: size of the weights file in bytes.
        training: digest of its training; None for weights that segbench did not train.
        licence: SPDX identifier of the weights' licence, or "unknown".
        source: origin of weights that segbench did not train.
        numbers: its measured results.
        provenance: software versions and device of its training.
    """

    schema_version: int = CARD_VERSION
    name: str
    model: Component
    defense: Component
    recipe: Mapping[str, Any] = Field(default_factory=dict)
    dataset: Component | None = None
    data_fingerprint: str | None = None
    num_classes: int = Field(ge=1, le=MOST_CLASSES)
    classes: tuple[str, ...] = ()
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0, le=LARGEST_WEIGHTS)
    training: str | None = None
    licence: str = "unknown"
    source: str | None = None
    numbers: tuple[Number, ...] = ()
    provenance: Mapping[str, Any] = Field(default_factory=dict)


def is_name(text: str) -> bool:
    """Return whether a text has the form of a name in a zoo."""
    return ZOO_NAME.fullmatch(text) is not None


def parse_name(text: str) -> Name:
    """Read a name.

    Args:
        text: dataset/architecture/defense/seed, optionally with @version.

    Raises:
        ZooError: the text has another form.
    """
    match = ZOO_NAME.fullmatch(text)
    if match is None:
        raise ZooError(f"{text!r} is not a name of a network; expected {FORM}, for instance digits/pspnet-tiny/sat/0@1")
    return Name(match["stem"], int(match["version"]) if match["version"] else None)


def parse_card(content: Mapping[str, Any], name: Name, where: str) -> Card:
    """Check a card that was read from a zoo.

    Args:
        content: the JSON object.
        name: the name of its folder.
        where: name of the file, which an error begins with.

    Raises:
        ZooError: the card has another version, is not valid or belongs to another network.
    """
    if content.get("schema_version") != CARD_VERSION:
        raise ZooError(f"{where}: card of version {content.get('schema_version')}, this segbench reads {CARD_VERSION}")
    try:
        card = Card.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ZooError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from error
    if card.name != str(name):
        raise ZooError(f"{where}: this is the card of {card.name}; move it to its own folder")
    return card


def numbers(records: Sequence[Record]) -> tuple[Number, ...]:
    """Return the results of finished clean and white-box records for a card; oblivious attacks are left out."""
    return tuple(
        Number(
            attack=record.attack.short,
            setting=record.setting,
            protocol=record.protocol.short,
            split=record.split,
            n_images=record.n_images,
            miou=round(record.scores.miou, 2),
            aacc=round(record.scores.aacc, 2),
            record=record.digest,
        )
        for record in records
        if record.scores is not None
        and record.n_images is not None
        and record.setting != "black-box"
        and not record.oblivious
    )
