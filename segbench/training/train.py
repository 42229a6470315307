"""One TrainCell -> weights. Killed at any moment and run again, it ends with the same weights bit for bit.

Nothing depends on how many random numbers were drawn before: order, augmentation, dropout and attacks of iteration i
come from generators seeded by the cell's seed and i. A checkpoint is therefore the parameters, the optimizer, the
loss scaler, the iteration and the history so far.
"""

from __future__ import annotations

import io
import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader

from segbench.config.matrix import Recipe
from segbench.defenses.base import Prepared
from segbench.errors import CellError, DataError, Stopped
from segbench.files import acquire, file_sha256, write_bytes, write_json
from segbench.model_zoo.base import Segmenter
from segbench.plan.cells import TrainCell, build_defense, open_dataset
from segbench.plan.traits import needs
from segbench.provenance import provenance
from segbench.reporter import Reporter
from segbench.seeding import derive
from segbench.store import Store
from segbench.training import batches
from segbench.training.history import History
from segbench.training.recompute import recompute_blocks

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
CHECK_EVERY = 20
"""Iterations between looks at the loss: a look waits for the device."""


def run(
    cell: TrainCell,
    store: Store,
    *,
    device: torch.device,
    root: Path | None,
    loader_workers: int,
    checkpoint_every: float,
    reporter: Reporter,
    recompute: bool = False,
) -> None:
    """Train a cell, or go on where its checkpoint ends, and store weights and history.

    Args:
        cell: what to train.
        store: where it goes.
        device: where it runs.
        root: folder of the dataset, where it has files.
        loader_workers: processes that read images.
        checkpoint_every: seconds between checkpoints.
        reporter: hears of progress.
        recompute: keep fewer activations; see `segbench.training.recompute`.

    Raises:
        CellError: the loss is not finite.
        Stopped: the user asked to stop; a checkpoint was written.
    """
    folder = store.train_dir(cell.digest)
    lock = store.lock(folder)
    acquire(lock, cell.label)
    try:
        if store.trained(cell.digest) is None:
            _train(cell, folder, device, root, loader_workers, checkpoint_every, reporter, recompute)
    finally:
        lock.release()


