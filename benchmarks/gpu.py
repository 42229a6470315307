"""What segbench does with one GPU, meant for eight minutes: `python benchmarks/gpu.py --out docs/results/gpu.md`.

Runs the tests that need CUDA; times training steps and BIM-6 of a network in each precision; trains a small matrix and
attacks it in each precision; measures memory by batch; and asks for a batch that cannot fit. Writes one Markdown file.
`--device cpu` with a small network and small images runs the same on a processor.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import default_collate
from torch.utils.flop_counter import flop_registry

import segbench
from segbench.attacks.bim import bim
from segbench.components import specs
from segbench.config.load import load_matrix
from segbench.config.matrix import Augmentation, Recipe
from segbench.datasets.folder import Folder
from segbench.evaluation.batch_size import BatchSizes
from segbench.evaluation.precision import in_precision, products
from segbench.networks.folding import foldable, folded
from segbench.provenance import device_name
from segbench.read_ahead import ReadAhead, fitting
from segbench.seeding import generator
from segbench.store import Store
from segbench.training.batches import TrainingImages, batch_keys
from segbench.training.train import DTYPES, make_optimizer

CLASSES = 21
STEPS = 6
DEFENSES = ("none", "sat", "ddcat")
PRECISIONS = ("fp32", "tf32", "bf16")
WARM_UP = 3
"""Steps before those that are timed: libraries choose their kernels, and threads begin to read ahead."""
THROUGHPUT = (
    "The share of peak is that of the rate at which the device multiplies large matrices in that precision. Images are "
    "read from JPEG files, scaled, rotated, blurred, mirrored and cut, by as many threads as a training takes; the "
    "last column is the share of the time in which they were not there.\n\n"
)
Step = Callable[[Tensor, Tensor], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default="pspnet(encoder=resnet50-deepstem)")
    parser.add_argument("--size", type=int, default=473)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement of throughput")
    parser.add_argument("--iterations", type=int, default=500, help="of the trainings whose strength is compared")
    parser.add_argument("--no-tests", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("gpu.md"))
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device on this machine; --device cpu measures a processor")
    title = (
        f"# Measured on {device_name(device)}\n\n`python benchmarks/gpu.py {' '.join(sys.argv[1:])}`, torch "
        f"{torch.__version__}. {options.model}, images of {options.size} x {options.size}, batch {options.batch}."
    )
    with tempfile.TemporaryDirectory() as folder:
        photographs(Path(folder), options.size, 4 * options.batch)
        model = specs.bound("model", options.model)
        work = Work(model, options.size, options.batch, device, options.seconds, Path(folder))
        sections: dict[str, Callable[[], str]] = {
            "Tests that need CUDA": tested,
            "Throughput": lambda: THROUGHPUT + table(list(throughput(work))),
            "Strength by precision": lambda: table(list(strength(options.device, options.iterations))),
            "Memory by batch": lambda: table(list(memory(work))),
            "A batch that does not fit": lambda: recovery(work),
        }
        if options.no_tests:
            del sections["Tests that need CUDA"]
        parts = [title]
        for name, measured in sections.items():
            parts.append(f"## {name}\n\n{measured()}")
            # What is measured is kept if a later section breaks.
            options.out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(options.out)


@dataclasses.dataclass(frozen=True)
class Work:
    """What is timed: a network on random images.

    Attributes:
        model: the network.
        size: height and width of the images.
        batch: number of images.
        device: where it runs.
        seconds: of each measurement.
        folder: with the files that steps read.
    """

    model: specs.Bound
    size: int
    batch: int
    device: torch.device
    seconds: float
    folder: Path

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

    def read(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches as a training reads them: from files, augmented, ahead of the device."""
        change = Augmentation(scale=(0.5, 2.0), rotate=10.0, blur=0.5, flip=0.5, crop=(self.size, self.size))
        recipe = Recipe(iterations=1, batch_size=self.batch, augmentation=change)
        images = TrainingImages(Folder(self.folder), recipe, 0)
        keys = batch_keys(len(images), self.batch, 0, 0, 100_000)
        threads = fitting(None, self.device)
        for read in ReadAhead(partial(collated, images, self.device), keys, threads=threads, ahead=threads + 1):
            batch = {name: value.to(self.device, non_blocking=True) for name, value in read.items()}
            yield batch["images"].contiguous(memory_format=torch.channels_last), batch["masks"]

    def times(self, step: Step, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float]:
        """Return the mean seconds of a step, of as many as fit the time, and the share of waiting for their images."""
        fed = iter(batches)
        for _ in range(WARM_UP):
            step(*next(fed))
        self.wait()
        count, busy, waited = 0, 0.0, 0.0
        while count == 0 or busy + waited < self.seconds:
            asked = time.perf_counter()
            images, masks = next(fed)
            begun = time.perf_counter()
            step(images, masks)
            self.wait()
            busy, waited, count = busy + time.perf_counter() - begun, waited + begun - asked, count + 1
        return busy / count, waited / (busy + waited)

    def multiplies(self, precision: str) -> float:
        """Return the operations a second of a large product of matrices: what the device can do in a precision."""
        side = 8192 if self.device.type == "cuda" else 256
        factor = torch.rand(side, side, device=self.device, dtype=DTYPES.get(precision, torch.float32))
        for _ in range(WARM_UP):
            factor @ factor
        self.wait()
        started = time.perf_counter()
        for _ in range(20):
            factor @ factor
        self.wait()
        return 20 * 2 * side**3 / (time.perf_counter() - started)


