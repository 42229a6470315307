"""A Matrix -> a Plan: the trainings and evaluations that it asks for, each once, grouped into sweeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from segbench.components.specs import Bound
from segbench.config.matrix import Matrix, Trained
from segbench.plan.data import Data
from segbench.plan.evaluations import EvalCell
from segbench.plan.identity import component_identity, file_hashes, shared_by
from segbench.plan.networks import ExternalCell, NetworkCell, TrainCell
from segbench.reports.records import Manifest, Record

Files = Mapping[Bound, Mapping[str, str]]
"""Attack -> hashes of the files that its options name, by what is written there."""


@dataclass(frozen=True)
class Sweep:
    """Evaluations that share adversarial images: one source, one split, one protocol, one trajectory.

    Attributes:
        source: the network that is attacked.
        cells: evaluations; their attacks differ in `steps` at most, and only where the attack is nested. One of a
            dynamic target stands alone.
        watched: the evaluation whose attack the sanity measurements of the source look at, whether it is among the
            cells or not; None where it is one of another sweep, or where there is none.
        shard: the first of its images and the one after the last, where this is a part of a sweep; None for all.
    """

    source: NetworkCell
    cells: tuple[EvalCell, ...]
    watched: EvalCell | None = None
    shard: tuple[int, int] | None = None

    @property
    def attack(self) -> Bound:
        """The attack with the most steps: its iterates hold all the others."""
        return max((cell.attack for cell in self.cells), key=lambda a: a.options.get("steps", 0))

    @property
    def targets(self) -> tuple[NetworkCell, ...]:
        """The networks that are scored, each once."""
        return tuple({cell.target.digest: cell.target for cell in self.cells}.values())

    @property
    def label(self) -> str:
        """What progress lines call it."""
        oblivious = ", oblivious," if self.oblivious else ""
        images = "" if self.shard is None else f", images {self.shard[0] + 1} to {self.shard[1]}"
        return f"{self.attack.short}{oblivious} on {self.source.label}{images}"

    @property
    def oblivious(self) -> bool:
        """Whether the attack is made on the source without its defense."""
        return self.cells[0].oblivious

    @property
    def key(self) -> str:
        """Identity of the trajectory: the same for any subset of the cells, and for every shard."""
        return _trajectory(self.cells[0])


@dataclass(frozen=True)
class Plan:
    """What a matrix asks for.

    Attributes:
        matrix: the matrix.
        trainings: networks to train, each once, in the order of the matrix.
        asked: all evaluations, each once, in the order of the tables.
        sweeps: those that can be made, grouped.
        earlier: evaluations of earlier plans that the report shows too.
    """

    matrix: Matrix
    trainings: tuple[TrainCell, ...]
    asked: tuple[EvalCell, ...]
    sweeps: tuple[Sweep, ...]
    earlier: tuple[Record, ...] = ()

    @cached_property
    def evaluations(self) -> tuple[EvalCell, ...]:
        """The evaluations that can be made."""
        return tuple(cell for cell in self.asked if cell.lacks is None)

    @cached_property
    def sweeps_of(self) -> Mapping[str, Sequence[Sweep]]:
        """The sweeps that attack or score each network, by its digest."""
        found: dict[str, list[Sweep]] = {cell.digest: [] for cell in self.trainings}
        for sweep in self.sweeps:
            for digest in dict.fromkeys(cell.digest for cell in (sweep.source, *sweep.targets)):
                found.setdefault(digest, []).append(sweep)
        return found

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why the others cannot be made, each reason once."""
        return tuple(dict.fromkeys(f"not applicable: {cell.lacks}" for cell in self.asked if cell.lacks is not None))

    def manifest(self, threads: int | None = None) -> Manifest:
        """Return what the store keeps of the plan, so that a report needs no matrix file.

        Args:
            threads: CPU threads of each worker.
        """
        records = {record.digest: record for record in self.earlier}
        records |= {cell.digest: cell.expected() for cell in self.asked}
        return Manifest(
            name=self.matrix.name,
            title=self.matrix.title,
            records=tuple(records.values()),
            worst_of=self.matrix.worst_of,
            metrics=self.matrix.report.metrics,
            labels=self.matrix.labels,
            reference=self.matrix.report.reference,
            threads=threads,
        )


def build(
    matrix: Matrix, data: Mapping[str, Data], external: Mapping[str, Sequence[ExternalCell]] | None = None
) -> Plan:
    """Lay out the cells of a matrix.

    Args:
        matrix: the matrix.
        data: the datasets by their short strings.
        external: the networks that are not trained here, by the dataset's short string.
    """
    files = {attack: file_hashes(attack.identity) for attack in (*matrix.attacks, *matrix.transfer_attacks)}
    trainings: list[TrainCell] = []
    evaluations: list[EvalCell] = []
    for dataset in matrix.datasets:
        grid = [
            cell
            for model in {model.short: model for model in matrix.models}.values()
            for trained in matrix.defenses
            for cell in _train_cells(data[dataset.short], model, trained, matrix.seeds)
        ]
        trainings += grid
        networks: list[NetworkCell] = [*grid, *(external or {}).get(dataset.short, ())]
        if matrix.white_box:
            evaluations += [
                cell for target in _scored(networks) for cell in _white_box(matrix, target, networks, files)
            ]
        evaluations += _transfers(matrix, networks, files)
    unique_trainings = tuple({cell.digest: cell for cell in trainings}.values())
    asked = tuple({cell.digest: cell for cell in evaluations}.values())
    return Plan(matrix, unique_trainings, asked, group([cell for cell in asked if cell.lacks is None]))


