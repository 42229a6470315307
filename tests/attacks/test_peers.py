"""Our attacks against other libraries' on the same network, images and starts."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.attacks.almaprox import almaprox
from segbench.attacks.apgd import auto_pgd
from segbench.attacks.bim import bim
from segbench.attacks.dag import dag
from segbench.attacks.fgsm import fgsm
from segbench.attacks.pdpgd import pdpgd
from segbench.attacks.pgd import pgd
from segbench.attacks.tools.budget import distance
from segbench.attacks.tools.losses import cross_entropy

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


class Pooled(nn.Module):
    """A classifier: the mean logits of a segmentation network, (N, C), or for every pixel, (N, C, H, W)."""

    def __init__(self, model: nn.Module, *, everywhere: bool) -> None:
        super().__init__()
        self.model = model
        self.everywhere = everywhere

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images).mean((2, 3), keepdim=True)
        return logits.expand(-1, -1, *images.shape[2:]) if self.everywhere else logits.flatten(1)


def test_apgd_reaches_the_losses_of_torchattacks(torchattacks: Any, colours: Any) -> None:
    # Both review the step size at the same of 100 steps. Theirs knows classifiers only, which ours sees at every pixel.
    classifier, everywhere = (Pooled(colours.model, everywhere=flag).eval() for flag in (False, True))
    images = colours.images
    labels = classifier(images).argmax(1)
    seen: list[Tensor] = []
    handle = classifier.register_forward_hook(lambda module, inputs, logits: seen.append(inputs[0].detach().clone()))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        peer = torchattacks.APGD(classifier, eps=EPS, steps=100)
        theirs = peer.attack_single_run(images, labels)[2]
    handle.remove()
    masks = labels[:, None, None].expand(-1, *images.shape[2:]).contiguous()
    made = auto_pgd(everywhere, images, masks, seen[0], cross_entropy, eps=EPS, steps=100, keep="loss")
    with torch.no_grad():
        ours = nn.functional.cross_entropy(classifier(made), labels, reduction="none")
    ratio = ours / theirs
    print(f"APGD: best losses {float(ratio.min()):.4f} to {float(ratio.max()):.4f} of torchattacks', of {len(ratio)}")
    assert (ratio > 0.95).all()
    assert float(ratio.quantile(0.5)) == pytest.approx(1, abs=0.01)


def wrong_share(task: Any, images: Tensor) -> Tensor:
    valid = task.masks != VOID
    with torch.no_grad():
        wrong = (task.model(images).argmax(1) != task.masks) & valid
    return wrong.flatten(1).sum(1) / valid.flatten(1).sum(1)


def penalty(constraints: Tensor, rho: Tensor, mu: Tensor) -> Tensor:
    """The penalty as it is published, to be differentiated by autograd."""
    above = mu * constraints + mu * rho * constraints**2 + rho**2 * constraints**3 / 6
    below = mu * constraints / (1 - rho.clamp(min=1) * constraints.clamp(max=0))
    return torch.where(constraints >= 0, above, below)


def their_almaprox(adv_lib: Any, task: Any, steps: int, alpha: float, **options: Any) -> Tensor:
    """One image at a time: adv-lib's batches fail where images differ in their number of void pixels."""
    valid = task.masks != VOID
    labels = task.masks.where(valid, 0)
    return torch.cat(
        [
            adv_lib.alma_prox(
                task.model,
                task.images[i : i + 1],
                labels[i : i + 1],
                masks=valid[i : i + 1],
                num_steps=steps,
                lr_init=alpha,
                **options,
            )
            for i in range(len(task.images))
        ]
    )


def iterates(model: nn.Module, run: Callable[[], Tensor]) -> list[Tensor]:
    seen: list[Tensor] = []
    handle = model.register_forward_hook(lambda module, inputs, logits: seen.append(inputs[0].detach().clone()))
    run()
    handle.remove()
    return seen


def test_almaprox_takes_the_first_steps_of_adv_lib(adv_lib: Any, colours: Any) -> None:
    task = colours._replace(images=colours.images[:1], masks=colours.masks[:1])
    ours = iterates(task.model, lambda: almaprox(task.model, task.images, task.masks, alpha=0.01, steps=60))
    theirs = iterates(task.model, lambda: their_almaprox(adv_lib, task, 60, 0.01, penalty=penalty))
    # Later ones part because signs of small gradients turn rounding into whole steps.
    differences = [float((a - b).abs().max()) for a, b in zip(ours[:5], theirs[:5], strict=True)]
    print(f"ALMAProx: first iterates differ by {differences}")
    assert max(differences) < 1e-3