class Counting(TorchDispatchMode):
    """Counts the operations of convolutions and products, forward and backward, also those of `torch.autograd.grad`."""

    operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        counted = flop_registry.get(func.overloadpacket)
        self.operations += counted(*args, **(kwargs or {}), out_val=result) if counted else 0
        return result


def photographs(folder: Path, size: int, count: int) -> None:
    """Write a dataset of JPEG images with masks, a little larger than what is cut from them."""
    source = np.random.default_rng(0)
    (folder / "dataset.yaml").write_text(json.dumps({"classes": [f"class {number}" for number in range(CLASSES)]}))
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(count if split == "train" else 1):
            coarse = source.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((size * 17 // 16, size), Image.Resampling.BICUBIC)
            image.save(folder / "images" / split / f"{number}.jpg")
            classes = source.integers(0, CLASSES, (12, 16), dtype=np.uint8)
            Image.fromarray(classes).resize(image.size, Image.Resampling.NEAREST).save(
                folder / "masks" / split / f"{number}.png"
            )


def collated(images: TrainingImages, device: torch.device, keys: list[tuple[int, int]]) -> dict[str, Tensor]:
    """Read a batch, into memory from which a GPU copies while it computes."""
    batch: dict[str, Tensor] = default_collate([images[key] for key in keys])
    return {name: value.pin_memory() for name, value in batch.items()} if device.type == "cuda" else batch


def tested() -> str:
    """Run the tests that need CUDA and say how they ended."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-rs", "tests"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)
    except subprocess.TimeoutExpired:
        return f"`{' '.join(command[1:])}`: not done within 150 s"
    return f"`{' '.join(command[1:])}`: {(ended.stdout.strip() or ended.stderr.strip()).splitlines()[-1]}"


def throughput(work: Work) -> Iterator[dict[str, Any]]:
    """Time training steps and BIM-6, in each precision."""
    for precision in PRECISIONS:
        with products(precision):
            peak = work.multiplies(precision)
            for name in DEFENSES:
                yield {"what": f"training step, {name}", "precision": precision} | rates(
                    work, training_step(work, name, precision), peak
                )
            network = work.network().eval().requires_grad_(False)
            pairs = foldable(network, work.images(1)[0]) or []
            for what, own in ((f"BIM-{STEPS}", network), (f"BIM-{STEPS}, folded", folded(network, pairs))):
                attack = partial(bim, in_precision(own, precision), eps=0.03, alpha=0.01, steps=STEPS)
                yield {"what": what, "precision": precision} | rates(work, attack, peak, 2 * STEPS)


def training_step(work: Work, name: str, precision: str) -> Step:
    """Return a training step of a defense."""
    defense = specs.bound("defense", name).make(segmenter=work.network(), aux_weight=0.4, ignore_index=255).train()
    defense.to(work.device)
    optimizer = make_optimizer(defense, Recipe(iterations=1))
    dtype = DTYPES.get(precision)

    def step(images: Tensor, masks: Tensor) -> None:
        with torch.autocast(work.device.type, dtype, enabled=dtype is not None):
            losses = defense.loss(images, masks, generator(0, "attack", 0))
        optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        optimizer.step()

    return step


def rates(work: Work, step: Step, peak: float, passes: int = 0) -> dict[str, Any]:
    """Return images a second, passes of an image a second of an attack of so many, and shares of peak and waiting."""
    with Counting() as counter:
        step(*work.images(work.batch))
    seconds, waiting = work.times(step, work.read())
    rate = counter.operations / seconds
    return {
        "images/s": f"{work.batch / seconds:.1f}",
        "attack passes/s": f"{passes * work.batch / seconds:.1f}" if passes else "",
        "TFLOP/s": f"{rate / 1e12:.2f}",
        "share of peak": f"{rate / peak:.0%}",
        "waiting for images": f"{waiting:.1%}",
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
    attack = partial(bim, network, eps=0.03, alpha=0.01, steps=1)
    for count in (1, 2, 4, 8, 16):
        if count > 2 * work.batch:
            return
        if work.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(work.device)
        try:
            seconds, _ = work.times(attack, repeat(work.images(count)))
        except torch.OutOfMemoryError:
            yield {"images": count, "GiB": "does not fit", "images/s": ""}
            return
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
