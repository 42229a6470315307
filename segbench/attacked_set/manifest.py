"""What an attacked set is: its conditions and images, as the manifest beside the files says it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from segbench.errors import SegbenchError, StoreError
from segbench.files import is_file, read_sealed, seal_of, write_sealed
from segbench.plan.identity import digest
from segbench.reports.names import is_name
from segbench.reports.records import Component, Frozen, Network, RecordedThreat

MANIFEST = "manifest.json"
PLACE = "attacked-set"
"""What the manifest is sealed for."""
CLEAN = "clean"
_FILE = re.compile(r"\d{5,9}(_\d{1,6})?\.png")


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError("not a name of a folder")
    return text


def _file(text: str) -> str:
    if not _FILE.fullmatch(text):
        raise ValueError("not a name of an image file")
    return text


class Condition(Frozen):
    """One way in which the images were changed.

    Attributes:
        attack: the attack; "clean" for the images as they are.
        threat: its threat model.
        source: the substitute that it was made on; None for clean images.
        budget_used: largest distance of a written image from its written clean image, in the units of `threat.eps`.
    """

    attack: Component
    threat: RecordedThreat
    source: Network | None
    budget_used: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None


class ImageFiles(Frozen):
    """One image: a file for each piece that the protocol attacks; every condition has files of these names.

    Attributes:
        name: its name in the dataset.
        files: names of its files.
        height: of each, in pixels.
        width: of each.
    """

    name: str
    files: tuple[Annotated[str, AfterValidator(_file)], ...]
    height: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]


class AttackedSet(Frozen):
    """An attacked copy of a split; it holds no labels.

    Attributes:
        version: of this form.
        dataset: the dataset and its options.
        fingerprint: hash of its files.
        classes: names of its classes; a label is a place in this list.
        split: the split.
        limit: number of its first images; None for all.
        protocol: how images are cut, predicted and scored.
        seed: of the attacks' randomness.
        conditions: by the name of their folder.
        images: in the order of the split.
        files: SHA-256 of every image file, by its path in the set.
    """

    version: Literal[1] = 1
    dataset: Component
    fingerprint: str
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    split: str
    limit: Annotated[int, Field(ge=1)] | None
    protocol: Component
    seed: Annotated[int, Field(ge=0)]
    conditions: Annotated[Mapping[Annotated[str, AfterValidator(_name)], Condition], Field(min_length=1)]
    images: Annotated[tuple[ImageFiles, ...], Field(min_length=1)]
    files: Mapping[str, str]

    @model_validator(mode="after")
    def _whole(self) -> AttackedSet:
        if self.limit is not None and len(self.images) > self.limit:
            raise ValueError("more images than its limit")
        return self

    @property
    def digest(self) -> str:
        """Identity of the set: its images and all that is said of them."""
        return digest(self.model_dump(mode="json"))


def read_set(folder: Path) -> AttackedSet:
    """Read the manifest of an attacked set; its images are not looked at.

    Raises:
        SegbenchError: there is no set, or its manifest is damaged.
    """
    path = folder / MANIFEST
    if not is_file(path):
        raise SegbenchError(f"{folder}: no attacked set, it has no {MANIFEST}; make one with attacked-set export")
    try:
        content = read_sealed(path, PLACE)
        if content is None or seal_of(path) is None:
            raise SegbenchError(f"{path}: carries no checksum; take the manifest that attacked-set export wrote")
        return AttackedSet.model_validate(content)
    except StoreError as error:
        raise SegbenchError(f"{path}: damaged; take the manifest that attacked-set export wrote") from error
    except ValidationError as error:
        first = error.errors()[0]
        what = ": ".join([*filter(None, [".".join(map(str, first["loc"]))]), first["msg"].lower()])
        raise SegbenchError(f"{path}: not the manifest of an attacked set ({what})") from error


def write_set(folder: Path, made: AttackedSet) -> None:
    """Write the manifest of an attacked set, which makes it complete."""
    write_sealed(folder / MANIFEST, made.model_dump(mode="json"), PLACE)
