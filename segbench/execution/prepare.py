"""Before anything runs: find and fingerprint the files of datasets and given networks, and check each once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from segbench.attacks.tools.targets import read_labels
from segbench.components.specs import Bound
from segbench.config.load import data_variable
from segbench.config.matrix import Matrix, Runtime
from segbench.config.network import Convention, ExternalNetwork, NetworkAccess
from segbench.config.own import with_own_names
from segbench.datasets.base import Dataset
from segbench.datasets.tools.check import check
from segbench.errors import CellError, DataError, MatrixError, SegbenchError
from segbench.execution import workers
from segbench.memory import out_of_memory
from segbench.networks import convention_check, loaders
from segbench.networks.adapter import Adapter
from segbench.networks.load import answers, open_external, unfinished
from segbench.plan.data import Data, needs_root
from segbench.plan.networks import ExternalCell
from segbench.plan.plan import Plan, build
from segbench.plan.traits import defense_needs
from segbench.protocols.base import EvaluationProtocol
from segbench.reports.metrics.registry import metric
from segbench.store import Store
from segbench.training import batches

NO_GRADIENT = (
    "no gradient reaches the images: it runs under no_grad, detaches, or leaves torch; attacks by gradients need one, "
    "square, label-square and corruptions do not"
)
UNKNOWN = "unknown"
"""The fingerprint of a dataset that is not there."""


def open_bound(dataset: Bound, data: Mapping[str, Path]) -> Dataset:
    """Open a dataset in the folder that the user named for it.

    Raises:
        DataError: no folder was named, or there is none.
    """
    name = dataset.component.name
    if not needs_root(dataset.component):
        opened: Dataset = dataset.make()
        return opened
    if name not in data:
        raise DataError(f"{name}: where are its files? give --data {name}=FOLDER or set {data_variable(name)}=FOLDER")
    root = data[name].expanduser()
    if not root.is_dir():
        raise DataError(f"{name}: there is no folder {root} (given with --data, {data_variable(name)} or the matrix)")
    opened = dataset.make(root=root)
    return opened


def checked_plan(matrix: Matrix, store: Store, say: Callable[[str], None] = lambda text: None) -> Plan:
    """Return the plan of a matrix whose data and networks were found and checked; a check that passed is not repeated.

    Args:
        matrix: the matrix.
        store: remembers what passed, and holds earlier records of the networks.
        say: hears what was chosen and what is odd, a sentence each.

    Raises:
        MatrixError: a network cannot be built, or an attack's target is no class of the dataset.
        DataError: with every problem found, or what a defense learns from is not there.
        SegbenchError: a network cannot be loaded, does not fit the dataset, or is fed what it does not expect; or there
            is no such device.
    """
    _device(matrix.runtime)
    try_out(matrix)
    matrix = with_own_names(matrix)
    fingerprints: dict[str, Data] = {}
    classes: list[str] = []
    externals: dict[str, list[ExternalCell]] = {}
    for bound in matrix.datasets:
        dataset = open_bound(bound, matrix.runtime.data)
        used = dict.fromkeys((*(trained.recipe.split for trained in matrix.defenses), matrix.split))
        for split in used:
            dataset.split(split)
        _offers(dataset, matrix)
        _targets(dataset, matrix)
        classes += dataset.classes
        learnt_from = {trained.recipe.split for trained in matrix.defenses}
        first = {matrix.split: matrix.limit} if matrix.limit and matrix.split not in learnt_from else {}
        summary = check(dataset, splits=list(used), cache=store.cache_dir, first=first)
        names = tuple(dataset.classes)
        data = fingerprints[bound.short] = Data(bound, summary.fingerprint, summary.warnings, names)
        externals[bound.short] = [_checked_network(matrix, one, data, dataset, store) for one in matrix.networks]
    _metrics(matrix, classes)
    said = [f"{data.dataset.short}: {warning}" for data in fingerprints.values() for warning in data.warnings]
    said += [f"{cell.external.name}: {note}" for cells in externals.values() for cell in cells for note in cell.notes]
    plan = build(matrix, fingerprints, externals)
    for text in dict.fromkeys([*said, *plan.refusals]):
        say(text)
    if plan.asked and not plan.evaluations:
        raise SegbenchError(f"{matrix.name}: nothing can be run: {plan.refusals[0].removeprefix('not applicable: ')}")
    return plan


def _metrics(matrix: Matrix, classes: Sequence[str]) -> None:
    """See that the classes which metrics name are there.

    Raises:
        MatrixError: one is not.
    """
    for name in matrix.report.metrics:
        try:
            metric(name, classes)
        except ValueError as error:
            raise MatrixError(f"report.metrics: {error}") from error


def _device(runtime: Runtime) -> torch.device:
    """Return the device of what is done before jobs start; those of another engine may have one that is not here."""
    return workers.resolve_devices(runtime.device if runtime.engine == "local" else "auto", 1, 1)[0]


def try_out(matrix: Matrix) -> None:
    """Build every network of a matrix once without memory for weights, so that mistakes show before anything runs.

    Raises:
        MatrixError: with everything that cannot be built, and where it was first met.
    """
    problems: dict[str, str] = {}
    for model in matrix.models:
        for trained in matrix.defenses:
            try:
                with torch.device("meta"), _Unfilled():
                    options = {**model.options, **({"weights": None} if "weights" in model.options else {})}
                    segmenter = model.component.object(num_classes=2, **options)
                    trained.defense.make(segmenter=segmenter, aux_weight=0.0, ignore_index=255)
            except (ValueError, TypeError) as error:
                problems.setdefault(str(error), f"{matrix.name}: {model.short} with {trained.defense.short}: {error}")
    if problems:
        raise MatrixError("\n".join(problems.values()))


class _Unfilled(TorchFunctionMode):
    """Leaves tensors without memory as they are: torch would import its compiler to draw normal numbers for them."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, unless it draws normal numbers for nothing."""
        drawn = func is torch.Tensor.normal_ and args[0].is_meta
        return args[0] if drawn else func(*args, **(kwargs or {}))


