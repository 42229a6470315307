"""A pytest fixture with which a network's own repository tests its robustness. torch is imported when it is used."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any, Protocol

import pytest


class AssertRobust(Protocol):
    """What the fixture `assert_robust` is; see there."""

    def __call__(
        self, model: str | Callable[..., Any], *, dataset: str, attack: str, miou_at_least: float, **options: Any
    ) -> float:
        """Attack a network, fail the test if it does worse than it must, and return its mIoU in per cent."""
        ...


@pytest.fixture
def assert_robust() -> AssertRobust:
    """Give a function that attacks a network and fails the test if its mIoU is below what it must be.

    `assert_robust(model, dataset="folder:data/leaves", attack="bim(steps=3)", miou_at_least=40)`; all further options
    are those of `segbench.evaluate`.
    """
    return _assert_robust


def _assert_robust(
    model: str | Callable[..., Any], *, dataset: str, attack: str, miou_at_least: float, **options: Any
) -> float:
    __tracebackhide__ = True
    import segbench

    name, colon, folder = dataset.partition(":")
    if colon:
        options["data"] = folder
    with tempfile.TemporaryDirectory() as store:
        result = segbench.evaluate(model, name, [attack], **{"store": store, **options})
        miou: float = result.miou(attack)
        images = result.records[0].n_images
    if not miou >= miou_at_least:
        split = options.get("split", "val")
        pytest.fail(
            f"mIoU {miou:.2f} under {attack} is below {miou_at_least:g} ({dataset}, {split}, {images} images)",
            pytrace=False,
        )
    return miou
