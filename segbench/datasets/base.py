"""The contract of a dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from segbench.model_zoo.base import tagger

CONTEXT = ("root",)
"""Parameters that are not part of a dataset's identity: where its files lie. All others are options."""

VOID = 255
"""Label of the pixels of a mask that belong to no class: nothing learns from them, and nothing counts them."""

Size = tuple[int, int]
"""Height and width in pixels."""


class Sample(NamedTuple):
    """One image with its mask.

    Attributes:
        name: unique in its split.
        image: (3, H, W) uint8.
        mask: (H, W) uint8; labels 0..C-1, and `VOID`.
    """

    name: str
    image: Tensor
    mask: Tensor


class Split(Protocol):
    """A sequence of samples; reading one is thread-safe, has no randomness, and its tensors must not be written to."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Read one sample; a file that cannot be used is a `DataError` naming it."""
        ...


class Dataset(Protocol):
    """What a class tagged with `@dataset` offers.

    Attributes:
        classes: names of the labels 0..C-1.
        palette: a colour per class, (C, 3) in 0..255.
        ignore_index: label of void pixels: 255, whatever the files hold.
    """

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_index: int

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that are there; "train" is trained on, "val" is the default for evaluation."""
        ...

    def split(self, name: str) -> Split:
        """Return a split; an unknown name or a missing list is a `DataError`, a missing image shows when it is read."""
        ...

    def fingerprint(self, *, verify: bool = False) -> str:
        """Return a short hash of everything that the samples come from, and of the split of each.

        Args:
            verify: read all files, and trust nothing that is remembered of them.
        """
        ...


class Clip(NamedTuple):
    """Three frames of a video in a row, and the camera.

    Attributes:
        frames: (3, 3, H, W) float32 in [0, 1]: the frame before, the frame itself and the one after.
        intrinsics: camera matrix in pixels of these frames, (0, 0) the centre of the first pixel, (3, 3) float32.
    """

    frames: Tensor
    intrinsics: Tensor


class Clips(Protocol):
    """A sequence of clips; like a `Split`, reading one is thread-safe and has no randomness."""

    def __len__(self) -> int:
        """Return the number of clips."""
        ...

    def __getitem__(self, index: int) -> Clip:
        """Read one clip; a file that cannot be used is a `DataError` naming it."""
        ...


class DepthMaps(Protocol):
    """The depth of the images of a split, in their order, on their grid."""

    def __getitem__(self, index: int) -> Tensor:
        """Read the depth of one image, (H, W) float32 in metres, 0 where it is not known."""
        ...


@runtime_checkable
class OffersClips(Protocol):
    """A dataset that has unlabelled video beside its labelled images."""

    def clips(self, split: str) -> Clips:
        """Return the clips of a split; a `DataError` where files or the option that asks for them are missing."""
        ...


@runtime_checkable
class OffersDepth(Protocol):
    """A dataset that has the depth of its labelled images."""

    def depth(self, split: str) -> DepthMaps:
        """Return the depth of a split; a `DataError` where files or the option that asks for them are missing."""
        ...


@runtime_checkable
class OffersWarnings(Protocol):
    """A dataset that has something to say about files which are no mistake but may surprise."""

    def warnings(self) -> tuple[str, ...]:
        """Return it as sentences, such as how many files no sample uses; nothing is read but folders and lists."""
        ...


D = TypeVar("D", bound=Callable[..., Any])


def dataset(name: str, *, version: int = 1) -> Callable[[D], D]:
    """Tag a class as a dataset; the catalog finds it by this.

    Args:
        name: what matrices and tables call it.
        version: raise it when the same files and options give other samples.
    """
    return tagger("dataset", name, version)