def tentative_plan(matrix: Matrix) -> Plan:
    """Return the plan of a matrix whose data need not be there.

    Networks from elsewhere are loaded where the data is there, but none whose loading runs code.

    Raises:
        DataError: the data is there, but not what a defense learns from.
        MatrixError: an attack's target is no class of the dataset.
    """
    matrix = with_own_names(matrix)
    fingerprints: dict[str, Data] = {}
    externals: dict[str, list[ExternalCell]] = {}
    for bound in matrix.datasets:
        try:
            dataset = open_bound(bound, matrix.runtime.data)
            data = Data(bound, dataset.fingerprint(), classes=tuple(dataset.classes))
            cells = [
                open_external(one, data, dataset).cell if _can_be_seen(one) else _unseen(data, one)
                for one in matrix.networks
            ]
        except DataError:
            data = Data(bound, UNKNOWN)
            cells = [_unseen(data, one) for one in matrix.networks]
        else:
            _offers(dataset, matrix)
            _targets(dataset, matrix)
        fingerprints[bound.short] = data
        externals[bound.short] = cells
    return build(matrix, fingerprints, externals)


def _can_be_seen(external: ExternalNetwork) -> bool:
    """Whether a network can be loaded for a plan: no code runs, and its weights are there."""
    return not loaders.runs_code(external.load) and not external.awaits_weights


def _unseen(data: Data, external: ExternalNetwork) -> ExternalCell:
    """Return the cell of a network that was not loaded."""
    return ExternalCell(data, external, {"state": UNKNOWN}, {}, access=external.access or "gradients")


def _offers(dataset: Dataset, matrix: Matrix) -> None:
    """See that a dataset has what the defenses learn from beside labelled images."""
    for trained in matrix.defenses:
        needs = defense_needs(trained.defense)
        try:
            batches.extras(dataset, trained.recipe.split, needs)
        except DataError as error:
            raise DataError(f"{trained.defense.short}: {error}") from error


def _targets(dataset: Dataset, matrix: Matrix) -> None:
    """See that attacks ask for classes of the dataset, as a target or as the source of objects to hide."""
    for attack in (*matrix.attacks, *matrix.transfer_attacks):
        source = attack.options.get("source")
        target = source if isinstance(source, int) else attack.options.get("target")
        if target is None:
            continue
        try:
            asked = set(torch.unique(read_labels(target)).tolist()) if isinstance(target, Path) else {target}
        except ValueError as error:
            raise MatrixError(f"{matrix.name}: {error}") from error
        void = {dataset.ignore_index} if isinstance(target, Path) else set()
        wrong = sorted(asked - void - set(range(len(dataset.classes))))
        if wrong:
            last = len(dataset.classes) - 1
            raise MatrixError(f"{matrix.name}: {attack.short}: there is no class {wrong[0]}; classes are 0 to {last}")


