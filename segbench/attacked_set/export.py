"""A split -> an attacked copy of it, made on substitutes, that others can predict without handing in a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from segbench.attacked_set.manifest import (
    CLEAN,
    MANIFEST,
    AttackedSet,
    Condition,
    ImageFiles,
    write_set,
)
from segbench.attacked_set.pieces import levels, read_piece, towards_clean, write_piece
from segbench.attacks.tools.budget import check_budget, distance
from segbench.config.load import matrix_from_data
from segbench.config.matrix import Matrix
from segbench.config.network import default_name
from segbench.datasets.base import Dataset
from segbench.errors import SegbenchError, StoreError
from segbench.evaluation.batch_size import BatchSizes
from segbench.evaluation.precision import products
from segbench.evaluation.training_data import training_context
from segbench.execution import prepare, workers
from segbench.files import is_file, read_sealed, sha256, write_sealed
from segbench.networks.load import load_network, weights_sha256
from segbench.plan.evaluations import EvalCell, recorded_threat
from segbench.plan.identity import digest
from segbench.protocols.base import Crops, EvaluationProtocol
from segbench.protocols.void import scored_split
from segbench.reports.names import as_name
from segbench.seeding import generator
from segbench.store import Store

UNFINISHED = "unfinished.json"
"""Says what a folder without a manifest is to become, so that a second call goes on where the first one stopped."""


def export(
    out: Path,
    dataset: str,
    substitutes: Sequence[str],
    attacks: Sequence[str],
    *,
    protocol: str = "whole-v1",
    split: str = "val",
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    data: Mapping[str, Path] | None = None,
    store: Path = Path("runs"),
    trust: bool = False,
    force: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> AttackedSet:
    """Write an attacked set; images of an unfinished call with the same arguments are kept.

    Args:
        out: folder of the set; new, empty, or left unfinished.
        dataset: name with options.
        substitutes: networks on which every attack is made, as `segbench eval` takes them.
        attacks: attacks with their options; clean images are always written too.
        protocol: how images are cut, predicted and scored.
        split: the split.
        limit: number of its first images; None for all.
        seed: of the attacks' randomness.
        device: "auto", "cpu", "cuda" or "cuda:N".
        data: folders of datasets.
        store: folder that remembers which checks of data and networks passed.
        trust: load TorchScript and torch.export files.
        force: go on where another input convention of a substitute scores much better.
        say: hears of progress.

    Raises:
        SegbenchError: an argument is wrong, an attack needs more than a substitute gives, or `out` holds other files.
    """
    content = {
        "datasets": [dataset],
        "networks": [
            {"load": load, "name": default_name(load), "trust": trust, "check": not force} for load in substitutes
        ],
        "attacks": [CLEAN, *(attack for attack in attacks if attack != CLEAN)],
        "protocol": protocol,
        "split": split,
        "limit": limit,
        "attack_seed": seed,
        "runtime": {
            "store": str(store),
            "device": device,
            "data": {key: str(path) for key, path in (data or {}).items()},
        },
    }
    if not substitutes or not attacks:
        raise SegbenchError("attacked-set export: name at least one --substitute and one --attack")
    matrix = matrix_from_data(content, "attacked-set")
    plan = prepare.checked_plan(matrix, Store(store), say)
    if plan.refusals:
        raise SegbenchError(plan.refusals[0])
    cells = _conditions(plan.evaluations)
    _open(out, digest({"matrix": content | {"runtime": None}, "cells": [cell.digest for cell in cells.values()]}))
    with products("fp32"):
        return _Export(out, matrix, cells, say).write()


def _conditions(evaluations: Sequence[EvalCell]) -> dict[str, EvalCell]:
    """Return an evaluation for each condition, by the name of its folder."""
    found: dict[str, EvalCell] = {}
    for cell in evaluations:
        if cell.dynamic:
            raise SegbenchError(f"{cell.source.label} changes while it predicts, so that it is no substitute")
        if cell.adaptive is False or (cell.attack.name == CLEAN and CLEAN in found):
            continue
        stem = (
            CLEAN if cell.attack.name == CLEAN else as_name(f"{cell.attack.short}-{cell.source.network().model.name}")
        )
        name, number = stem, 1
        while name in found:
            number += 1
            name = f"{stem}-{number}"
        found[name] = cell
    return found


def _open(out: Path, request: str) -> None:
    """See that a folder is new, or was left unfinished by the same request."""
    if is_file(out / MANIFEST):
        raise SegbenchError(f"{out}: holds an attacked set already; name another folder")
    if out.is_dir() and any(out.iterdir()):
        try:
            begun = read_sealed(out / UNFINISHED, UNFINISHED)
        except StoreError as error:
            raise SegbenchError(f"{out}: what was begun there is damaged; name another folder") from error
        if begun is None or begun.get("request") != request:
            raise SegbenchError(f"{out}: holds other files; name a new folder")
        return
    write_sealed(out / UNFINISHED, {"request": request}, UNFINISHED)


class _Export:
    """An attacked set while it is written."""

    def __init__(self, out: Path, matrix: Matrix, cells: Mapping[str, EvalCell], say: Callable[[str], None]) -> None:
        self.out, self.matrix, self.cells, self.say = out, matrix, cells, say
        bound = matrix.datasets[0]
        self.dataset: Dataset = prepare.open_bound(bound, matrix.runtime.data)
        self.protocol: EvaluationProtocol = matrix.protocol.make()
        self.split = scored_split(self.dataset, matrix.split, self.protocol)
        self.length = min(len(self.split), matrix.limit or len(self.split))
        self.device = workers.resolve_devices(matrix.runtime.device, 1, 1)[0]
        self.files: dict[str, str] = {}
        self.images: dict[int, ImageFiles] = {}

    def write(self) -> AttackedSet:
        """Write all conditions, then the manifest."""
        conditions = {}
        for name, cell in self.cells.items():
            made = conditions[name] = self._condition(name, cell)
            used = "" if made.budget_used is None else f", largest change {made.budget_used:.5f}"
            self.say(f"{self.out / name}: {self.length} images{used}")
        data = next(iter(self.cells.values())).target.data
        attacked = AttackedSet(
            dataset=data.dataset.identity,
            fingerprint=data.fingerprint,
            classes=tuple(self.dataset.classes),
            split=self.matrix.split,
            limit=self.matrix.limit,
            protocol=self.matrix.protocol.identity,
            seed=self.matrix.attack_seed,
            conditions=conditions,
            images=tuple(self.images[index] for index in sorted(self.images)),
            files=self.files,
        )
        write_set(self.out, attacked)
        (self.out / UNFINISHED).unlink(missing_ok=True)
        return attacked

    def _condition(self, name: str, cell: EvalCell) -> Condition:
        attack = cell.attack.attack()
        make = self._clean if name == CLEAN else self._attacker(cell)
        farthest = 0.0
        for index in range(self.length):
            sample = self.split[index]
            crops = self.protocol.crops(sample.image, sample.mask)
            clean = levels(crops.images)
            names = [f"{index:05d}{f'_{piece}' if len(clean) > 1 else ''}.png" for piece in range(len(clean))]
            paths = [self.out / name / own for own in names]
            if all(path.is_file() for path in paths):
                contents = [path.read_bytes() for path in paths]
                pieces = torch.stack([read_piece(content) for content in contents])
            else:
                pieces = make(index, crops, clean)
                contents = [write_piece(path, piece) for path, piece in zip(paths, pieces, strict=True)]
            shown, before = pieces.double() / 255, clean.double() / 255
            own_generators = [generator(cell.seed, attack.attack.name, index, piece) for piece in range(len(clean))]
            void = self.dataset.ignore_index
            allowed = attack.allowed(before, crops.masks, ignore_index=void, generator=own_generators)
            check_budget(shown, before, attack.threat, allowed=allowed)
            if attack.threat.norm is not None:
                farthest = max(farthest, float(distance(shown, before, attack.threat.norm).max()))
            for own, content in zip(names, contents, strict=True):
                self.files[f"{name}/{own}"] = sha256(content)
            height, width = clean.shape[2:]
            self.images[index] = ImageFiles(name=sample.name, files=tuple(names), height=height, width=width)
        threat = recorded_threat(attack.threat)
        source = None if name == CLEAN else cell.source.network(weights_sha256(cell.source, self._store()))
        used = farthest if attack.threat.norm is not None else None
        return Condition(attack=cell.attack.identity, threat=threat, source=source, budget_used=used)

    def _clean(self, index: int, crops: Crops, clean: torch.Tensor) -> torch.Tensor:
        return clean

    def _attacker(self, cell: EvalCell) -> Callable[[int, Crops, torch.Tensor], torch.Tensor]:
        """Return a function from an image to its attacked pieces, as levels."""
        attack = cell.attack.attack()
        network = load_network(
            cell.source, self._store(), self.device, len(self.dataset.classes), self.dataset.ignore_index
        )
        attacked = self.protocol.network(network)
        split = cell.source.network().recipe.get("split", "train")
        context: dict[str, Any]
        context, _ = training_context(
            attack, attacked, self.dataset, split, self.protocol, self.device, scored=self.matrix.split
        )
        sizes = BatchSizes(self._store(), self.device, self.matrix.runtime.eval_batch, cell.protocol.short)

        def make(index: int, crops: Crops, clean: torch.Tensor) -> torch.Tensor:
            images, void = (clean.float() / 255).to(self.device), self.dataset.ignore_index

            def pieces(part: slice) -> torch.Tensor:
                own, masks = images[part], crops.masks[part].to(self.device)
                numbers = range(part.start, part.stop)
                generators = [generator(cell.seed, attack.attack.name, index, piece) for piece in numbers]
                adversarial = attack(attacked, own, masks, ignore_index=void, generator=generators, **context)
                allowed = attack.allowed(own, masks, ignore_index=void, generator=generators)
                check_budget(adversarial, own, attack.threat, allowed=allowed)
                return towards_clean(adversarial, clean[part], attack.threat.norm)

            return torch.cat(sizes.in_parts(cell.source.digest, attacked, images, cell.source.label, pieces))

        return make

    def _store(self) -> Store:
        return Store(self.matrix.runtime.store)
