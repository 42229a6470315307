"""The Python interface: evaluate, attack, predict and load networks."""

from __future__ import annotations

import contextlib
import copy
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segbench.attacks.base import BoundAttack
from segbench.attacks.tools.budget import check_budget
from segbench.attacks.tools.guard import guarded, prepared
from segbench.attacks.tools.noise import Generators, per_image
from segbench.components import specs
from segbench.config.load import load_matrix, matrix_from_data
from segbench.config.matrix import Matrix
from segbench.config.names import as_name
from segbench.config.network import Convention, NetworkAccess, default_name, external_network
from segbench.datasets.base import VOID
from segbench.errors import SegbenchError, StoreError
from segbench.evaluation.training_data import context_of_call
from segbench.execution import execute, prepare
from segbench.execution.execute import SILENT, Display
from segbench.networks import loaders
from segbench.networks.adapter import Adapter
from segbench.networks.factories import as_network
from segbench.networks.load import open_adapter
from segbench.plan.plan import Plan
from segbench.protocols.base import EvaluationProtocol
from segbench.result import Result, stored_result
from segbench.store import Store
from segbench.tracking.listener import tracked

__all__ = ["Result", "attack", "evaluate", "load_model", "predict", "run_matrix"]

GivenNetwork = nn.Module | Callable[[Tensor], Any]


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


def attack(
    model: GivenNetwork,
    images: Tensor,
    masks: Tensor,
    attack: str,
    *,
    ignore_index: int = 255,
    generator: torch.Generator | Generators | None = None,
    class_pixels: Tensor | None = None,
    perturbation: Tensor | None = None,
) -> Tensor:
    """Return adversarial images (N, 3, H, W), after checking that they keep their budget.

    Args:
        model: network, images in [0, 1] -> logits, or what holds them; see `docs/your-model.md`.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W), whole numbers of any type.
        attack: the attack with its options, such as "segpgd(eps=4/255)".
        ignore_index: label of void pixels.
        generator: source of the attack's randomness: one generator, or one for each image.
        class_pixels: (C,) number of training pixels of each class, which "sea" and "standard" weigh classes by. None
            counts the masks, with a warning.
        perturbation: (3, H, W), what "universal" adds. None fits it on these images, with a warning.

    Raises:
        SegbenchError: the attack or an option is not known, or images or masks are not what is said here.
    """
    bound = specs.bound("attack", attack).attack()
    try:
        network = Adapter(model, Convention(), None)
        _labels_fit(network, images, masks, ignore_index)
        context = context_of_call(
            bound,
            network,
            images,
            masks,
            class_pixels=class_pixels,
            perturbation=perturbation,
            batch=len(images),
            ignore_index=ignore_index,
        )
        if bound.attack.region is not None:
            generator = per_image(generator, len(images))
        allowed = bound.allowed(images, masks, ignore_index=ignore_index, generator=generator)
        adversarial = bound(network, images, masks, ignore_index=ignore_index, generator=generator, **context)
    except ValueError as error:
        raise SegbenchError(f"attack: {error}") from error
    check_budget(adversarial, images, bound.threat, allowed=allowed)
    return adversarial


def _labels_fit(network: nn.Module, images: Tensor, masks: Tensor, ignore_index: int) -> None:
    """See that masks hold no label beyond the classes of a network, which losses would stumble over.

    Raises:
        ValueError: they do, or images and masks are not what an attack takes.
    """
    with prepared({"model": network, "images": images, "masks": masks, "ignore_index": ignore_index}):
        with torch.no_grad():
            logits = network(images[:1])
        if not logits.isfinite().all():
            raise ValueError(
                "the network answers with values that are not finite, which no attack can follow; give a class that it "
                "does not know a low logit, such as -1e4"
            )
        count = logits.shape[1]
        highest = int(masks.masked_fill(masks == ignore_index, 0).max())
    if highest >= count:
        raise ValueError(
            f"masks hold the label {highest}, but the network has {count} classes, counted from 0; void is "
            f"{ignore_index} (ignore_index)"
        )


