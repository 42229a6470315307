"""The Python interface: evaluate, attack, predict and load networks."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from segbench.components import specs
from segbench.config.load import load_matrix, matrix_from_data
from segbench.config.matrix import Matrix
from segbench.config.names import as_name
from segbench.config.network import NetworkAccess, default_name, external_network
from segbench.errors import StoreError
from segbench.execution import execute, prepare
from segbench.execution.execute import SILENT, Display
from segbench.networks import loaders
from segbench.networks.factories import as_network
from segbench.networks.load import open_adapter
from segbench.plan.plan import Plan
from segbench.result import Result, stored_result
from segbench.store import Store
from segbench.tensors import attack, predict
from segbench.torch_settings import put_aside
from segbench.tracking.listener import tracked

__all__ = ["Result", "attack", "evaluate", "load_model", "predict", "run_matrix"]

GivenNetwork = nn.Module | Callable[[Tensor], Any]


@put_aside()
def evaluate(
    model: str | GivenNetwork,
    dataset: str | Sequence[str],
    attacks: Sequence[str] = ("clean", "bim"),
    *,
    protocol: str = "whole-v1",
    split: str = "val",
    limit: int | None = None,
    weights: str | Path | None = None,
    convention: Mapping[str, Any] | str | Path | None = None,
    classes: Mapping[str, Any] | str | Path | None = None,
    name: str | None = None,
    defense: str = "none",
    seed: int = 0,
    metrics: Sequence[str] = (),
    store: str | Path = "runs",
    device: str = "auto",
    workers: int | None = 1,
    data: str | Path | Mapping[str, str | Path] | None = None,
    output: str | None = None,
    binary: bool = False,
    incomplete: bool = False,
    trust: bool = False,
    access: NetworkAccess | str | None = None,
    substitutes: Sequence[str | GivenNetwork] = (),
    force: bool = False,
    track: Sequence[str] = (),
    profile: bool = False,
    display: Display = SILENT,
) -> Result:
    """Attack a network and score it; what the store holds already is not done again.

    The network is left as it was: a copy of it is evaluated. What is done is what `segbench eval` does.

    Args:
        model: a network, its input -> logits or label maps, or what `segbench eval` takes, such as
            "torchvision:fcn_resnet50".
        dataset: name with options, such as "camvid(size=[120, 160])", or several of them.
        attacks: attacks, such as "bim(steps=6)"; "clean" for the images as they are.
        protocol: how images are attacked and scored.
        split: the split that is scored.
        limit: number of its first images; None for all.
        weights: file of weights to load into the network first.
        convention: the input that the network expects (see `segbench.config.network.Convention`), or a YAML file of it.
        classes: for every class of the dataset the network's class, classes or none, or a YAML file of it.
        name: what tables call the network.
        defense: how it was trained, as tables say it.
        seed: of the attacks' randomness.
        metrics: names of metrics that the report shows beside mIoU, such as "ece"; see docs/metrics.md.
        store: folder of records.
        device: "auto", "cpu", "cuda" or "cuda:N".
        workers: processes on this machine; a network that is given as an object runs in this one.
        data: folder of the dataset, or folders by dataset.
        output: key, attribute or place of the logits in what the network returns; by default they are looked for.
        binary: the network has one channel, the logit of the second of two classes.
        incomplete: accept a checkpoint that lacks part of the network; that part has random weights.
        trust: load a TorchScript or torch.export file, which can run code.
        access: what the network gives, "gradients", "scores" or "labels"; None to find it out.
        substitutes: networks on which the attacks are made that need more than `model` gives.
        force: evaluate even where another input convention scores much better on clean images.
        track: trackers that hear of the run, such as "tensorboard".
        profile: tell the display how long each part took, and how much of that it waited for images.
        display: hears of progress.

    Raises:
        SegbenchError: an argument is wrong, the network does not fit the dataset, or another input convention scores
            much better.
    """
    name = name or (default_name(model) if isinstance(model, str) else _class_name(model))
    load, kept = (model, None) if isinstance(model, str) else _keep(model)
    network: dict[str, Any] = {
        "load": load,
        "weights": None if weights is None else str(weights),
        "convention": str(convention) if isinstance(convention, Path) else convention or {},
        "classes": str(classes) if isinstance(classes, Path) else classes,
        "name": name,
        "defense": defense,
        "output": output,
        "binary": binary,
        "incomplete": incomplete,
        "trust": trust,
        "access": access,
        "check": not force,
    }
    others, also_kept = _substitutes(substitutes, name, trust=trust)
    network["substitutes"] = [own["name"] for own in others]
    datasets = [dataset] if isinstance(dataset, str) else list(dataset)
    names = dict.fromkeys(specs.parse(each)[0] for each in datasets)
    folders = data if isinstance(data, Mapping) else {} if data is None else dict.fromkeys(names, data)
    content = {
        "title": f"{name} on {', '.join(datasets)}",
        "datasets": datasets,
        "networks": [network, *others],
        "attacks": list(attacks),
        "protocol": protocol,
        "split": split,
        "limit": limit,
        "attack_seed": seed,
        "report": {"metrics": list(metrics)},
        "runtime": {
            "store": str(store),
            "device": device,
            "workers": workers,
            "track": list(track),
            "profile": profile,
            "data": {key: str(path) for key, path in folders.items()},
        },
    }
    matrix = matrix_from_data(content, as_name(f"eval-{name}"))
    with contextlib.ExitStack() as stack:
        for own in (kept, *also_kept):
            stack.enter_context(_left_as_found(own))
        results = Store(matrix.runtime.store)
        plan = prepare.checked_plan(matrix, results, display.say)
        return run_plan(_beside_earlier(plan, results, display), display)


def _substitutes(
    models: Sequence[str | GivenNetwork], target: str, *, trust: bool
) -> tuple[list[dict[str, Any]], list[nn.Module | None]]:
    """Return entries of a matrix for substitutes, under names that are not the target's, and the networks to keep."""
    entries: list[dict[str, Any]] = []
    kept: list[nn.Module | None] = []
    taken = {target}
    for model in models:
        load, own = (model, None) if isinstance(model, str) else _keep(model)
        name = default_name(model) if isinstance(model, str) else _class_name(model)
        shown, number = name, 2
        while shown in taken:
            shown, number = f"{name}-{number}", number + 1
        taken.add(shown)
        entries.append({"load": load, "name": shown, "scored": False, "trust": trust})
        kept.append(own)
    return entries, kept


