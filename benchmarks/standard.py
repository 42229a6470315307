"""The standard attack against others, pass for pass: `python benchmarks/standard.py --store FOLDER`.

The others are SEA, the composite of Halmosi et al. 2024 (https://arxiv.org/abs/2407.09150) with fewer steps, and the
members. The script trains the networks that the store lacks, attacks them, and writes a table of the mIoU that is left.
Every value goes to `standard.jsonl` in the store at once, so that a run that was stopped goes on where it was. The
attack's parameters were chosen on split `dev` and on networks of seed 7; the table is of split `val` and of seed 0.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from segbench.api import load_model, run_matrix
from segbench.attacks.tools.passes import count_passes
from segbench.components import specs
from segbench.config.load import matrix_from_data
from segbench.datasets.base import Dataset
from segbench.evaluation.tally import confusion
from segbench.evaluation.training_data import training_context
from segbench.execution.prepare import checked_plan, open_bound
from segbench.files import file_sha256
from segbench.networks.load import load_network
from segbench.protocols.whole import Whole
from segbench.reports.statistics import mean_iou
from segbench.reports.worst_case import worst_case
from segbench.store import Store

PSPNET, DEEPLAB = "pspnet(encoder=tiny)", "deeplabv3(encoder=tiny, rates=[1, 2, 3])"
QUICKSTART = ["none", "sat", "ddcat"]
DIGITS = (
    (PSPNET, [*QUICKSTART, "pgd-at", "trades", "jpeg", "randomized-smoothing(samples=4)"]),
    (DEEPLAB, QUICKSTART),
)
CAMVID = ((PSPNET, ["none"]),)
MASKS = "digits(size=48, train=400, val=50, digits=[0, 1, 2])"
"""What `benchmarks/mask_classification.py` trains its networks on."""
RECIPE = {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.0001, "warmup": 30, "batch_size": 16}
Parts = dict[str, Tensor]


def methods(eps: float, passes: int) -> dict[str, list[str]]:
    """Return what is compared: name -> attacks whose worst case it is; without a number they have `passes` passes."""
    third, last = passes // 3, passes - 1
    shares = {name: passes * share // 3000 for name, share in (("apgd", 300), ("padam", 200), ("least", 500))}
    return {
        f"standard, {passes}": [f"standard(eps={eps}, passes={passes})"],
        f"SEA, {3 * passes}": [f"sea(eps={eps}, steps={passes})"],
        f"SEA, {passes}": [f"sea(eps={eps}, steps={third})"],
        f"composite, {passes}": [
            *(
                f"apgd(eps={eps}, steps={shares['apgd']}, loss={loss})"
                for loss in ("js", "masked-ce", "masked-spherical", "balanced-masked-ce")
            ),
            *(f"padam(eps={eps}, steps={shares['padam']}, loss={loss})" for loss in ("ce", "cos")),
            *(f"dag(eps={eps}, steps={shares['padam']}, alpha={alpha})" for alpha in (0.001, 0.003)),
            f"pdpgd(eps={eps}, steps={shares['least']}, alpha=0.01)",
            f"almaprox(eps={eps}, steps={shares['least']})",
        ],
        "cw": [f"cw(eps={eps}, steps={last})"],
        "APGD, masked-ce": [f"apgd(eps={eps}, steps={last}, loss=masked-ce)"],
        "APGD, js": [f"apgd(eps={eps}, steps={last}, loss=js)"],
        "APGD, segpgd": [f"apgd(eps={eps}, steps={last}, loss=segpgd)"],
        "PAdam-Cos": [f"padam(eps={eps}, steps={last}, loss=cos)"],
        "CosPGD": [f"cospgd(eps={eps}, steps={passes}, alpha={eps / 4})"],
        "ALMAProx": [f"almaprox(eps={eps}, steps={passes})"],
        "PDPGD": [f"pdpgd(eps={eps}, steps={passes}, alpha=0.01)"],
    }


class Target(NamedTuple):
    """A network to attack: its name, what tells it from others of that name, itself, and its dataset."""

    name: str
    digest: str
    network: nn.Module
    dataset: Dataset


def networks(arguments: argparse.Namespace) -> Iterator[Target]:
    """Train what the store lacks, and yield every network with its dataset."""
    sets: list[tuple[str, Any, Path | None]] = [("digits", DIGITS, None)]
    if arguments.camvid:
        sets.append(("camvid(size=[72, 96])", CAMVID, arguments.camvid))
    store = Store(arguments.store)
    for written, grid, folder in sets:
        dataset = open_bound(specs.bound("dataset", written), {} if folder is None else {"camvid": folder})
        for model, defenses in grid:
            if arguments.models and model.partition("(")[0] not in arguments.models:
                continue
            data = {
                "dataset": written,
                "models": [model],
                "defenses": [own for own in defenses if own.partition("(")[0] in (arguments.defenses or own)],
                "seeds": [0],
                "limit": 1,
                "attacks": ["clean"],
                "recipe": {**RECIPE, "iterations": arguments.iterations},
            }
            runtime = {"store": str(arguments.store), "workers": 1, "data": {"camvid": str(folder)} if folder else {}}
            matrix = matrix_from_data({**data, "runtime": runtime}, "standard-benchmark")
            run_matrix(matrix)
            for cell in checked_plan(matrix, store).trainings:
                network = load_network(cell, store, torch.device("cpu"), len(dataset.classes), dataset.ignore_index)
                yield Target(f"{cell.label}, {cell.data.dataset.name}", cell.digest, network, dataset)
    if arguments.mask_classifier:
        dataset = open_bound(specs.bound("dataset", MASKS), {})
        network = load_model(f"hf:{arguments.mask_classifier}", num_classes=len(dataset.classes))
        yield Target(
            "MaskFormer, digits", file_sha256(arguments.mask_classifier / "model.safetensors"), network, dataset
        )


def attacked(network: nn.Module, wanted: list[str], images: Tensor, masks: Tensor, context: Mapping[str, Any]) -> Parts:
    """Return the adversarial images of some attacks, and of the parts of those that have some."""
    made: Parts = {}
    for written in wanted:
        bound = specs.bound("attack", written).attack()
        generators = [torch.Generator().manual_seed(index) for index in range(len(images))]
        own = {"generator": generators, **context}
        if bound.attack.ensemble:
            made |= bound.parts(network, images, masks, **own)
        else:
            made[written] = bound(network, images, masks, **own)
    return made


def scored(network: nn.Module, parts: Parts, masks: Tensor, classes: int, void: int) -> dict[str, float]:
    """Return the mIoU of the greedy choice among parts, its lower bound, and the share of right pixels."""
    counts = []
    with torch.no_grad():
        for images in parts.values():
            preds = network(images).argmax(1)
            counts.append(np.stack([confusion(*pair, classes, void) for pair in zip(preds, masks, strict=True)]))
    worst = worst_case(counts, "skip")
    chosen = np.stack(counts)[worst.choice, np.arange(len(masks))]
    return {
        "miou": 100 * float(mean_iou(chosen.sum(0), "skip")),
        "bound": worst.miou_bound,
        "aacc": worst.aacc,
    }


def measured(network: nn.Module, dataset: Dataset, wanted: list[str], count: int) -> dict[str, float]:
    """Return what some attacks leave on images spread evenly over split `val`, and what they cost."""
    split = dataset.split("val")
    samples = [split[index * len(split) // count] for index in range(count)]
    images = torch.stack([sample.image for sample in samples]).float() / 255
    images = images.contiguous(memory_format=torch.channels_last)
    masks = torch.stack([sample.mask for sample in samples]).long()
    void = dataset.ignore_index
    begun = time.process_time()
    with count_passes(network) as passes:
        parts = attacked(network, wanted, images, masks, {"class_pixels": pixels(dataset), "ignore_index": void})
    seconds = time.process_time() - begun
    found = scored(network, parts, masks, len(dataset.classes), void)
    return {"used": passes.forward / count, "seconds": round(seconds, 1), **found}


@cache
def pixels(dataset: Dataset) -> Tensor:
    """Return the number of training pixels of each class."""
    sea = specs.bound("attack", "sea").attack()
    found, _ = training_context(sea, nn.Identity(), dataset, "train", Whole(), torch.device("cpu"), scored="val")
    return found["class_pixels"]


def main(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    started = time.monotonic()
    log = Path(arguments.store) / "standard.jsonl"
    log.touch()
    done = [json.loads(line) for line in log.read_text().splitlines()]
    targets = list(networks(arguments))
    for fraction in arguments.eps:
        for name, wanted in methods(fraction / 255, arguments.passes).items():
            for target in targets:
                key = {"network": target.name, "digest": target.digest, "eps": fraction}
                key |= {"method": name, "images": arguments.images, "passes": arguments.passes}
                late = time.monotonic() - started > 60 * arguments.minutes
                if late or any(key.items() <= row.items() for row in done):
                    continue
                done.append({**key, **measured(target.network, target.dataset, wanted, arguments.images)})
                with log.open("a") as file:
                    file.write(json.dumps(done[-1]) + "\n")
                print(json.dumps(done[-1]), flush=True)
    arguments.out.write_text(table(done, arguments), encoding="utf-8")


def table(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> str:
    """Return the page: a table for each eps, and how often the standard attack is the lowest."""
    rows = [row for row in rows if row["images"] == arguments.images and row["passes"] == arguments.passes]
    lines = [
        f"{arguments.images} images spread over split `val`; networks trained for {arguments.iterations} iterations."
    ]
    for fraction in arguments.eps:
        own = {(row["network"], row["method"]): row for row in rows if row["eps"] == fraction}
        names = [name for name in methods(0, arguments.passes) if any(name == method for _, method in own)]
        known = [network for network in dict.fromkeys(key[0] for key in own) if (network, names[0]) in own]
        if not known:
            continue
        lines += ["", f"### eps {fraction:g}/255", ""]
        lines += [f"| network | {' | '.join(names)} | lower bound of standard |"]
        lines += [f"|---|{'--:|' * (len(names) + 1)}"]
        for network in known:
            first = own[network, names[0]]
            cells = [f"{own[network, name]['miou']:.2f}" if (network, name) in own else "" for name in names]
            lines.append(f"| {network} | {' | '.join(cells)} | {first['bound']:.2f} |")
        for name in names[1:]:
            pairs = [
                (own[network, names[0]]["miou"], own[network, name]["miou"])
                for network in known
                if (network, name) in own
            ]
            if pairs:
                lower = sum(ours <= theirs for ours, theirs in pairs)
                mean = np.mean([theirs - ours for ours, theirs in pairs])
                found = (
                    f"- No higher than {name} on {lower} of {len(pairs)} networks, on average {mean:.2f} points lower."
                )
                lines += ([""] if name == names[1] else []) + [found]
    return "\n".join(lines).strip() + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("runs"), help="folder of networks and values")
    parser.add_argument("--out", type=Path, default=Path("standard.md"), help="where the tables go")
    parser.add_argument("--camvid", type=Path, help="folder of CamVid; its networks are left out without it")
    parser.add_argument("--mask-classifier", type=Path, help="folder `maskformer` of benchmarks/mask_classification.py")
    parser.add_argument("--eps", type=float, nargs="+", default=[1, 2, 4, 8], help="in 255ths")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--passes", type=int, default=300)
    parser.add_argument("--iterations", type=int, default=500, help="of the trainings; the quickstart has 500")
    parser.add_argument("--models", nargs="+", help="leave out other architectures")
    parser.add_argument("--defenses", nargs="+", help="leave out networks with other defenses")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start nothing new after this time")
    main(parser.parse_args())