def _train(
    cell: TrainCell,
    folder: Path,
    device: torch.device,
    root: Path | None,
    loader_workers: int,
    checkpoint_every: float,
    reporter: Reporter,
    recompute: bool,
) -> None:
    recipe = Recipe.model_validate(cell.recipe)
    dataset = open_dataset(cell.data.component, root)
    torch.manual_seed(derive(cell.seed, "weights"))
    defense = build_defense(cell, len(dataset.classes), dataset.ignore_index)
    images_seen = batches.TrainingImages(dataset, recipe, cell.seed, needs(defense))
    epoch_length = len(images_seen) // recipe.batch_size
    if not epoch_length:
        raise DataError(f"{recipe.split} has {len(images_seen)} images, fewer than one batch of {recipe.batch_size}")
    total = recipe.iterations or epoch_length * (recipe.epochs or 0)

    defense.to(device, memory_format=torch.channels_last).train()
    if recompute:
        recompute_blocks(defense)
    optimizer = make_optimizer(defense, recipe)
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
    history = History(folder / "history.csv")
    write_json(folder / "cell.json", cell.model_dump(mode="json"))
    done, seconds = _restore(folder, defense, optimizer, scaler, history, device)
    if done == 0 and isinstance(defense, Prepared):
        defense.prepare()

    keys = batches.batches(len(images_seen), recipe.batch_size, cell.seed, done, total)
    loader = DataLoader(
        images_seen,
        batch_sampler=keys,
        num_workers=loader_workers,
        pin_memory=device.type == "cuda",
        multiprocessing_context="spawn" if loader_workers else None,
    )
    started = saved = time.monotonic()
    resumed_at = done
    for read in loader:
        torch.manual_seed(derive(cell.seed, "iteration", done))
        batch = {name: value.to(device, non_blocking=True) for name, value in read.items()}
        batch["images"] = batch["images"].contiguous(memory_format=torch.channels_last)
        rate = learning_rate(done, total, recipe)
        _step(defense, optimizer, scaler, batch, recipe, rate, cell.seed, done, history)
        done += 1
        now = time.monotonic()
        end_of_epoch = done % epoch_length == 0 or done == total
        if end_of_epoch or done % CHECK_EVERY == 0 or done == resumed_at + 1:
            loss = history.loss()
            if not math.isfinite(loss):
                raise CellError(
                    f"the loss of {cell.label} became {loss} by iteration {done}; "
                    "lower recipe.lr, or set recipe.clip_norm or recipe.warmup"
                )
            pace = (done - resumed_at) * recipe.batch_size / (now - started)
            if end_of_epoch:
                history.close(epoch=-(-done // epoch_length), iteration=done, lr=rate, images_per_second=pace)
            try:
                reporter.update(done, total, f"loss {loss:.3f}, {pace:.0f} images/s")
            except Stopped:
                _save(folder, defense, optimizer, scaler, history, done, seconds + now - started)
                raise
        if now - saved > checkpoint_every and done < total:
            _save(folder, defense, optimizer, scaler, history, done, seconds + now - started)
            saved = time.monotonic()
    seconds += time.monotonic() - started
    _finish(folder, defense, history, device, total, seconds)


def _step(
    defense: Any,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    batch: batches.Batch,
    recipe: Recipe,
    rate: float,
    seed: int,
    iteration: int,
    history: History,
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    dtype = DTYPES.get(recipe.precision)
    with torch.autocast(batch["images"].device.type, dtype) if dtype else nullcontext():
        losses = batches.loss(defense, batch, seed, iteration)
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(losses.total).backward()  # type: ignore[no-untyped-call]
    if recipe.clip_norm is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(defense.parameters(), recipe.clip_norm)
    scaler.step(optimizer)
    scaler.update()
    history.add(losses.total.detach(), losses.terms)


def learning_rate(iteration: int, total: int, recipe: Recipe) -> float:
    """Return the base learning rate of an iteration: linear warm-up, then poly."""
    if iteration < recipe.warmup:
        return recipe.lr * (iteration + 1) / recipe.warmup
    return recipe.lr * math.pow(1 - iteration / total, recipe.power)


def make_optimizer(defense: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Build the optimizer: encoders at the base rate, all else at `head_lr_factor` times it.

    AdamW decays weights of two or more dimensions only; SGD decays all, as the networks of the paper were trained.
    """
    encoders: list[Any] = [m.trunk.encoder for m in defense.modules() if isinstance(m, Segmenter)]
    encoder = {id(p) for module in encoders for p in module.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in defense.parameters():
        if parameter.requires_grad:
            factor = 1.0 if id(parameter) in encoder else recipe.head_lr_factor
            decayed = recipe.optimizer == "sgd" or parameter.ndim > 1
            groups.setdefault((factor, recipe.weight_decay if decayed else 0.0), []).append(parameter)
    described = [
        {"params": parameters, "factor": factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(described, lr=recipe.lr, momentum=recipe.momentum)
    return torch.optim.AdamW(described, lr=recipe.lr, fused=True)


def _save(
    folder: Path,
    defense: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    history: History,
    done: int,
    seconds: float,
) -> None:
    buffer = io.BytesIO()
    state = {
        "defense": defense.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "rows": history.rows,
        "sums": history.sums,
        "count": history.count,
        "done": done,
        "seconds": seconds,
    }
    torch.save(state, buffer)
    write_bytes(folder / "checkpoint.pt", buffer.getvalue())


def _restore(
    folder: Path,
    defense: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    history: History,
    device: torch.device,
) -> tuple[int, float]:
    path = folder / "checkpoint.pt"
    if not path.is_file():
        return 0, 0.0
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    defense.load_state_dict(state["defense"])
    optimizer.load_state_dict(state["optimizer"])
    scaler.load_state_dict(state["scaler"])
    history.rows, history.sums, history.count = state["rows"], state["sums"], state["count"]
    return state["done"], state["seconds"]


def _finish(folder: Path, defense: Any, history: History, device: torch.device, total: int, seconds: float) -> None:
    weights = {name: value.detach().cpu().contiguous() for name, value in defense.deploy().state_dict().items()}
    path = folder / "weights.safetensors"
    save_file(weights, folder / ".weights.safetensors")
    (folder / ".weights.safetensors").replace(path)
    history.write()
    done = {
        "weights_sha256": file_sha256(path),
        "iterations": total,
        "seconds": round(seconds, 3),
        "provenance": provenance(device),
    }
    write_json(folder / "done.json", done)
    for name in ("checkpoint.pt", "failed.json", "traceback.txt"):
        (folder / name).unlink(missing_ok=True)