def test_almaprox_with_the_released_slope_takes_the_first_steps_of_the_released_penalty(
    adv_lib: Any, colours: Any
) -> None:
    task = colours._replace(images=colours.images[:1], masks=colours.masks[:1])
    ours, true = (
        iterates(task.model, lambda s=s: almaprox(task.model, task.images, task.masks, alpha=0.01, steps=60, slope=s))
        for s in ("released", "derivative")
    )
    theirs = iterates(task.model, lambda: their_almaprox(adv_lib, task, 60, 0.01))
    differences = [float((a - b).abs().max()) for a, b in zip(ours[:5], theirs[:5], strict=True)]
    print(f"ALMAProx, released slope: first iterates differ by {differences}")
    assert max(differences) < 1e-3
    assert float((true[4] - theirs[4]).abs().max()) > 5e-3


def test_almaprox_reaches_the_distance_of_adv_lib(adv_lib: Any, colours: Any) -> None:
    # With the true derivative on both sides; the slope of its own penalty (mu * y in place of mu) fools fewer pixels.
    steps, alpha = 150, 0.01
    ours = almaprox(colours.model, colours.images, colours.masks, steps=steps, alpha=alpha)
    theirs = their_almaprox(adv_lib, colours, steps, alpha, penalty=penalty)
    done = [wrong_share(colours, made) >= 0.99 for made in (ours, theirs)]
    both = done[0] & done[1]
    medians = [float(distance(made, colours.images, "linf")[both].quantile(0.5)) for made in (ours, theirs)]
    print(
        f"ALMAProx: median L_inf {medians[0]:.5f} ours, {medians[1]:.5f} theirs; fooled {[int(d.sum()) for d in done]}"
    )
    assert int(both.sum()) >= len(both) // 2
    assert done[0].sum() >= done[1].sum() - 1
    assert medians[0] <= 1.05 * medians[1]


def test_dag_fools_the_share_of_adv_lib(adv_lib: Any, colours: Any) -> None:
    labels = colours.masks.where(colours.masks != VOID, 0)
    options = {"max_iter": 60, "\N{GREEK SMALL LETTER GAMMA}": 0.02}
    theirs = adv_lib.dag(colours.model, colours.images, labels, masks=colours.masks != VOID, **options)
    ours = dag(colours.model, colours.images, colours.masks, alpha=0.02, steps=60)
    found = theirs.ne(colours.images).flatten(1).any(1)
    shares = [float(wrong_share(colours, made)[found].mean()) for made in (ours, theirs)]
    failures = [int((wrong_share(colours, made) < 0.99).sum()) for made in (ours, theirs)]
    print(f"DAG: fooled {shares[0]:.4f} ours, {shares[1]:.4f} theirs; failures {failures}")
    assert found.sum() >= len(found) // 2
    assert shares[0] == pytest.approx(shares[1], abs=0.01)
    assert failures[0] == failures[1]


def their_pdpgd(adv_lib: Any, task: Any, steps: int, alpha: float, share: float) -> Tensor:
    """One image at a time, for the reason that `their_almaprox` gives."""
    valid = task.masks != VOID
    labels = task.masks.where(valid, 0)
    options = {"norm": float("inf"), "num_steps": steps, "primal_lr": alpha, "adv_threshold": share}
    made = [
        adv_lib.pdpgd(task.model, task.images[i : i + 1], labels[i : i + 1], masks=valid[i : i + 1], **options)
        for i in range(len(task.images))
    ]
    return torch.cat(made)


@pytest.mark.parametrize("share", [0.8, 1.0])
def test_pdpgd_takes_the_steps_and_reaches_the_distance_of_adv_lib(adv_lib: Any, colours: Any, share: float) -> None:
    # One share is reached and the other is not.
    task = colours._replace(images=colours.images[:2], masks=colours.masks[:2])
    made: list[Tensor] = []
    steps, alpha = 80, 0.01

    def own() -> Tensor:
        made.append(pdpgd(task.model, task.images, task.masks, alpha=alpha, steps=steps, share=share))
        return made[-1]

    def peer() -> Tensor:
        made.append(their_pdpgd(adv_lib, task, steps, alpha, share))
        return made[-1]

    ours, theirs = iterates(task.model, own), iterates(task.model, peer)
    first = [ours[step][0] - theirs[step][0] for step in range(5)]
    shares = [wrong_share(task, images) for images in made]
    distances = [distance(images, task.images, "linf") for images in made]
    print(f"PDPGD: fooled {shares}, L_inf {distances}")
    assert max(float(change.abs().max()) for change in first) < 1e-3
    assert torch.equal(shares[0] >= share, shares[1] >= share)
    assert torch.allclose(shares[0], shares[1], atol=0.005)
    assert torch.allclose(distances[0], distances[1], rtol=0.02)