def _beside_earlier(plan: Plan, store: Store, display: Display) -> Plan:
    """Let a plan of one network join the report of its earlier evaluations, and never replace that of another one."""
    try:
        before = store.manifest(plan.matrix.name, filled=False)
    except StoreError as error:
        display.say(f"{error}; the report begins anew")
        return plan
    if before is None:
        return plan
    own = dict.fromkeys(evaluation.target.digest for evaluation in plan.evaluations)
    if {record.target.digest for record in before.records} == set(own):
        return replace(plan, earlier=before.records)
    name = as_name(f"{plan.matrix.name}-{next(iter(own))[:8]}")
    again = store.manifest(name, filled=False)
    matrix = plan.matrix.model_copy(update={"name": name})
    return replace(plan, matrix=matrix, earlier=() if again is None else again.records)


@put_aside()
def run_matrix(
    matrix: Matrix | str | Path,
    display: Display = SILENT,
    *,
    overrides: Sequence[str] = (),
    store: str | Path | None = None,
    device: str | None = None,
    workers: int | None = None,
    limit: int | None = None,
    data: Mapping[str, str | Path] | None = None,
    track: Sequence[str] | None = None,
) -> Result:
    """Check, plan and run a matrix; what its store holds already is not done again.

    Args:
        matrix: name of a built-in matrix, a YAML file, or a matrix that `segbench.config.load` has read.
        display: hears of progress.
        overrides: values that are laid over the file, such as "seeds=[0, 1]".
        store: folder of checkpoints and records.
        device: "auto", "cpu", "cuda" or "cuda:N".
        workers: processes on this machine.
        limit: score only so many of the first images.
        data: folders of datasets by name.
        track: trackers that hear of the run, such as "tensorboard".

    Raises:
        SegbenchError: the matrix is wrong, or data or networks are not what it needs.
        Stopped: the user asked to stop; what was done is kept.
    """
    if not isinstance(matrix, Matrix):
        options = {
            "--store": store,
            "--device": device,
            "--workers": workers,
            "--limit": limit,
            "--track": None if track is None else list(track),
        }
        matrix = load_matrix(str(matrix), overrides, options)
        if data:
            places = {**matrix.runtime.data, **{name: Path(folder) for name, folder in data.items()}}
            matrix = matrix.model_copy(update={"runtime": matrix.runtime.model_copy(update={"data": places})})
    plan = prepare.checked_plan(matrix, Store(matrix.runtime.store), display.say)
    return run_plan(plan, display)