def predict(
    model: nn.Module,
    image: Tensor,
    *,
    protocol: str | EvaluationProtocol = "whole-v1",
    masks: Tensor | None = None,
    attack: str | BoundAttack | None = None,
    seed: int = 0,
    batch: int = 4,
    class_pixels: Tensor | None = None,
    perturbation: Tensor | None = None,
) -> Tensor:
    """Return the label map of one image under a protocol, after an attack if one is given.

    The model runs in eval mode where its parameters are, and is left as it was found. The label map has the image's
    size, unless the protocol scores at another: "sea-v2" at its crop, "ddcat-crop-v1" at a `size` of two numbers.

    Args:
        model: network, images (N, 3, H, W) in [0, 1] -> logits (N, C, H, W).
        image: (3, H, W), uint8 or float in [0, 1].
        protocol: a protocol, or its name with options such as "ddcat-crop-v1(crop=449)".
        masks: (H, W) labels, 255 where void; an attack needs them.
        attack: an attack with its options, or a short string such as "bim(steps=2)".
        seed: of the attack's randomness.
        batch: number of crops that are attacked and predicted at once.
        class_pixels: (C,) number of training pixels of each class, which "sea" and "standard" weigh classes by. None
            counts the masks, with a warning.
        perturbation: (3, H, W) of a crop, what "universal" adds. None fits it on the crops, with a warning.

    Raises:
        SegbenchError: a name or an option is not known, the image or the masks are not what is said here, or an attack
            is given without masks.
    """
    for name, value in (("image", image), ("masks", masks)):
        if not isinstance(value, Tensor | None):
            raise SegbenchError(f"predict: {name} is a tensor, got {type(value).__name__}")
    if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        raise SegbenchError(f"predict: image is (3, height, width), got {tuple(image.shape)}")
    if image.dtype != torch.uint8 and not (image.is_floating_point() and image.min() >= 0 and image.max() <= 1):
        raise SegbenchError(
            f"predict: image is uint8, or float in [0, 1], got {image.dtype} from {image.min():g} to {image.max():g}; "
            "divide 0-255 values by 255"
        )
    if masks is not None and masks.shape != image.shape[1:]:
        raise SegbenchError(f"predict: masks is {tuple(image.shape[1:])} as the image, got {tuple(masks.shape)}")
    if attack is not None and masks is None:
        raise SegbenchError("predict: an attack needs masks, the labels that it leads away from")
    procedure: EvaluationProtocol = specs.bound("protocol", protocol).make() if isinstance(protocol, str) else protocol
    made = specs.bound("attack", attack).attack() if isinstance(attack, str) else attack
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    labels = torch.full(image.shape[1:], VOID) if masks is None else masks
    crops = procedure.crops(image.cpu(), labels.cpu())
    network = procedure.network(model)
    generator = torch.Generator().manual_seed(seed)
    scores = []
    with guarded(network, device):
        context: dict[str, Any] = {}
        if made is not None:
            try:
                context = context_of_call(
                    made,
                    network,
                    crops.images.to(device),
                    crops.masks.to(device),
                    class_pixels=class_pixels,
                    perturbation=perturbation,
                    batch=batch,
                    ignore_index=VOID,
                )
            except ValueError as error:
                raise SegbenchError(f"predict: {error}") from error
        for start in range(0, len(crops.images), batch):
            images = crops.images[start : start + batch].to(device)
            if made is not None:
                own = crops.masks[start : start + batch].to(device)
                drawn = generator if made.attack.region is None else per_image(generator, len(images))
                try:
                    allowed = made.allowed(images, own, generator=drawn)
                    adversarial = made(network, images, own, generator=drawn, **context)
                except ValueError as error:
                    raise SegbenchError(f"predict: {error}") from error
                check_budget(adversarial, images, made.threat, allowed=allowed)
                images = adversarial
            scores.append(procedure.scores(model, images, attacked=made is not None and made.threat.access != "none"))
    return procedure.merge(torch.cat(scores), crops).cpu()


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
    """Put a copy of a network where this process's evaluations find it, as long as the copy lives."""
    kept = _copied(model) if isinstance(model, nn.Module) else as_network(model)
    key = uuid.uuid4().hex
    loaders.in_memory[key] = kept
    return f"memory:{key}", kept


def _class_name(model: GivenNetwork) -> str:
    return getattr(model, "__name__", type(model).__name__)


def _copied(network: nn.Module) -> nn.Module:
    """Return a copy of a network, or the network itself where it cannot be copied."""
    try:
        return copy.deepcopy(network)
    except Exception:  # tensors that are no leaves, locks, handles: whatever a network holds
        return network


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
            own.requires_grad_(requires_grad)
