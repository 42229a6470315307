"""Networks with a defense at inference, scored against loops that do by hand what the records claim."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from segbench.attacks.base import BoundAttack
from segbench.config.matrix import Runtime
from segbench.defenses.base import ABSTAIN
from segbench.errors import Stopped
from segbench.evaluation import results, tally
from segbench.evaluation.anticipating import Anticipating
from segbench.evaluation.sweep import run_sweep
from segbench.networks.load import load_network
from segbench.plan.evaluations import EvalCell
from segbench.plan.plan import Plan, group
from segbench.seeding import generator
from segbench.store import Store
from segbench.training.train import run_training

CPU = torch.device("cpu")
RUNTIME = Runtime(checkpoint_every=1e9, keep_images=2)
MODEL = {"name": "pspnet", "encoder": "tiny", "widths": [4, 4, 6, 6], "bins": [1, 2], "channels": 4}


@pytest.fixture
def plan(tiny_plan: Callable[..., Plan]) -> Plan:
    defenses = [
        "bit-depth(bits=2)",
        "randomized-smoothing(sigma=0.05, samples=2, counting=60)",
        "teacher-student(lr=0.3)",
        "teacher-student-vote(lr=0.3)",
    ]
    attacks = ["clean", "bim(steps=1)", "bim(steps=3)", "sea(steps=3)"]
    recipe = {"optimizer": "adamw", "lr": 0.01, "batch_size": 4, "iterations": 12}
    return tiny_plan(models=[MODEL], defenses=defenses, attacks=attacks, transfer=None, recipe=recipe)


@pytest.fixture
def store(plan: Plan, tmp_path: Path, silent: type[Any], trainings: Path) -> Store:
    for cell in plan.trainings:
        run_training(cell, Store(trainings), RUNTIME, CPU, silent())
    return copy_of(trainings, tmp_path / "scored")


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks are trained once for all tests of this module."""
    return tmp_path_factory.mktemp("trained")


def copy_of(trainings: Path, folder: Path) -> Store:
    shutil.copytree(trainings / "train", folder / "train")
    return Store(folder)


def evaluate(store: Store, cells: list[EvalCell], reporter: Any, *, batch: int = 2) -> None:
    for sweep in group(cells):
        run_sweep(sweep, store, RUNTIME.model_copy(update={"eval_batch": batch}), CPU, reporter)


def cells_of(plan: Plan, defense: str, attack: str, *, oblivious: bool = False) -> list[EvalCell]:
    return [
        c
        for c in plan.evaluations
        if c.target.defense.name == defense and c.attack.name == attack and c.oblivious == oblivious
    ]


def samples(cell: EvalCell) -> list[tuple[int, Tensor, Tensor]]:
    split = cell.target.data.open().split(cell.split)
    return [(i, split[i].image[None].float() / 255, split[i].mask[None].long()) for i in range(len(split))]


def deployed(store: Store, cell: EvalCell) -> Any:
    return load_network(cell.target, store, CPU, 3, 255)


def attacked(
    attack: BoundAttack, network: Any, index: int, images: Tensor, masks: Tensor, class_pixels: Tensor | None = None
) -> Tensor:
    source = generator(0, attack.attack.name, index, 0)
    made = attack(network, images, masks, ignore_index=255, generator=[source], class_pixels=class_pixels)
    return made.to(memory_format=torch.channels_last)


def confusion(network: Any, images: Tensor, masks: Tensor) -> np.ndarray:
    with torch.no_grad():
        preds = network(images)[0].argmax(0)
    return tally.confusion(preds, masks[0], 3, 255)


@pytest.mark.parametrize("oblivious", [False, True])
def test_an_oblivious_attack_is_made_on_the_plain_network_and_scored_on_the_deployed_one(
    plan: Plan, store: Store, silent: type[Any], oblivious: bool
) -> None:
    cells = cells_of(plan, "bit-depth", "bim", oblivious=oblivious)
    evaluate(store, cells, silent(), batch=1)
    network = deployed(store, cells[0])
    source = network.plain if oblivious else network
    for cell in cells:
        attack = cell.attack.attack()
        expected = [confusion(network, attacked(attack, source, *sample), sample[2]) for sample in samples(cell)]
        np.testing.assert_array_equal(store.counts(cell.digest), expected)
        record = store.record(cell.digest)
        assert record is not None
        assert (record.adaptive, record.setting, record.dynamic) == (not oblivious, "white-box", False)
        steps = cell.attack.options["steps"]
        assert record.passes == {"forward": 5 * steps, "backward": 5 * steps}


def test_the_two_attackers_make_other_images(plan: Plan, store: Store) -> None:
    cell = cells_of(plan, "bit-depth", "bim")[-1]
    network, attack = deployed(store, cell), cell.attack.attack()
    index, images, masks = samples(cell)[0]
    through, around = (attacked(attack, source, index, images, masks) for source in (network, network.plain))
    assert not torch.equal(through, around)


def test_sanity_is_measured_on_what_is_deployed_only(plan: Plan, store: Store, silent: type[Any]) -> None:
    around, through = (cells_of(plan, "bit-depth", "bim", oblivious=o) for o in (True, False))
    evaluate(store, around, silent())
    assert store.measured(around[0].target.digest) is None
    evaluate(store, through, silent())
    assert store.measured(around[0].target.digest) is not None