def run_plan(plan: Plan, display: Display = SILENT) -> Result:
    """Run a plan and return what its store then holds; see `run_matrix`."""
    matrix = plan.matrix
    store = Store(matrix.runtime.store)
    with tracked(plan, store, display) as listener:
        execute.run(plan, store, matrix.runtime, listener)
        result = stored_result(store, matrix.name)
        if result is None:
            raise StoreError(f"{store.root}: what {matrix.name} asked for is gone; run it again")
        listener.report(result)
    return result


@put_aside()
def submit_matrix(matrix: Matrix, display: Display = SILENT) -> tuple[str, ...]:
    """Check and plan a matrix, hand what is left of it to SLURM, and return the numbers of SLURM's jobs.

    `run_matrix` of the same matrix waits for them and collects what they found.

    Raises:
        SegbenchError: the matrix is wrong, data or networks are not what it needs, its engine is not SLURM, or SLURM
            refuses the jobs.
    """
    store = Store(matrix.runtime.store)
    plan = prepare.checked_plan(matrix, store, display.say)
    return execute.submit(plan, store, matrix.runtime, display)


@put_aside()
def load_model(
    spec: str,
    *,
    num_classes: int | None = None,
    weights: str | Path | None = None,
    convention: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Return a network in eval mode: images (N, 3, H, W) in [0, 1] -> logits (N, C, H, W).

    Args:
        spec: what `segbench eval` takes, such as "file.py:factory" or "smp:unet?encoder_name=resnet34".
        num_classes: classes of a network that is built here; a file knows its own.
        weights: file of weights to load into it.
        convention: the input that it expects, where that differs from what its library says.

    Raises:
        SegbenchError: there is no such network, or the weights do not fit.
    """
    entry = external_network(
        {"load": spec, "weights": None if weights is None else str(weights), "convention": convention or {}}
    )
    return open_adapter(entry, num_classes)


def _keep(model: GivenNetwork) -> tuple[str, nn.Module]:
    """Put a network where this process's evaluations find it, as long as what is returned lives."""
    kept = as_network(model)
    key = uuid.uuid4().hex
    loaders.in_memory[key] = kept
    return f"memory:{key}", kept


def _class_name(model: GivenNetwork) -> str:
    return getattr(model, "__name__", type(model).__name__)


@contextlib.contextmanager
def _left_as_found(network: nn.Module | None) -> Iterator[None]:
    """Restore the modes of a network and what of it takes gradients."""
    parts = [] if network is None else [(part, part.training) for part in network.modules()]
    parameters = [] if network is None else [(own, own.requires_grad) for own in network.parameters()]
    try:
        yield
    finally:
        for part, training in parts:
            part.training = training
        for own, requires_grad in parameters:
            if own.requires_grad != requires_grad:  # a lazy parameter cannot be told
                own.requires_grad_(requires_grad)
