"""Our attacks against other libraries' on the same network, images and starts."""

from __future__ import annotations

import sys
import types
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks.almaprox import almaprox
from attacks.base import distance
from attacks.bim import bim
from attacks.dag import dag
from attacks.fgsm import fgsm
from attacks.pgd import pgd

pytestmark = pytest.mark.slow

VOID = 255
EPS = 8 / 255


@pytest.fixture(scope="module")
def torchattacks() -> Any:
    return pytest.importorskip("torchattacks", reason="torchattacks is not installed (pip install --no-deps)")


@pytest.fixture(scope="module")
def adv_lib() -> Any:
    """adv-lib's segmentation attacks; its dependency visdom, which it only plots with, is an empty stand-in."""
    sys.modules.setdefault("visdom", types.ModuleType("visdom"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pytest.importorskip("adv_lib", reason="adv-lib is not installed (pip install --no-deps)")
        segmentation = pytest.importorskip("adv_lib.attacks.segmentation")
    # Compiling the proximal step takes longer than the attack.
    module = sys.modules["adv_lib.attacks.segmentation.alma_prox"]
    compiled = module.prox_linf_indicator
    module.prox_linf_indicator = getattr(compiled, "_torchdynamo_orig_callable", compiled)
    return segmentation


@pytest.fixture
def full(colours: Any) -> Any:
    """The trained network and its scenes with the void pixels labelled as background: torchattacks knows no void."""
    return colours._replace(masks=colours.masks.where(colours.masks != VOID, 0))


def share_equal(ours: Tensor, theirs: Tensor) -> float:
    return float(((ours - theirs).abs() <= 1e-6).double().mean())


def test_fgsm_equals_torchattacks(torchattacks: Any, full: Any) -> None:
    theirs = torchattacks.FGSM(full.model, eps=EPS)(full.images, full.masks)
    equal = share_equal(fgsm(full.model, full.images, full.masks, eps=EPS), theirs)
    print(f"FGSM: {equal:.5%} of values equal")
    assert equal >= 0.999


def test_bim_equals_torchattacks(torchattacks: Any, full: Any) -> None:
    theirs = torchattacks.BIM(full.model, eps=EPS, alpha=2 / 255, steps=6)(full.images, full.masks)
    equal = share_equal(bim(full.model, full.images, full.masks, eps=EPS, alpha=2 / 255, steps=6), theirs)
    print(f"BIM: {equal:.5%} of values equal")
    assert equal >= 0.999


def test_pgd_equals_torchattacks_from_the_same_start(
    torchattacks: Any, full: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    generators = [torch.Generator().manual_seed(i) for i in range(len(full.images))]
    noise = torch.stack([torch.rand(full.images.shape[1:], generator=g) for g in generators]) * 2 - 1
    for i, generator in enumerate(generators):
        generator.manual_seed(i)
    ours = pgd(full.model, full.images, full.masks, eps=EPS, alpha=2 / 255, steps=6, generator=generators)
    monkeypatch.setattr(Tensor, "uniform_", lambda self, low, high: self.copy_(noise * high))
    theirs = torchattacks.PGD(full.model, eps=EPS, alpha=2 / 255, steps=6)(full.images, full.masks)
    equal = share_equal(ours, theirs)
    print(f"PGD: {equal:.5%} of values equal")
    assert equal >= 0.999


def wrong_share(task: Any, images: Tensor) -> Tensor:
    valid = task.masks != VOID
    with torch.no_grad():
        wrong = (task.model(images).argmax(1) != task.masks) & valid
    return wrong.flatten(1).sum(1) / valid.flatten(1).sum(1)


def test_almaprox_reaches_the_distance_of_adv_lib(adv_lib: Any, colours: Any) -> None:
    task = colours._replace(images=colours.images[:6], masks=colours.masks[:6])
    ours = almaprox(task.model, task.images, task.masks, steps=200)
    # One image at a time: its batches fail where images differ in their number of void pixels.
    theirs = torch.cat(
        [
            adv_lib.alma_prox(
                task.model,
                task.images[i : i + 1],
                task.masks[i : i + 1].where(task.masks[i : i + 1] != VOID, 0),
                masks=task.masks[i : i + 1] != VOID,
                num_steps=200,
            )
            for i in range(len(task.images))
        ]
    )
    medians = [float(distance(made, task.images, "linf").median()) for made in (ours, theirs)]
    shares = [float((wrong_share(task, made) >= 0.99).double().mean()) for made in (ours, theirs)]
    print(f"ALMAProx: median L_inf {medians[0]:.6f} ours, {medians[1]:.6f} theirs; fooled {shares}")
    assert shares[0] >= shares[1] > 0.5
    assert medians[0] == pytest.approx(medians[1], rel=0.05)


def test_dag_fools_the_share_of_adv_lib(adv_lib: Any, colours: Any) -> None:
    task = colours._replace(images=colours.images[:6], masks=colours.masks[:6])
    labels = task.masks.where(task.masks != VOID, 0)
    theirs = adv_lib.dag(
        task.model,
        task.images,
        labels,
        masks=task.masks != VOID,
        max_iter=100,
        **{"\N{GREEK SMALL LETTER GAMMA}": 0.002},
    )
    ours = dag(task.model, task.images, task.masks, alpha=0.002, steps=100)
    found = theirs.ne(task.images).flatten(1).any(1)
    shares = [float(wrong_share(task, made)[found].mean()) for made in (ours, theirs)]
    failures = [int((wrong_share(task, made) < 0.99).sum()) for made in (ours, theirs)]
    print(f"DAG: fooled {shares[0]:.4f} ours, {shares[1]:.4f} theirs; failures {failures}")
    assert found.sum() >= 3
    assert shares[0] == pytest.approx(shares[1], abs=0.01)
    assert failures[0] == failures[1]
