from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from segbench.attacks.base import attack
from segbench.attacks.tools.budget import BudgetExceeded
from segbench.components.specs import Bound
from segbench.config.matrix import Runtime
from segbench.errors import CellError, Stopped
from segbench.evaluation import batching, opened, tally
from segbench.evaluation.sweep import run_sweep
from segbench.networks.load import load_network
from segbench.plan.evaluations import EvalCell
from segbench.plan.networks import TrainCell
from segbench.plan.plan import Plan, Sweep
from segbench.protocols.base import Crops
from segbench.store import Store
from segbench.training.train import run_training

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)


def sweep_into(
    store: Store,
    sweep: Sweep,
    reporter: Any,
    *,
    batch: int | None = 2,
    every: float = 1e9,
    device: torch.device = CPU,
    **options: Any,
) -> None:
    runtime = Runtime(eval_batch=batch, checkpoint_every=every, keep_images=2, **options)
    run_sweep(sweep, store, runtime, device, reporter)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, silent: type[Any]) -> Callable[[TrainCell], Path]:
    """Train a cell once for all tests of this module and return the folder of its store."""
    root = tmp_path_factory.mktemp("trained")

    def ensure(cell: TrainCell) -> Path:
        run_training(cell, Store(root), Runtime(checkpoint_every=1e9), CPU, silent())
        return root

    return ensure


@pytest.fixture
def plan_and_store(
    tiny_plan: Callable[..., Plan], trained: Callable[[TrainCell], Path], tmp_path: Path
) -> tuple[Plan, Callable[[str], Store]]:
    plan = tiny_plan()
    for cell in plan.trainings:
        root = trained(cell)

    def store(name: str) -> Store:
        made = tmp_path / name
        made.mkdir()
        (made / "train").symlink_to(root / "train")
        return Store(made)

    return plan, store


def numbers(store: Store, digest: str) -> dict[str, Any]:
    record = store.record(digest)
    assert record is not None
    assert record.status == "done"
    return record.model_dump(mode="json", exclude={"provenance"})


def test_swept_and_separate_evaluation_give_the_same_records(
    plan_and_store: tuple[Plan, Callable[[str], Store]], silent: type[Any]
) -> None:
    plan, make = plan_and_store
    swept, separate = make("swept"), make("separate")
    for sweep in plan.sweeps:
        sweep_into(swept, sweep, silent())
        for cell in sweep.cells:
            sweep_into(separate, Sweep(cell.source, (cell,)), silent())
    for cell in plan.evaluations:
        assert numbers(swept, cell.digest) == numbers(separate, cell.digest), cell.label
        np.testing.assert_array_equal(swept.counts(cell.digest), separate.counts(cell.digest))


def test_counts_are_those_of_a_slow_loop(
    plan_and_store: tuple[Plan, Callable[[str], Store]], silent: type[Any]
) -> None:
    plan, make = plan_and_store
    store = make("counted")
    cell = next(c for c in plan.evaluations if c.setting == "clean")
    sweep_into(store, Sweep(cell.source, (cell,)), silent())
    network = load_network(cell.target, store, CPU, 3, 255)
    split = cell.target.data.open().split("val")
    expected = np.zeros((len(split), 3, 3), dtype=int)
    for index in range(len(split)):
        _, image, mask = split[index]
        with torch.no_grad():
            preds = network(image[None].float() / 255)[0].argmax(0)
        for pred, true in zip(preds.flatten().tolist(), mask.flatten().tolist(), strict=True):
            if true != 255:
                expected[index, 0, true] += pred == true
                expected[index, 1, pred] += 1
                expected[index, 2, true] += 1
    counts = store.counts(cell.digest)
    np.testing.assert_array_equal(counts, expected)
    total = expected.sum(0)
    iou = total[0] / (total[1] + total[2] - total[0])
    record = store.record(cell.digest)
    assert record is not None
    assert record.scores is not None
    assert record.scores.miou == pytest.approx(100 * iou.mean())


