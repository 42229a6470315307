"""One TrainCell -> weights. Killed at any moment and run again, it ends with the same weights bit for bit.

No random number depends on how many were drawn before it: order, augmentation, dropout and attacks of iteration i come
from generators seeded by the cell's seed and i. A checkpoint is therefore the parameters, the optimizer, the loss
scaler, the iteration and the history so far.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import default_collate

from segbench.config.matrix import Recipe, Runtime
from segbench.defenses.base import Prepared
from segbench.errors import CellError, Stopped, StoreError, describe
from segbench.files import acquire
from segbench.memory import out_of_memory
from segbench.model_zoo.base import Segmenter
from segbench.model_zoo.layout import layout
from segbench.plan.networks import TrainCell
from segbench.plan.traits import needs
from segbench.provenance import provenance
from segbench.read_ahead import ReadAhead, fitting, waiting
from segbench.reporter import Reporter
from segbench.seeding import derive
from segbench.store import Store
from segbench.training import batches
from segbench.training.history import History
from segbench.training.recompute import recompute_blocks

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
CHECK_EVERY = 20
"""Iterations between looks at the loss: a look waits for the device."""
HISTORY_EVERY = 2.0
"""Seconds at least between two writings of the course of an unfinished training."""


def run_training(cell: TrainCell, store: Store, runtime: Runtime, device: torch.device, reporter: Reporter) -> None:
    """Train a cell, or go on where its checkpoint ends, and store weights and history.

    Args:
        cell: what to train.
        store: where it goes.
        runtime: folders of datasets, threads that read, checkpoints.
        device: where it runs.
        reporter: hears of progress.

    Raises:
        Busy: another process trains it.
        CellError: the loss is not finite, or a step takes more memory than there is.
        Stopped: the user asked to stop; a checkpoint was written.
    """
    lock = store.training_lock(cell.digest)
    acquire(lock, cell.label)
    try:
        if not store.usable(cell.digest):
            _Training(cell, store, runtime, device, reporter).go()
    except Exception as error:
        if not out_of_memory(error):
            raise
        remedy = "use a smaller recipe.batch_size or crop" if runtime.recompute else "set runtime.recompute to true"
        raise CellError(
            f"{cell.label}: a step on {cell.recipe['batch_size']} images takes more memory than {device} has "
            f"({describe(error)[:200]}); {remedy}"
        ) from error
    finally:
        lock.release()


class _Training:
    """The state of one training while it runs."""

    def __init__(
        self, cell: TrainCell, store: Store, runtime: Runtime, device: torch.device, reporter: Reporter
    ) -> None:
        self.cell, self.store, self.runtime, self.device, self.reporter = cell, store, runtime, device, reporter
        self.recipe = recipe = Recipe.model_validate(cell.recipe)
        dataset = cell.data.open(runtime.data.get(cell.data.dataset.name))
        torch.manual_seed(derive(cell.seed, "weights"))
        self.defense = cell.build(len(dataset.classes), dataset.ignore_index)
        self.images = batches.TrainingImages(dataset, recipe, cell.seed, needs(self.defense))
        self.epoch_length = len(self.images) // recipe.batch_size
        self.total = recipe.iterations or self.epoch_length * (recipe.epochs or 0)
        self.layout = layout(self.defense, device)
        self.defense.to(device, memory_format=self.layout).train()
        if runtime.recompute:
            recompute_blocks(self.defense)
        self.optimizer = make_optimizer(self.defense, recipe)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        self.history = History()
        self.done, self.seconds = 0, 0.0

    def go(self) -> None:
        """Train to the end and store what came out."""
        self.store.write_training_cell(self.cell.digest, self.cell.to_plain())
        self._restore()
        self.reporter.update(self.done, self.total, "first iteration")
        if self.done == 0 and isinstance(self.defense, Prepared):
            self.defense.prepare()
        before, resumed_at = self.seconds, self.done
        started = saved = shown = time.monotonic()
        reads = self._reads()
        for read in reads:
            rate = self._step(read)
            self.seconds = before + time.monotonic() - started
            pace = (self.done - resumed_at) * self.recipe.batch_size / (self.seconds - before)
            end_of_epoch = self.done % self.epoch_length == 0 or self.done == self.total
            told = None
            if end_of_epoch or self.done % CHECK_EVERY == 0 or self.done == resumed_at + 1:
                told = f"loss {self._finite_loss():.3f}, {pace:.0f} images/s"
            if end_of_epoch:
                epoch = -(-self.done // self.epoch_length)
                self.history.close(epoch=epoch, iteration=self.done, lr=rate, images_per_second=pace)
                if time.monotonic() - shown > HISTORY_EVERY and self.done < self.total:
                    self.store.write_history(self.cell.digest, self.history.csv())
                    shown = time.monotonic()
            try:
                if told is None:
                    self.reporter.check()
                else:
                    self.reporter.update(self.done, self.total, told)
            except Stopped:
                self._save()
                raise
            if time.monotonic() - saved > self.runtime.checkpoint_every and self.done < self.total:
                self._save()
                saved = time.monotonic()
        self.seconds = before + time.monotonic() - started
        if self.runtime.profile:
            self.reporter.say(waiting(self.cell.label, self.seconds - before, reads.waited))
        self._finish()

    def _reads(self) -> ReadAhead[Sequence[tuple[int, int]], batches.Batch]:
        """Return the batches that are left, in their order, read while earlier ones are trained on."""
        threads = fitting(self.runtime.loader_workers, self.device)
        left = batches.batch_keys(len(self.images), self.recipe.batch_size, self.cell.seed, self.done, self.total)
        return ReadAhead(self._read, left, threads=threads, ahead=threads)

    def _read(self, keys: Sequence[tuple[int, int]]) -> batches.Batch:
        batch: dict[str, Tensor] = default_collate([self.images[key] for key in keys])
        return {name: value.pin_memory() for name, value in batch.items()} if self.device.type == "cuda" else batch

    def _step(self, read: batches.Batch) -> float:
        """Train on one batch; return its base learning rate."""
        torch.manual_seed(derive(self.cell.seed, "iteration", self.done))
        batch = {name: value.to(self.device, non_blocking=True) for name, value in read.items()}
        batch["images"] = batch["images"].contiguous(memory_format=self.layout)
        rate = learning_rate(self.done, self.total, self.recipe)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        dtype = DTYPES.get(self.recipe.precision)
        with torch.autocast(self.device.type, dtype) if dtype else nullcontext():
            losses = batches.loss(self.defense, batch, self.cell.seed, self.done)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses.total).backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.defense.parameters(), self.recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.history.add(losses.total.detach(), losses.terms)
        self.done += 1
        return rate

    def _finite_loss(self) -> float:
        loss = self.history.loss()
        if not math.isfinite(loss):
            raise CellError(
                f"the loss of {self.cell.label} became {loss} by iteration {self.done}; "
                "lower recipe.lr, or set recipe.clip_norm or recipe.warmup"
            )
        return loss

    def _save(self) -> None:
        buffer = io.BytesIO()
        state = {
            "defense": self.defense.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rows": self.history.rows,
            "sums": self.history.sums,
            "count": self.history.count,
            "done": self.done,
            "seconds": self.seconds,
        }
        torch.save(state, buffer)
        self.store.write_checkpoint(self.cell.digest, buffer.getvalue())

    def _restore(self) -> None:
        """Take up the checkpoint, if there is a sound one."""
        try:
            content = self.store.checkpoint(self.cell.digest)
        except StoreError as error:
            self.reporter.say(f"{error}; {self.cell.label} is trained from the start")
            return
        if content is None:
            return
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location=self.device, weights_only=True)
        self.defense.load_state_dict(state["defense"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        history = self.history
        history.rows, history.sums, history.count = state["rows"], state["sums"], state["count"]
        self.done, self.seconds = state["done"], state["seconds"]

    def _finish(self) -> None:
        deployed = self.defense.deploy().state_dict()
        weights = {name: value.detach().cpu().contiguous() for name, value in deployed.items()}
        facts = {
            "iterations": self.total,
            "seconds": round(self.seconds, 3),
            "provenance": provenance(self.device, self.layout),
        }
        self.store.write_training(self.cell.digest, save(weights), self.history.csv(), facts)


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