def group(evaluations: Sequence[EvalCell]) -> tuple[Sweep, ...]:
    """Group evaluations that share adversarial images."""
    groups: dict[str, list[EvalCell]] = {}
    for cell in evaluations:
        groups.setdefault(_trajectory(cell), []).append(cell)
    sweeps: list[Sweep] = []
    measured: set[str] = set()
    for cells in groups.values():
        source = cells[0].source
        watched = None if source.digest in measured else _watched(cells)
        if watched is not None:
            measured.add(source.digest)
        sweeps.append(Sweep(source, tuple(cells), watched))
    return tuple(sweeps)


def _watched(cells: Sequence[EvalCell]) -> EvalCell | None:
    """Return the evaluation of a sweep that can tell of its source's gradients: the one with the most steps."""
    own = [c for c in cells if c.white and not c.oblivious and c.attack.attack().threat.access == "gradients"]
    return max(own, key=lambda cell: cell.attack.options.get("steps", 0), default=None)


def _white_box(
    matrix: Matrix, target: NetworkCell, networks: Sequence[NetworkCell], files: Files
) -> Iterator[EvalCell]:
    """Every attack on a network itself; with a defense at inference, then those on the network without it.

    An attack that needs more than the network gives is made on its substitutes, where it names some.
    """
    using = [attack for attack in matrix.attacks if attack.attack().threat.access != "none"]
    wrapped = "wrapped" in target.traits
    named = _substitutes(target)
    substitutes = [cell for cell in networks if _name(cell) in named and cell is not target] if named else []
    for attack in matrix.attacks:
        adaptive = True if wrapped and attack in using else None
        own = _eval_cell(matrix, target, target, attack, files, adaptive=adaptive)
        if own.lacks is None or not substitutes:
            yield own
        else:
            yield from (_eval_cell(matrix, target, source, attack, files) for source in substitutes)
    if wrapped:
        for attack in using:
            yield _eval_cell(matrix, target, target, attack, files, adaptive=False)


def _transfers(matrix: Matrix, networks: Sequence[NetworkCell], files: Files) -> Iterator[EvalCell]:
    """Every network against the substitutes of every other architecture."""
    substitutes = [cell for cell in networks if _defense(cell) == matrix.substitutes]
    for target in _scored(networks):
        for source in substitutes:
            if _architecture(source) != _architecture(target):
                for attack in matrix.transfer_attacks:
                    yield _eval_cell(matrix, target, source, attack, files)


def _train_cells(data: Data, model: Bound, trained: Trained, seeds: Sequence[int]) -> list[TrainCell]:
    recipe, files = trained.recipe.model_dump(mode="json"), file_hashes(model.identity, trained.defense.identity)
    return [TrainCell(data, model, trained.defense, recipe, seed, files) for seed in dict.fromkeys(seeds)]


def _eval_cell(
    matrix: Matrix,
    target: NetworkCell,
    source: NetworkCell,
    attack: Bound,
    files: Files,
    *,
    adaptive: bool | None = None,
) -> EvalCell:
    return EvalCell(
        target=target,
        source=source,
        attack=attack,
        protocol=matrix.protocol,
        split=matrix.split,
        limit=matrix.limit,
        seed=matrix.attack_seed,
        precision=matrix.precision,
        adaptive=adaptive,
        certified="certified" in target.traits and attack.name == "clean",
        dynamic="dynamic" in target.traits,
        files=files[attack],
    )


def _defense(cell: NetworkCell) -> str:
    """Return the name of a network's defense."""
    return cell.defense.name if isinstance(cell, TrainCell) else cell.external.defense


def _architecture(cell: NetworkCell) -> object:
    """Return what two networks of one architecture share: the model with its options, or the user's name for it."""
    return cell.model if isinstance(cell, TrainCell) else cell.external.name


def _name(cell: NetworkCell) -> str:
    """Return the name by which a network is named as a substitute."""
    return cell.model.name if isinstance(cell, TrainCell) else cell.external.name


def _substitutes(cell: NetworkCell) -> tuple[str, ...]:
    return cell.external.substitutes if isinstance(cell, ExternalCell) else ()


def _scored(networks: Sequence[NetworkCell]) -> list[NetworkCell]:
    return [cell for cell in networks if isinstance(cell, TrainCell) or cell.external.scored]


def _trajectory(cell: EvalCell) -> str:
    """Identity of what an evaluation's adversarial images are read from."""
    # What the target of a dynamic evaluation has seen before is a part of it.
    own = ("source", "only") if cell.dynamic else ("source",)
    parts = ((part, part.component.source, part.component.object) for part in (cell.attack, cell.protocol))
    key = (*parts, tuple(cell.files.items()), cell.split, cell.limit, cell.seed, cell.oblivious, cell.precision, own)
    shared = shared_by(key, lambda: (_shared(cell), own))
    return shared.digest(source=cell.source.digest, **({"only": cell.digest} if cell.dynamic else {}))


def _shared(cell: EvalCell) -> dict[str, Any]:
    """Return what identifies the trajectory beside its networks."""
    attack, protocol = component_identity(cell.attack, cell.files), component_identity(cell.protocol)
    if cell.attack.attack().attack.nested:
        attack = {**attack, "options": {name: own for name, own in attack["options"].items() if name != "steps"}}
    apart: dict[str, Any] = {"oblivious": True} if cell.oblivious else {}
    if cell.precision != "fp32":
        apart["precision"] = cell.precision
    return {
        **apart,
        "attack": list(attack.values()),
        "protocol": list(protocol.values()),
        "split": cell.split,
        "limit": cell.limit,
        "seed": cell.seed,
    }
