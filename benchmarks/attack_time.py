"""What attacks cost beside the passes that they need, and beside other libraries: `python benchmarks/attack_time.py`.

A bare pass is a forward and a backward pass to the input of a frozen network, with the mean cross-entropy. Ratios are
of processor time, of the least of several interleaved rounds. torchattacks and adv-lib are compared where they are
installed (`make bench` installs them). Prints a line of JSON for each comparison.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timing import interleaved
from torch import Tensor, nn

from segbench.attacks.almaprox import almaprox
from segbench.attacks.bim import bim
from segbench.attacks.dag import dag
from segbench.attacks.sea import sea
from segbench.attacks.tools.passes import count_passes
from segbench.components import specs
from segbench.networks.folding import foldable, folded

STEPS = 6
EPS, ALPHA = 0.03, 0.01
NEVER = 1e-6
"""Step of DAG that fools nothing, so that no attack stops early."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pspnet(encoder=resnet50)")
    parser.add_argument("--size", type=int, default=89)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = specs.bound("model", options.model).make(num_classes=21).eval().requires_grad_(False)
    trainable = specs.bound("model", options.model).make(num_classes=21).eval()
    images = torch.rand(options.images, 3, options.size, options.size)
    masks = torch.randint(21, images[:, 0].shape)
    about = {"model": options.model, "size": options.size, "images": options.images}

    def shown(what: str, works: dict[str, Callable[[], object]], **more: Any) -> None:
        seconds = interleaved(works, options.rounds)
        ours, *others = seconds
        ratios = {f"of {name}": round(seconds[ours] / seconds[name], 2) for name in others}
        rounded = {name: round(value, 3) for name, value in seconds.items()}
        print(json.dumps({"what": what, **about, "seconds": rounded, **ratios, **more}), flush=True)

    works: dict[str, Callable[[], object]] = {
        "bim": lambda: bim(model, images, masks, eps=EPS, alpha=ALPHA, steps=STEPS),
        "bare passes": lambda: bare(model, images, masks, STEPS),
        "usual loop": lambda: usual(trainable, images, masks, STEPS),
    }
    if torchattacks := found("torchattacks"):
        peer = torchattacks.BIM(model, eps=EPS, alpha=ALPHA, steps=STEPS)
        works["torchattacks"] = lambda: peer(images, masks)
    shown(f"BIM-{STEPS}", works)
    fast = folded(model, foldable(model, images[:1]) or [])
    works = {
        "bim": lambda: bim(fast, images, masks, eps=EPS, alpha=ALPHA, steps=STEPS),
        "bare passes": works["bare passes"],
    }
    shown(f"BIM-{STEPS}, folded as in evaluation", works)

    def ensemble() -> object:
        generators = [torch.Generator().manual_seed(index) for index in range(len(images))]
        return sea(model, images, masks, steps=STEPS, generator=generators, class_pixels=torch.ones(21))

    with count_passes(model) as passes:
        ensemble()
    needed = passes.backward // len(images)
    shown("SEA", {"sea": ensemble, "bare passes": lambda: bare(model, images, masks, needed)}, passes=needed)

    if (peers := adv_lib()) is None:
        return
    valid = torch.ones_like(masks, dtype=torch.bool)
    shown(
        f"ALMAProx-{STEPS}",
        {
            "almaprox": lambda: almaprox(model, images, masks, steps=STEPS),
            "adv-lib": lambda: peers.alma_prox(model, images, masks, masks=valid, num_steps=STEPS),
        },
    )
    given = {"max_iter": STEPS, "adv_threshold": 1.0, "\N{GREEK SMALL LETTER GAMMA}": NEVER}
    shown(
        f"DAG-{STEPS}",
        {
            "dag": lambda: dag(model, images, masks, alpha=NEVER, steps=STEPS, share=1.0),
            "adv-lib": lambda: peers.dag(model, images, masks, masks=valid, **given),
        },
    )


def bare(model: nn.Module, images: Tensor, masks: Tensor, passes: int) -> None:
    """Take input gradients, and do nothing with them."""
    for _ in range(passes):
        moved = images.clone().requires_grad_()
        torch.autograd.grad(F.cross_entropy(model(moved), masks), moved)


def usual(model: nn.Module, images: Tensor, masks: Tensor, steps: int) -> Tensor:
    """Attack as in most published code: `backward` makes the gradients of the parameters too, and they are dropped."""
    adversarial = images.clone()
    for _ in range(steps):
        adversarial.requires_grad_()
        model.zero_grad()
        F.cross_entropy(model(adversarial), masks).backward()  # type: ignore[no-untyped-call]
        assert adversarial.grad is not None
        moved = adversarial.detach() + ALPHA * adversarial.grad.sign()
        adversarial = torch.max(torch.min(moved, images + EPS), images - EPS).clamp(0, 1)
    return adversarial


def found(name: str) -> Any:
    """Return a library, or None where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return importlib.import_module(name)
    except ImportError:
        print(f"{name} is not installed: pip install --no-deps torchattacks adv-lib", file=sys.stderr)
        return None


def adv_lib() -> Any:
    """Return adv-lib's attacks on segmentation; visdom, with which it only plots, is an empty stand-in."""
    sys.modules.setdefault("visdom", types.ModuleType("visdom"))
    attacks = found("adv_lib.attacks.segmentation")
    if attacks is not None:
        # Compiling the proximal step takes longer than the attack.
        module = sys.modules["adv_lib.attacks.segmentation.alma_prox"]
        compiled = module.prox_linf_indicator  # type: ignore[attr-defined]
        module.prox_linf_indicator = getattr(compiled, "_torchdynamo_orig_callable", compiled)  # type: ignore[attr-defined]
    return attacks


if __name__ == "__main__":
    main()