def test_certificates_are_scored_as_the_definition_says(plan: Plan, store: Store, silent: type[Any]) -> None:
    (cell,) = cells_of(plan, "randomized-smoothing", "clean")
    with pytest.raises(Stopped):
        evaluate(store, [cell], silent(stop_at=2))
    evaluate(store, [cell], silent())
    network = deployed(store, cell)
    labels, truth = [], []
    for index, images, masks in samples(cell):
        certificate = network.certify(images, [generator(0, "certify", index, 0)])
        labels.append(certificate.labels)
        truth.append(masks)
    record = store.record(cell.digest)
    assert record is not None
    expected = certified_scores(torch.cat(labels), torch.cat(truth))
    assert 0 < expected["abstained"] < 100
    assert record.extras == pytest.approx({**expected, "certified_radius": certificate.radius})
    (attacked_cell, _) = cells_of(plan, "randomized-smoothing", "bim")
    evaluate(store, [attacked_cell], silent())
    assert store.record(attacked_cell.digest).extras == {}


def certified_scores(labels: Tensor, truth: Tensor) -> dict[str, float]:
    """Score certified labels of three classes, class by class; a pixel without a certificate is wrong."""
    valid = truth != 255
    labels, truth = labels[valid], truth[valid]
    ious = []
    for label in range(3):
        both, either = ((labels == label) & (truth == label)).sum(), ((labels == label) | (truth == label)).sum()
        ious += [float(both / either)] if either else []
    return {
        "certified_miou": 100 * float(np.mean(ious)),
        "certified_aacc": 100 * float((labels == truth).float().mean()),
        "abstained": 100 * float((labels == ABSTAIN).float().mean()),
    }


def test_confusion_of_certificates_by_hand() -> None:
    labels = torch.tensor([[0, ABSTAIN, 1], [ABSTAIN, 2, 1]])
    masks = torch.tensor([[0, 1, 2], [255, 255, 1]])
    counts = tally.certified_confusion(labels, masks, 3, 255).numpy()
    np.testing.assert_array_equal(counts, [[1, 1, 0], [1, 2, 0], [1, 2, 1]])
    found = results.certificates(counts, 0.1, "skip")
    # IoU 1/1, 1/3, 0/1; of four valid pixels two are right and one has no certificate.
    iou = (1 + 1 / 3 + 0) / 3
    assert found == pytest.approx(
        {"certified_miou": 100 * iou, "certified_aacc": 50, "certified_radius": 0.1, "abstained": 25}
    )


@pytest.mark.parametrize("defense", ["teacher-student", "teacher-student-vote"])
@pytest.mark.parametrize("oblivious", [False, True])
def test_a_dynamic_defense_meets_the_images_one_by_one_and_takes_each_in_before_it_answers(
    plan: Plan, store: Store, silent: type[Any], defense: str, oblivious: bool
) -> None:
    cells = cells_of(plan, defense, "bim", oblivious=oblivious)
    evaluate(store, cells, silent(), batch=5)
    for cell in cells:
        network, attack = deployed(store, cell), cell.attack.attack()
        expected = []
        for index, images, masks in samples(cell):
            seen = network.plain if oblivious else Anticipating(network, lambda adapted: adapted)
            made = attacked(attack, seen, index, images, masks)
            network.adapt(made)
            expected.append(confusion(network, made, masks))
        np.testing.assert_array_equal(store.counts(cell.digest), expected)
        record = store.record(cell.digest)
        assert record is not None
        assert record.dynamic


@pytest.mark.parametrize(
    ("defense", "order"), [("teacher-student", torch.contiguous_format), ("bit-depth", torch.channels_last)]
)
def test_narrow_weights_lie_in_the_order_in_which_their_gradients_are_safe(
    plan: Plan, store: Store, defense: str, order: torch.memory_format
) -> None:
    network = deployed(store, cells_of(plan, defense, "clean")[0])
    convolutions = [weights for weights in network.parameters() if weights.ndim == 4]
    assert all(weights.is_contiguous(memory_format=order) for weights in convolutions)


def test_what_a_dynamic_defense_saw_before_counts(plan: Plan, store: Store, silent: type[Any]) -> None:
    (cell,) = cells_of(plan, "teacher-student", "clean")
    evaluate(store, [cell], silent())
    network = deployed(store, cell)
    frozen = [confusion(network, images, masks) for _, images, masks in samples(cell)]
    assert not np.array_equal(store.counts(cell.digest), frozen)


def test_a_stopped_sweep_of_a_dynamic_defense_starts_again(
    plan: Plan, store: Store, silent: type[Any], tmp_path: Path
) -> None:
    cell = cells_of(plan, "teacher-student", "bim")[-1]
    with pytest.raises(Stopped):
        evaluate(store, [cell], silent(stop_at=3))
    listener = silent()
    evaluate(store, [cell], listener, batch=4)
    assert [(told[0], "probes" in told[2]) for told in listener.heard] == [
        *((n, False) for n in range(6)),
        (5, True),
    ]
    whole = copy_of(store.root, tmp_path / "whole")
    evaluate(whole, [cell], silent(), batch=2)
    np.testing.assert_array_equal(store.counts(cell.digest), whole.counts(cell.digest))


@pytest.mark.slow
def test_of_an_ensemble_a_dynamic_defense_sees_the_worst_part_alone(
    plan: Plan, store: Store, silent: type[Any]
) -> None:
    (cell,) = cells_of(plan, "teacher-student", "sea")
    evaluate(store, [cell], silent())
    assert len(store.parts(cell.digest)) == 1
    network, attack = deployed(store, cell), cell.attack.attack()
    train_split = cell.target.data.open().split("train")
    labels = torch.cat([train_split[i].mask.flatten() for i in range(len(train_split))]).long()
    class_pixels = torch.stack([(labels == c).sum() for c in range(3)])
    expected = []
    for index, images, masks in samples(cell):
        made = attacked(attack, Anticipating(network, lambda adapted: adapted), index, images, masks, class_pixels)
        network.adapt(made)
        expected.append(confusion(network, made, masks))
    np.testing.assert_array_equal(store.counts(cell.digest), expected)