def _checked_network(
    matrix: Matrix, external: ExternalNetwork, data: Data, dataset: Dataset, store: Store
) -> ExternalCell:
    """Load a network, see that it fits the dataset, and compare its convention with others."""
    opened = open_external(external, data, dataset)
    protocol: EvaluationProtocol = matrix.protocol.make()
    used = (*matrix.attacks, *matrix.transfer_attacks)
    weights = {name for name, _ in opened.adapter.named_parameters()}
    gradients = any(attack.attack().threat.access == "gradients" for attack in used)
    found = _fits(opened.adapter, dataset, matrix.split, protocol, gradients=gradients, stated=external.access)
    if not all(name in weights for name, _ in opened.adapter.named_parameters()):
        raise SegbenchError(unfinished(external.name))
    notes = (*opened.cell.notes, *opened.adapter.notes)
    cell = replace(opened.cell, notes=notes, answers=found, access=opened.adapter.access)
    key = {"protocol": matrix.protocol.short, "split": matrix.split}
    if external.check and not opened.assured and store.remembered("networks", cell.digest) != key:
        device = _device(matrix.runtime)
        doubt = convention_check.check(opened.adapter, dataset, matrix.split, protocol, device=device)
        if doubt is not None:
            raise convention_check.refuse(external.name, Convention.model_validate(cell.convention), doubt)
        store.remember("networks", cell.digest, key)
    return cell


def _fits(
    adapter: Adapter,
    dataset: Dataset,
    split: str,
    protocol: EvaluationProtocol,
    *,
    gradients: bool,
    stated: NetworkAccess | None,
) -> tuple[float, ...]:
    """Run one image through a network: it has to give finite logits for every class, or labels; its access is found.

    Args:
        adapter: the network.
        dataset: what it is to be evaluated on.
        split: the split whose first image it is shown.
        protocol: how that image is predicted.
        gradients: see whether a gradient reaches the image.
        stated: what the user says that the network gives.

    Returns:
        The network's answers, by which it is known again.
    """
    crops = protocol.crops(*dataset.split(split)[0][1:])
    images = crops.images[:1].contiguous(memory_format=torch.channels_last)
    network = protocol.network(adapter)
    try:
        with torch.no_grad():
            logits = network(images)
        if gradients and adapter.access == "gradients" and not _reached(network, images):
            if stated == "gradients":
                raise SegbenchError(f"{adapter.name}: {NO_GRADIENT}")
            adapter.access = "scores"
            adapter.notes[NO_GRADIENT] = None
    except CellError as error:
        raise SegbenchError(str(error)) from error
    except SegbenchError:
        raise
    except (Exception, SystemExit) as error:  # whatever a stranger's network raises
        reason = " ".join(str(error).split())[:300]
        if out_of_memory(error):
            raise SegbenchError(
                f"{adapter.name}: an image {tuple(images.shape)} takes more memory than this machine has ({reason}); "
                "use a protocol that cuts images, such as whole-v1(window=[512, 512])"
            ) from error
        raise SegbenchError(
            f"{adapter.name} cannot take an image {tuple(images.shape)} ({reason}); "
            "state its convention, such as 'multiple', or resize images with protocol whole-v1(size=[height, width])"
        ) from error
    if adapter.access != "labels":
        _no_probabilities(adapter, logits)
    with torch.no_grad():
        return answers(logits, network(images))


def _reached(network: torch.nn.Module, images: torch.Tensor) -> bool:
    """Whether a gradient can flow from a network's answer back to the images."""
    try:
        with torch.enable_grad():
            logits: torch.Tensor = network(images.detach().requires_grad_())
    except RuntimeError as error:  # numpy and others refuse tensors that take gradients
        if out_of_memory(error):
            raise
        return False
    return logits.requires_grad


def _no_probabilities(adapter: Adapter, logits: torch.Tensor) -> None:
    """See that outputs are logits: probabilities of one channel mean something else, others weaken attacks.

    Raises:
        SegbenchError: the one channel of a binary network holds probabilities.
    """
    if logits.min() < 0 or logits.max() > 1:
        return
    if adapter.binary:
        raise SegbenchError(
            f"{adapter.name}: all values of its one channel lie in [0, 1], as after a sigmoid; --binary takes the "
            "logit before it, which is positive for the second class"
        )
    if (logits.sum(1) - 1).abs().max() < 1e-3:
        adapter.notes[
            "its outputs lie in [0, 1] and sum to 1, as after a softmax: attacks by gradients are weaker on "
            "probabilities; return the logits before it"
        ] = None