def test_the_measurements_of_a_source_do_not_depend_on_what_was_done_before(
    plan_and_store: tuple[Plan, Callable[[str], Store]], silent: type[Any]
) -> None:
    plan, make = plan_and_store
    sweep = next(s for s in plan.sweeps if s.watched is not None and len(s.cells) > 1)
    path = make("plain").train_dir(sweep.source.digest) / "sanity.json"

    def measured(store: Store, cells: Sequence[EvalCell] = sweep.cells) -> bytes:
        path.unlink(missing_ok=True)
        sweep_into(store, replace(sweep, cells=tuple(cells)), silent())
        return path.read_bytes()

    whole = make("undisturbed")
    expected = measured(whole)
    assert len(json.loads(expected)["trajectory"]) > 1
    assert measured(whole, sweep.cells[:1]) == expected, "the file was lost when all records were there"
    stopped = make("stopped")
    with pytest.raises(Stopped):
        sweep_into(stopped, sweep, silent(stop_at=2))
    assert measured(stopped) == expected
    fewest = min(sweep.cells, key=lambda cell: cell.attack.options["steps"])
    partly = make("partly")
    sweep_into(partly, replace(sweep, cells=tuple(c for c in sweep.cells if c is not fewest)), silent())
    assert measured(partly, [fewest]) == expected, "only a cell of fewer steps was left"


@pytest.mark.parametrize(
    ("stop", "kept"),
    [
        pytest.param({"stop_at": 2}, 2, id="between two chunks"),
        pytest.param({"checks": 5}, 2, id="inside the second chunk"),
        pytest.param({"checks": 2}, 0, id="inside the first chunk"),
    ],
)
def test_a_stopped_sweep_goes_on_with_the_same_numbers(
    plan_and_store: tuple[Plan, Callable[[str], Store]], silent: type[Any], stop: dict[str, int], kept: int
) -> None:
    plan, make = plan_and_store
    whole, parts = make("whole"), make("parts")
    sweep = next(s for s in plan.sweeps if s.attack.name == "bim" and len(s.targets) > 1)
    sweep_into(whole, sweep, silent())
    with pytest.raises(Stopped):
        sweep_into(parts, sweep, silent(**stop))
    assert not any(parts.evaluated(cell.digest) for cell in sweep.cells)
    listener = silent()
    sweep_into(parts, sweep, listener)
    assert [told[0] for told in listener.heard[:2]] == [kept, kept + 2]
    for cell in sweep.cells:
        assert numbers(whole, cell.digest) == numbers(parts, cell.digest)
        images, again = (
            {path.name: path.read_bytes() for path in (store.eval_dir(cell.digest) / "images").iterdir()}
            for store in (whole, parts)
        )
        assert len(images) == 2
        assert images == again


def test_the_batch_size_changes_nothing_that_is_scored(
    plan_and_store: tuple[Plan, Callable[[str], Store]], silent: type[Any]
) -> None:
    plan, make = plan_and_store
    two, five = make("two"), make("five")
    sweep = next(s for s in plan.sweeps if s.attack.name == "bim")
    sweep_into(two, sweep, silent(), batch=2)
    sweep_into(five, sweep, silent(), batch=5)
    for cell in sweep.cells:
        # Kernels may round otherwise for another batch size; a pixel on the fence may then tip over.
        difference = np.abs(two.counts(cell.digest) - five.counts(cell.digest)).sum()
        assert difference <= 0.01 * five.counts(cell.digest).sum()


