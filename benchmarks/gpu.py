"""What segbench does with one GPU, meant for eight minutes: `python benchmarks/gpu.py --out docs/results/gpu.md`.

Runs the tests that need CUDA; times training steps and BIM-6 of a network in each precision; trains a small matrix and
attacks it in each precision; measures memory by batch; and asks for a batch that cannot fit. Writes one Markdown file.
`--device cpu` with a small network and small images runs the same on a processor.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import segbench
from segbench.attacks.bim import bim
from segbench.components import specs
from segbench.config.load import load_matrix
from segbench.config.matrix import Recipe
from segbench.evaluation.batch_size import BatchSizes
from segbench.evaluation.precision import in_precision, products
from segbench.networks.folding import foldable, folded
from segbench.provenance import device_name
from segbench.seeding import generator
from segbench.store import Store
from segbench.training.train import DTYPES, make_optimizer

CLASSES = 21
STEPS = 6
DEFENSES = ("none", "sat", "ddcat")
PRECISIONS = ("fp32", "tf32", "bf16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default="pspnet(encoder=resnet50-deepstem)")
    parser.add_argument("--size", type=int, default=473)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement of throughput")
    parser.add_argument("--iterations", type=int, default=500, help="of the trainings whose strength is compared")
    parser.add_argument("--no-tests", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("gpu.md"))
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device on this machine; --device cpu measures a processor")
    work = Work(specs.bound("model", options.model), options.size, options.batch, device, options.seconds)
    parts = [
        f"# Measured on {device_name(device)}",
        f"`python benchmarks/gpu.py {' '.join(sys.argv[1:])}`, torch {torch.__version__}. {options.model}, images of "
        f"{options.size} x {options.size}, batch {options.batch}.",
    ]
    if not options.no_tests:
        parts += ["## Tests that need CUDA", tested()]
    parts += ["## Throughput", table(list(throughput(work)))]
    parts += ["## Strength by precision", table(list(strength(options.device, options.iterations)))]
    parts += ["## Memory by batch", table(list(memory(work)))]
    parts += ["## A batch that does not fit", recovery(work)]
    options.out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(options.out)


@dataclasses.dataclass(frozen=True)
class Work:
    """What is timed: a network on random images."""

    model: specs.Bound
    size: int
    batch: int
    device: torch.device
    seconds: float

    def images(self, count: int) -> tuple[Tensor, Tensor]:
        """Return random images and labels."""
        source = torch.Generator().manual_seed(0)
        images = torch.rand(count, 3, self.size, self.size, generator=source)
        masks = torch.randint(CLASSES, (count, self.size, self.size), generator=source)
        return images.to(self.device, memory_format=torch.channels_last), masks.to(self.device)

    def network(self) -> nn.Module:
        """Return the network with fresh weights."""
        torch.manual_seed(0)
        made: nn.Module = self.model.make(num_classes=CLASSES)
        return made.to(self.device, memory_format=torch.channels_last)

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def times(self, step: Callable[[], object]) -> float:
        """Return the seconds of a step, the mean of as many as fit the time."""
        step()
        self.wait()
        started, count = time.perf_counter(), 0
        while count == 0 or time.perf_counter() - started < self.seconds:
            step()
            self.wait()
            count += 1
        return (time.perf_counter() - started) / count


def tested() -> str:
    """Run the tests that need CUDA and say how they ended."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-rs", "tests"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    return f"`{' '.join(command[1:])}`: {(ended.stdout.strip() or ended.stderr.strip()).splitlines()[-1]}"


def throughput(work: Work) -> Iterator[dict[str, Any]]:
    """Time training steps and BIM-6, in each precision."""
    images, masks = work.images(work.batch)
    for precision in PRECISIONS:
        with products(precision):
            for name in DEFENSES:
                yield {"what": f"training step, {name}", "precision": precision} | trained(
                    work, name, precision, images, masks
                )
            network = work.network().eval().requires_grad_(False)
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                network(images[:1])
            pairs = foldable(network, images[:1])
            for what, own in ((f"BIM-{STEPS}", network), (f"BIM-{STEPS}, folded", folded(network, pairs))):
                seen = in_precision(own, precision)
                attacked = partial(bim, seen, images, masks, eps=0.03, alpha=0.01, steps=STEPS)
                row = {"what": what, "precision": precision}
                # A backward pass to the images takes as many operations as a forward pass.
                yield row | rates(work, attacked, 2 * STEPS, counter.get_total_flops())


