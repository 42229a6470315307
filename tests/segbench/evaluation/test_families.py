"""Tallies of a sweep: stored, resumed, of the worst part, and left out where they say nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segbench.config.matrix import Runtime
from segbench.errors import Stopped, StoreError
from segbench.evaluation.counting import pixels
from segbench.evaluation.families import Answers, possible, seen, tallied, together
from segbench.evaluation.sweep import run_sweep
from segbench.networks.load import load_network
from segbench.plan.plan import Plan
from segbench.protocols.whole import Whole
from segbench.reports.metrics.registry import measured
from segbench.reports.metrics.tallied import Tallied, wrong
from segbench.store import Store
from segbench.store.verify import check
from segbench.training.train import run_training

CPU = torch.device("cpu")
ALL = ("confidence", "boundary", "objects")


def swept(
    plan: Plan, store: Store, silent: type[Any], *, families: tuple[str, ...] = ALL, stop_at: int | None = None
) -> None:
    runtime = Runtime(eval_batch=2, checkpoint_every=1e9, keep_images=0, tallies=families)
    for cell in plan.trainings:
        run_training(cell, store, runtime, CPU, silent())
    for sweep in plan.sweeps:
        run_sweep(sweep, store, runtime, CPU, silent(stop_at))


@pytest.fixture
def plan(tiny_plan: Callable[..., Plan]) -> Callable[..., Plan]:
    def one(**changes: Any) -> Plan:
        whole = tiny_plan(**{"attacks": ["clean"], "defenses": ["none"], "transfer": None, **changes})
        first = whole.trainings[0]
        sweeps = tuple(s for s in whole.sweeps if s.source == first)
        return Plan(whole.matrix, (first,), tuple(c for s in sweeps for c in s.cells), sweeps)

    return one


def test_tallies_are_those_of_the_network_on_each_image(plan: Any, tmp_path: Path, silent: type[Any]) -> None:
    store, own = Store(tmp_path / "runs"), plan()
    swept(own, store, silent)
    (cell,) = own.evaluations
    record, counts, found = store.record(cell.digest), store.counts(cell.digest), store.tallies(cell.digest)
    assert record.tallied == ALL
    assert set(found) == set(ALL)
    assert wrong(Tallied(counts, "skip", found)) is None
    assert record.metrics == pytest.approx(measured(Tallied(counts, record.absent, found)), nan_ok=True)
    assert record.metrics["miou"] == pytest.approx(record.scores.miou)
    network, split = load_network(cell.target, store, CPU, 3, 255), cell.target.data.open().split("val")
    for index in range(len(split)):
        _, image, mask = split[index]
        with torch.no_grad():
            logits = network(image[None].float() / 255)
        answers, truth = Answers(logits.softmax(1), are_logits=False), seen(mask.long()[None], ALL, 3, 255)
        expected = {family: own[0] for family, own in tallied(ALL, logits.argmax(1), answers, truth).items()}
        np.testing.assert_array_equal(found["boundary"][index], expected["boundary"])
        np.testing.assert_array_equal(found["objects"][index], expected["objects"])
        np.testing.assert_allclose(found["confidence"][index], expected["confidence"], atol=0.01)


@pytest.mark.parametrize("classes", [1, 3, 255, 300])
def test_images_that_are_counted_together_are_counted_as_each_alone(classes: int) -> None:
    rng = np.random.default_rng(classes)
    void = 255 if classes <= 255 else -1
    masks = torch.from_numpy(rng.integers(0, classes, (5, 19, 27)))  # objects of few pixels
    masks[0], masks[1] = void, 0
    masks[2, 4:] = classes - 1
    masks[4][torch.from_numpy(rng.random((19, 27)) < 0.3)] = void
    logits = torch.from_numpy(rng.normal(0, 4, (5, classes, 19, 27))).float()
    logits[3].scatter_(0, masks[3][None], 30.0)

    def found(places: list[int]) -> dict[str, torch.Tensor]:
        layout = torch.channels_last if len(places) == 1 else torch.contiguous_format
        own, truth = logits[places].contiguous(memory_format=layout), seen(masks[places], ALL, classes, void)
        preds = own.max(1).indices
        tallies = tallied(ALL, preds, Answers(own, are_logits=True), truth)
        return {"counts": pixels(preds, truth.labels, classes, void), **tallies}

    whole, alone = found([0, 1, 2, 3, 4]), [found([place]) for place in range(5)]
    for family, own in whole.items():
        torch.testing.assert_close(own, torch.cat([one[family] for one in alone]), rtol=0, atol=0)
        assert not own[0].any()  # void everywhere
    arrays = {family: own.numpy() for family, own in whole.items()}
    assert wrong(Tallied(arrays.pop("counts"), "skip", arrays)) is None


def test_images_are_counted_together_as_long_as_they_have_one_size_and_few_scores() -> None:
    sizes = [(8, 8), (8, 8), (8, 9), (8, 8), (2048, 1024), (2048, 1024)]
    assert [sizes[group] for group in together(sizes, 19)] == [sizes[:2], sizes[2:3], sizes[3:4], sizes[4:5], sizes[5:]]
    assert [group.stop - group.start for group in together([(512, 512)] * 5, 8)] == [2, 2, 1]


def test_what_is_tallied_is_no_part_of_the_identity_and_records_say_it(
    plan: Any, tmp_path: Path, silent: type[Any]
) -> None:
    most, some = Store(tmp_path / "most"), Store(tmp_path / "some")
    swept(plan(), most, silent)
    swept(plan(), some, silent, families=("objects",))
    (cell,) = plan().evaluations
    whole, part = most.record(cell.digest), some.record(cell.digest)
    assert part.tallied == ("objects",)
    assert set(some.tallies(cell.digest)) == {"objects"}
    assert "ece" not in part.metrics
    assert part.metrics.items() <= whole.metrics.items()
    assert part.scores == whole.scores
    swept(plan(), some, silent)
    assert some.record(cell.digest) == part  # finished evaluations are not repeated for more tallies


def test_a_stopped_sweep_goes_on_with_the_same_tallies(plan: Any, tmp_path: Path, silent: type[Any]) -> None:
    whole, parts = Store(tmp_path / "whole"), Store(tmp_path / "parts")
    own = plan(attacks=["bim(steps=1)", "bim(steps=2)"])
    swept(own, whole, silent)
    with pytest.raises(Stopped):
        swept(own, parts, silent, stop_at=2)
    swept(own, parts, silent)
    for cell in own.evaluations:
        first, second = whole.tallies(cell.digest), parts.tallies(cell.digest)
        assert set(first) == set(second) == set(ALL)
        for family in ALL:
            np.testing.assert_array_equal(first[family], second[family])
        assert whole.record(cell.digest).metrics == parts.record(cell.digest).metrics


def test_a_stopped_sweep_of_other_tallies_starts_again(plan: Any, tmp_path: Path, silent: type[Any]) -> None:
    store, own = Store(tmp_path / "runs"), plan()
    with pytest.raises(Stopped):
        swept(own, store, silent, families=("objects",), stop_at=2)
    swept(own, store, silent)
    assert store.record(own.evaluations[0].digest).tallied == ALL


def test_an_ensemble_keeps_the_tallies_of_the_part_that_its_counts_are_of(
    plan: Any, tmp_path: Path, silent: type[Any]
) -> None:
    store, own = Store(tmp_path / "runs"), plan(attacks=["sea(steps=2)"])
    swept(own, store, silent)
    (cell,) = own.evaluations
    assert len(store.parts(cell.digest)) > 1
    # Bins and objects hold the right pixels of the same predictions as the counts.
    assert wrong(Tallied(store.counts(cell.digest), "skip", store.tallies(cell.digest))) is None


@pytest.mark.parametrize("protocol", ["ddcat-crop-v1(size=16, crop=8)", "sea-v2(size=16)", "whole-v1(size=[12, 20])"])
def test_under_every_protocol_the_merged_image_is_tallied(
    protocol: str, plan: Any, tmp_path: Path, silent: type[Any]
) -> None:
    store, own = Store(tmp_path / "runs"), plan(protocol=protocol)
    swept(own, store, silent)
    (cell,) = own.evaluations
    record = store.record(cell.digest)
    assert record.tallied == ALL
    assert wrong(Tallied(store.counts(cell.digest), record.absent, store.tallies(cell.digest))) is None


def test_votes_and_strange_protocols_have_no_confidence() -> None:
    class Votes(torch.nn.Module):
        has_confidence = False

    class Strange:
        def merge(self, scores: Any, crops: Any) -> None: ...

    assert possible(ALL, torch.nn.Identity(), Whole()) == ALL
    assert possible(ALL, Votes(), Whole()) == ("boundary", "objects")
    assert possible(ALL, torch.nn.Identity(), Strange()) == ("boundary", "objects")


def test_damaged_tallies_are_noticed_and_made_again(plan: Any, tmp_path: Path, silent: type[Any]) -> None:
    store, own = Store(tmp_path / "runs"), plan()
    swept(own, store, silent)
    (cell,) = own.evaluations
    path = store.eval_dir(cell.digest) / "tallies.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + b"damaged!!")
    with pytest.raises(StoreError, match=r"tallies.npz: damaged"):
        store.tallies(cell.digest)
    assert any("tallies.npz" in damage.what for damage in check(store.root).damages)
    swept(own, store, silent)
    assert path.read_bytes() == whole
    assert not any("tallies.npz" in damage.what for damage in check(store.root).damages)


def test_a_record_whose_metrics_are_not_those_of_its_tallies_is_noticed(
    plan: Any, tmp_path: Path, silent: type[Any]
) -> None:
    store, own = Store(tmp_path / "runs"), plan()
    swept(own, store, silent)
    (cell,) = own.evaluations
    record, counts, names = store.record(cell.digest), store.counts(cell.digest), store.image_names(cell.digest)
    forged = record.model_copy(update={"metrics": {**record.metrics, "ece": 0.0}})
    store.write_record(forged, counts, names, tallies=store.tallies(cell.digest))
    assert any("ece is 0.0, and its tallies give" in damage.what for damage in check(store.root).damages)
    store.write_record(record, counts, names)
    assert not (store.eval_dir(cell.digest) / "tallies.npz").exists()
    assert any("and there is nothing" in damage.what for damage in check(store.root).damages)