def test_where_memory_ends_the_sweep_goes_on_with_fewer_images_at_once(
    plan_and_store: tuple[Plan, Callable[[str], Store]], silent: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, make = plan_and_store
    two, short = make("two"), make("short")
    sweep = next(s for s in plan.sweeps if s.attack.name == "bim" and len(s.targets) > 1)
    sweep_into(two, sweep, silent(), batch=2)
    largest = []

    def small(*of: Any) -> nn.Module:
        def limit(module: nn.Module, inputs: Any) -> None:
            largest.append(len(inputs[0]))
            if len(inputs[0]) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

        network = load_network(*of)
        network.register_forward_pre_hook(limit)
        return network

    monkeypatch.setattr(opened, "load_network", small)
    sweep_into(short, sweep, silent(), batch=None)
    assert max(largest) == 5
    for cell in sweep.cells:
        assert numbers(two, cell.digest)["passes"] == numbers(short, cell.digest)["passes"]
        np.testing.assert_array_equal(two.counts(cell.digest), short.counts(cell.digest))


def test_nothing_waits_for_the_device_while_an_attack_goes_its_steps(
    plan_and_store: tuple[Plan, Callable[[str], Store]], silent: type[Any], pretended_gpu: Any
) -> None:
    plan, make = plan_and_store
    counts = []
    for steps in (1, 3):
        cell = next(c for c in plan.evaluations if c.setting == "white-box" and c.attack.options["steps"] == steps)
        store = make(f"waits-{steps}")
        sweep = Sweep(cell.source, (cell,))
        with pretended_gpu:
            sweep_into(store, sweep, silent(), device=GPU)  # what is remembered of the network costs no more
            for path in (store.root / "eval").rglob("record.json"):
                path.unlink()
            pretended_gpu.waits.clear()
            sweep_into(store, sweep, silent(), device=GPU)
        counts.append(pretended_gpu.waits.total())
    assert counts[0] == counts[1] > 0


@pytest.mark.slow
def test_a_gpu_gives_the_records_of_a_cpu(
    tiny_plan: Callable[..., Plan], tmp_path: Path, silent: type[Any], pretended_gpu: Any
) -> None:
    certified = {"name": "randomized-smoothing", "samples": 2, "picking": 2, "counting": 9}
    attacks = ["clean", "hide(source=0, steps=2)", "universal(epochs=1)"]
    plan = tiny_plan(attacks=attacks, defenses=["none", certified], transfer=None)
    every = {"tallies": ["confidence", "boundary", "objects"]}
    cpu, gpu = (Store(tmp_path / name) for name in ("cpu", "gpu"))
    for cell in plan.trainings:
        run_training(cell, cpu, Runtime(), CPU, silent())
    gpu.root.mkdir()
    (gpu.root / "train").symlink_to(cpu.root / "train")
    for sweep in plan.sweeps:
        sweep_into(cpu, sweep, silent(), **every)
        with pretended_gpu:
            sweep_into(gpu, sweep, silent(), device=GPU, **every)
        for cell in sweep.cells:
            assert numbers(gpu, cell.digest) == numbers(cpu, cell.digest)
            for name, counts in cpu.tallies(cell.digest).items():
                np.testing.assert_array_equal(counts, gpu.tallies(cell.digest)[name])


def test_records_say_what_was_used(plan_and_store: tuple[Plan, Callable[[str], Store]], silent: type[Any]) -> None:
    plan, make = plan_and_store
    store = make("said")
    sweep = next(s for s in plan.sweeps if s.attack.name == "bim" and len(s.targets) > 1)
    sweep_into(store, sweep, silent())
    for cell in sweep.cells:
        record = store.record(cell.digest)
        assert record is not None
        steps = cell.attack.options["steps"]
        assert record.passes == {"forward": 5 * steps, "backward": 5 * steps}
        assert record.budget_used == pytest.approx(min(0.01 * steps, 0.03), abs=1e-6)
        assert record.n_images == 5
        assert record.classes == ("background", "0", "1")
        assert record.target.weights_sha256 == store.weights_sha256(cell.target.digest)
        assert record.source.weights_sha256 == store.weights_sha256(cell.source.digest)
        assert {"versions", "device", "threads", "sweep_seconds", "waiting_seconds"} <= set(record.provenance)


def test_curves_begin_at_the_clean_images_and_end_with_the_passes(
    plan_and_store: tuple[Plan, Callable[[str], Store]], silent: type[Any]
) -> None:
    plan, make = plan_and_store
    store = make("curves")
    for sweep in plan.sweeps:
        sweep_into(store, sweep, silent())
    records = [store.record(cell.digest) for cell in plan.evaluations]
    clean = {record.target.digest: record.scores for record in records if record and record.setting == "clean"}
    found = 0
    for record in records:
        assert record is not None
        if record.setting == "white-box" and record.attack.name == "bim":
            assert record.curve[0] == (1, clean[record.target.digest].miou)
            assert record.curve[-1][0] == record.attack.options["steps"]
            found += 1
        elif record.setting != "white-box":
            assert record.curve == ()
    assert found


def test_a_limit_takes_the_first_images(
    tiny_plan: Callable[..., Plan], trained: Callable[[TrainCell], Path], silent: type[Any]
) -> None:
    plan = tiny_plan(limit=3)
    cell = plan.evaluations[0]
    store = Store(trained(cell.target))
    sweep_into(store, Sweep(cell.source, (cell,)), silent())
    counts = store.counts(cell.digest)
    assert counts is not None
    assert len(counts) == 3


def test_an_attack_that_exceeds_its_budget_is_caught(
    plan_and_store: tuple[Plan, Callable[[str], Store]], silent: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    @attack("cheat")
    def cheat(model: Any, images: Any, masks: Any, *, eps: float = 0.03) -> torch.Tensor:
        return (images + 2 * eps).clamp(0, 1)

    plan, make = plan_and_store
    sweep = next(s for s in plan.sweeps if s.attack.name == "clean")
    monkeypatch.setattr(Bound, "attack", lambda bound: cheat.bind())
    with pytest.raises(BudgetExceeded, match="linf distance"):
        sweep_into(make("cheated"), sweep, silent())


def test_confusion_skips_void_and_refuses_unknown_labels() -> None:
    truth = torch.tensor([[0, 1, 255], [2, 2, 255]])
    preds = torch.tensor([[0, 2, 1], [2, 0, 0]])
    expected = [[1, 0, 1], [2, 0, 2], [1, 1, 2]]
    np.testing.assert_array_equal(tally.confusion(preds, truth, 3, 255), expected)
    with pytest.raises(CellError, match="holds label 2, but there are 2 classes"):
        tally.confusion(preds, truth, 2, 255)


def test_packs_hold_one_size_and_no_more_than_the_batch() -> None:
    def crops(pieces: int, size: int) -> Crops:
        return Crops(
            torch.zeros(pieces, 3, size, size), torch.zeros(pieces, size, size).long(), torch.zeros(size, size).long()
        )

    images = [crops(1, 8), crops(2, 4), crops(1, 8), crops(1, 8), crops(9, 8)]
    found = list(batching.packs(images, 2))
    assert sorted(member for pack in found for member in pack) == [0, 1, 2, 3, 4]
    assert sorted(map(sorted, found)) == [[0, 2], [1], [3], [4]]


def test_kept_images_are_what_was_attacked_and_scored(
    plan_and_store: tuple[Plan, Callable[[str], Store]], silent: type[Any]
) -> None:
    plan, make = plan_and_store
    store = make("kept")
    sweep = next(s for s in plan.sweeps if s.attack.name == "bim" and len(s.targets) > 1)
    sweep_into(store, sweep, silent())
    split = sweep.source.data.open().split("val")
    for cell in sweep.cells:
        record, counts, kept = store.record(cell.digest), store.counts(cell.digest), store.kept_images(cell.digest)
        assert record is not None
        assert counts is not None
        assert [image.index for image in kept] == [len(split) // 4, 3 * len(split) // 4]
        for image in kept:
            sample = split[image.index]
            assert image.name == sample.name
            np.testing.assert_array_equal(
                image.images[0], sample.image.permute(1, 2, 0).numpy().astype(np.uint16) * 257
            )
            np.testing.assert_array_equal(image.truth, sample.mask.numpy())
            moved = np.abs(image.adversarial.astype(int) - image.images.astype(int)).max() / 65535
            assert 0 < moved <= record.threat.eps + 1e-5
            again = tally.confusion(torch.from_numpy(image.preds).long(), sample.mask.long(), 3, 255)
            np.testing.assert_array_equal(again, counts[image.index])


def test_kept_pieces_are_those_of_the_part_that_did_most_harm(
    tiny_plan: Callable[..., Plan], trained: Callable[[TrainCell], Path], silent: type[Any]
) -> None:
    plan = tiny_plan(attacks=["sea(steps=3)"], transfer=None, protocol="ddcat-crop-v1(size=16, crop=8)")
    cell = next(cell for cell in plan.evaluations if cell.target == plan.trainings[0])
    store = Store(trained(plan.trainings[0]))
    sweep_into(store, Sweep(cell.source, (cell,)), silent())
    parts = store.parts(cell.digest)
    kept = store.kept_images(cell.digest)
    assert len(parts) > 1
    assert len(kept) == 2
    for image in kept:
        assert image.adversarial.shape == image.images.shape == (9, 8, 8, 3)
        truth, preds = (torch.from_numpy(labels).long() for labels in (image.truth, image.preds))
        worst = min((part[image.index] for part in parts), key=lambda counts: counts[0].sum())
        np.testing.assert_array_equal(tally.confusion(preds, truth, 3, 255), worst)


def test_a_targeted_attack_says_what_share_of_pixels_it_brought_to_its_labels(
    tiny_plan: Callable[..., Plan], trained: Callable[[TrainCell], Path], silent: type[Any], tmp_path: Path
) -> None:
    written = tmp_path / "labels.png"
    Image.fromarray(np.array([[0, 1], [2, 255]], dtype=np.uint8)).save(written)
    attacks = ["bim(steps=3)", {"name": "bim", "steps": 3, "target": str(written)}, "bim(steps=3, target=1)"]
    plan = tiny_plan(attacks=attacks, transfer=None)
    cells = [cell for cell in plan.evaluations if cell.target == plan.trainings[0]]
    store = Store(trained(plan.trainings[0]))
    for cell in cells:
        sweep_into(store, Sweep(cell.source, (cell,)), silent())
    plain, mapped, single = (store.record(cell.digest) for cell in cells)
    counts = store.counts(cells[2].digest)
    assert plain is not None
    assert mapped is not None
    assert single is not None
    assert counts is not None
    assert "on_target" not in plain.extras
    assert 0 < mapped.extras["on_target"] < 100
    # Towards one class, it is the share of pixels that are predicted as it.
    assert single.extras["on_target"] == pytest.approx(100 * counts[:, 1, 1].sum() / counts[:, 1].sum())


@pytest.mark.parametrize("stop", [{"stop_at": 2}, {"checks": 2}], ids=["while images are scored", "while it is fitted"])
def test_what_a_universal_perturbation_took_to_fit_is_in_its_record_once(
    tiny_plan: Callable[..., Plan],
    trained: Callable[[TrainCell], Path],
    silent: type[Any],
    tmp_path: Path,
    stop: dict[str, int],
) -> None:
    plan = tiny_plan(attacks=["universal(epochs=2)"], transfer=None, defenses=["none"])
    sweep = plan.sweeps[0]
    root = trained(sweep.source)
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train").symlink_to(root / "train")
    whole, stopped = Store(tmp_path / "whole"), Store(tmp_path / "stopped")
    heard = silent()
    sweep_into(whole, sweep, heard)
    assert heard.heard[0][2] == "fitting on training images"
    with pytest.raises(Stopped):
        sweep_into(stopped, sweep, silent(**stop))
    sweep_into(stopped, sweep, silent())
    digest = sweep.cells[0].digest
    # Two epochs of the 12 training images; the images that are scored cost the attack nothing.
    assert numbers(whole, digest)["passes"] == {"forward": 24, "backward": 24}
    assert numbers(stopped, digest) == numbers(whole, digest)
    assert 0 < numbers(whole, digest)["budget_used"] <= 0.03 + 1e-6