def trained(work: Work, name: str, precision: str, images: Tensor, masks: Tensor) -> dict[str, Any]:
    """Time a training step."""
    defense = specs.bound("defense", name).make(segmenter=work.network(), aux_weight=0.4, ignore_index=255).train()
    defense.to(work.device)
    optimizer = make_optimizer(defense, Recipe(iterations=1))
    dtype = DTYPES.get(precision)

    def step() -> None:
        with torch.autocast(work.device.type, dtype, enabled=dtype is not None):
            losses = defense.loss(images, masks, generator(0, "attack", 0))
        optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        optimizer.step()

    return rates(work, step)


def rates(work: Work, step: Callable[[], object], passes: int = 0, operations: int = 0) -> dict[str, Any]:
    """Return images a second; of an attack also passes of an image a second, and operations, of so many a pass."""
    seconds = work.times(step)
    each = passes * work.batch / seconds
    return {
        "images/s": f"{work.batch / seconds:.1f}",
        "attack passes/s": f"{each:.1f}" if passes else "",
        "TFLOP/s": f"{each * operations / 1e12:.2f}" if passes else "",
    }


def strength(device: str, iterations: int) -> Iterator[dict[str, Any]]:
    """Train networks of the quickstart and attack them in each precision; say how long sweeps waited for images."""
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            changes = [
                f"precision={precision}", f"runtime.store={folder}/store", f"runtime.device={device}",
                f"recipe.iterations={iterations}", f"recipe.warmup={min(30, iterations // 2)}", "seeds=[0]",
                "transfer=null", "models=[pspnet(encoder=tiny)]", "runtime.workers=1",
            ]  # fmt: skip
            if iterations < 50:
                changes.append("dataset=digits(size=32, train=16, val=4)")
            for record in segbench.run_matrix(load_matrix("quickstart", changes)).records:
                seconds = record.provenance["sweep_seconds"]
                yield {
                    "defense": record.target.defense.short,
                    "attack": record.attack.short,
                    "precision": precision,
                    "mIoU": f"{record.scores.miou:.2f}",
                    "seconds": f"{seconds:.1f}",
                    "waiting for images": f"{record.provenance['waiting_seconds'] / max(seconds, 1e-3):.1%}",
                }


def memory(work: Work) -> Iterator[dict[str, Any]]:
    """Measure the largest memory of an attack's pass by the number of images."""
    network = work.network().eval().requires_grad_(False)
    for count in (1, 2, 4, 8, 16):
        if count > 2 * work.batch:
            return
        images, masks = work.images(count)
        if work.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(work.device)
        seconds = work.times(lambda: bim(network, images, masks, eps=0.03, alpha=0.01, steps=1))  # noqa: B023 - called here
        peak = torch.cuda.max_memory_allocated(work.device) / 2**30 if work.device.type == "cuda" else None
        yield {
            "images": count,
            "GiB": "not measured" if peak is None else f"{peak:.2f}",
            "images/s": f"{count / seconds:.1f}",
        }


def recovery(work: Work) -> str:
    """Ask for more images at once than fit, and say what came of it."""
    network = work.network().eval().requires_grad_(False)
    images = work.images(1)[0].expand(4096 if work.device.type == "cuda" else 8, -1, -1, -1)
    seen: list[int] = []

    def work_on(part: slice) -> int:
        count = part.stop - part.start
        if work.device.type != "cuda" and count > 2:
            raise torch.OutOfMemoryError("stands for a GPU with room for two images")
        attacked = images[part].detach().clone().requires_grad_()
        torch.autograd.grad(network(attacked).sum(), attacked)
        seen.append(count)
        return count

    with tempfile.TemporaryDirectory() as folder:
        found = BatchSizes(Store(Path(folder)), work.device, None).most("network", network, images[:1])
        store = Store(Path(folder) / "asked")
        done = sum(
            BatchSizes(store, work.device, len(images)).in_parts("network", network, images[:256], "network", work_on)
        )
    return (
        f"{len(images)} images at once were asked for. After halving, {done} images went through, {max(seen)} at once. "
        f"By itself, segbench takes {found}."
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([str(row[name]) for name in head] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
