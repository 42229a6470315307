"""One forward and backward pass of an attack, in several forms of one network: `python benchmarks/passes.py`.

Prints the processor seconds of each form, the least of several interleaved rounds, as JSON: contiguous memory, channels
last, batch normalisations folded, folded and compiled, and autocast to bf16. `compiling` is what the compiled form took
before its first pass, and `pays after` the number of passes that make up for it, if any does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

import torch
from torch import Tensor, nn

from segbench.components import specs
from segbench.evaluation.precision import in_precision
from segbench.networks.compiling import compile_passes
from segbench.networks.folding import foldable, folded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pspnet(encoder=resnet50-deepstem)")
    parser.add_argument("--size", type=int, default=237)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    images = torch.rand(options.batch, 3, options.size, options.size)
    last = images.contiguous(memory_format=torch.channels_last)
    plain, network = (made(options.model) for _ in range(2))
    network.to(memory_format=torch.channels_last)
    pairs = foldable(network, last[:1]) or []
    forms = {
        "contiguous": (plain, images),
        "channels last": (network, last),
        "folded": (folded(network, pairs), last),
        "compiled": (folded(network, pairs), last),
        "bf16": (in_precision(network, "bf16"), last),
    }
    before = sum(os.times()[:4])
    compile_passes([forms["compiled"][0]], last, lambda reason: sys.exit(reason))
    compiling = sum(os.times()[:4]) - before
    best = dict.fromkeys(forms, float("inf"))
    for _ in range(options.rounds):
        for name, (own, given) in forms.items():
            best[name] = min(best[name], seconds(own, given))
    saved = best["folded"] - best["compiled"]
    found = {name: round(value, 3) for name, value in best.items()}
    pays = round(compiling / saved) if saved > 0 else None
    print(json.dumps({"pairs": len(pairs), **found, "compiling": round(compiling, 1), "pays after": pays}))


def made(spec: str) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = specs.bound("model", spec).make(num_classes=21)
    return network.eval().requires_grad_(False)


def seconds(network: nn.Module, images: Tensor) -> float:
    """Return the processor seconds of one forward and one backward pass."""
    started = time.process_time()
    given = images.detach().requires_grad_()
    torch.autograd.grad(network(given).square().mean(), given)
    return time.process_time() - started


if __name__ == "__main__":
    main()
