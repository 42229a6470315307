from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from segbench.config.matrix import Recipe, Runtime
from segbench.errors import CellError, DataError, Stopped
from segbench.networks.load import load_network
from segbench.plan.networks import TrainCell
from segbench.plan.plan import Plan
from segbench.store import Store
from segbench.training import batches, train
from segbench.training.recompute import recompute_blocks

CPU = torch.device("cpu")


def run(
    cell: TrainCell,
    root: Path,
    reporter: Any,
    *,
    loader_workers: int = 0,
    every: float = 1e9,
    recompute: bool = False,
) -> Store:
    store = Store(root)
    runtime = Runtime(loader_workers=loader_workers, recompute=recompute, checkpoint_every=every)
    train.run_training(cell, store, runtime, CPU, reporter)
    return store


def weights(store: Store, cell: TrainCell) -> bytes:
    return store.weights(cell.digest).read_bytes()


@pytest.mark.parametrize("defense", ["none", "sat(attack=pgd(steps=1))", "ddcat", "multitask-depth"])
def test_stopped_and_resumed_is_bit_identical(
    tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path, defense: str
) -> None:
    recipe = {
        "optimizer": "sgd",
        "batch_size": 4,
        "iterations": 7,
        "augmentation": {"flip": 0.5, "crop": [16, 16], "scale": [0.8, 1.2]},
    }
    cell = tiny_plan(defenses=[defense], transfer=None, recipe=recipe).trainings[0]
    whole = run(cell, tmp_path / "whole", silent())
    with pytest.raises(Stopped):
        # The reporter hears of the first iteration and of every end of an epoch (three batches).
        run(cell, tmp_path / "parts", silent(stop_at=3))
    assert (tmp_path / "parts" / "train" / cell.digest / "checkpoint.pt").is_file()
    assert Store(tmp_path / "parts").trained(cell.digest) is None
    parts = run(cell, tmp_path / "parts", silent())
    assert weights(parts, cell) == weights(whole, cell)
    first, second = (
        pd.read_csv(s.train_dir(cell.digest) / "history.csv").drop(columns="images_per_second") for s in (whole, parts)
    )
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert not (parts.train_dir(cell.digest) / "checkpoint.pt").exists()


def test_a_training_stops_between_two_looks_at_its_loss(
    tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path
) -> None:
    cell = tiny_plan(recipe={"optimizer": "sgd", "batch_size": 4, "iterations": 7}).trainings[0]
    listener = silent(checks=2)  # of iterations 2 and 4; 1, and 3 at the end of an epoch, are looked at
    with pytest.raises(Stopped):
        run(cell, tmp_path / "parts", listener)
    assert [done for done, *_ in listener.heard] == [0, 1, 3]
    parts = run(cell, tmp_path / "parts", resumed := silent())
    assert resumed.heard[0][0] == 4
    assert weights(parts, cell) == weights(run(cell, tmp_path / "whole", silent()), cell)


def test_an_unfinished_training_shows_its_course(
    tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "HISTORY_EVERY", -1.0)
    cell = tiny_plan(recipe={"optimizer": "sgd", "batch_size": 4, "iterations": 7}).trainings[0]
    with pytest.raises(Stopped):
        run(cell, tmp_path / "parts", silent(stop_at=6))
    whole, parts = (run(cell, tmp_path / "whole", silent()), Store(tmp_path / "parts"))
    files = [store.history(cell.digest) for store in (whole, parts)]
    full, shown = (pd.read_csv(path)[["iteration", "loss"]] for path in files if path is not None)
    assert list(shown["iteration"]) == [3, 6]
    pd.testing.assert_frame_equal(shown, full[:2])


def test_checkpoints_do_not_change_the_weights(
    tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path
) -> None:
    cell = tiny_plan().trainings[0]
    often = run(cell, tmp_path / "often", silent(), every=1e-9)
    assert weights(often, cell) == weights(run(cell, tmp_path / "never", silent()), cell)


@pytest.mark.parametrize("defense", ["none", "sat", "ddcat"])
@pytest.mark.parametrize("encoder", ["tiny", "resnet18"])
def test_recomputed_activations_give_the_same_weights(
    tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path, defense: str, encoder: str
) -> None:
    recipe = {"optimizer": "sgd", "batch_size": 4, "iterations": 2}
    models = [f"pspnet(encoder={encoder}, channels=8)"]
    cell = tiny_plan(models=models, defenses=[defense], transfer=None, recipe=recipe).trainings[0]
    assert recompute_blocks(cell.build(3, 255)) == {"tiny": 4, "resnet18": 8}[encoder]
    again = run(cell, tmp_path / "again", silent(), recompute=True)
    assert weights(again, cell) == weights(run(cell, tmp_path / "kept", silent()), cell)


@pytest.mark.parametrize(
    ("widths", "order"), [("[4, 4, 6, 6]", "contiguous_format"), ("[16, 16, 16, 16]", "channels_last")]
)
def test_a_training_says_in_which_order_its_weights_lie(
    tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path, widths: str, order: str
) -> None:
    models = [f"pspnet(encoder=tiny, widths={widths}, bins=[1], channels=4)"]
    cell = tiny_plan(models=models, defenses=["none"], transfer=None).trainings[0]
    done = run(cell, tmp_path, silent()).trained(cell.digest)
    assert done is not None
    assert done["provenance"]["memory_format"] == order


def test_seeds_differ_and_repeat(tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path) -> None:
    zero, one = tiny_plan(seeds=[0, 1], defenses=["none"], models=["pspnet(encoder=tiny)"], transfer=None).trainings
    again = run(zero, tmp_path / "again", silent())
    assert weights(again, zero) == weights(run(zero, tmp_path / "zero", silent()), zero)
    assert weights(again, zero) != weights(run(one, tmp_path / "one", silent()), one)


def test_a_finished_training_is_not_done_again(
    tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path
) -> None:
    cell = tiny_plan().trainings[0]
    run(cell, tmp_path, silent())
    listener = silent()
    run(cell, tmp_path, listener)
    assert listener.heard == []


def test_the_deployed_network_is_the_trained_one(
    tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path
) -> None:
    cell = tiny_plan(defenses=["ddcat"], transfer=None).trainings[0]
    store = run(cell, tmp_path, silent())
    network = load_network(cell, store, CPU, 3, 255)
    assert not network.training
    saved = load_file(store.weights(cell.digest))
    assert set(saved) == set(network.state_dict())
    assert not any("mask_branch" in name or "auxiliary_branch" in name for name in saved)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, saved[name], rtol=0, atol=0)


def test_a_loss_that_is_not_finite_stops_the_cell(
    tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path
) -> None:
    recipe = {"optimizer": "sgd", "lr": 1e18, "batch_size": 4, "iterations": 6}
    cell = tiny_plan(recipe=recipe).trainings[0]
    with pytest.raises(CellError, match=r"became (nan|inf) by iteration \d+; lower recipe.lr"):
        run(cell, tmp_path, silent())
    assert Store(tmp_path).trained(cell.digest) is None


def test_too_few_images_for_a_batch(tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path) -> None:
    cell = tiny_plan(recipe={"batch_size": 13, "iterations": 1}).trainings[0]
    with pytest.raises(DataError, match="train has 12 images, fewer than one batch of 13"):
        run(cell, tmp_path, silent())


@pytest.mark.slow
@pytest.mark.parametrize("defense", ["none", "multitask-depth"])
def test_loader_workers_change_nothing(
    tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path, defense: str
) -> None:
    recipe = {"batch_size": 4, "iterations": 4, "augmentation": {"flip": 0.5, "rotate": 10.0}}
    cell = tiny_plan(defenses=[defense], transfer=None, recipe=recipe).trainings[0]
    two = run(cell, tmp_path / "two", silent(), loader_workers=2)
    assert weights(two, cell) == weights(run(cell, tmp_path / "none", silent()), cell)


def test_every_epoch_sees_every_image_at_most_once_in_its_own_order() -> None:
    keys = batches.batch_keys(10, 3, seed=0, start=0, total=9)
    assert [len(batch) for batch in keys] == [3] * 9
    epochs = [[index for batch in keys[e * 3 : e * 3 + 3] for _, index in batch] for e in range(3)]
    for epoch, indices in enumerate(epochs):
        assert len(set(indices)) == 9
        assert {e for batch in keys[epoch * 3 : epoch * 3 + 3] for e, _ in batch} == {epoch}
    assert epochs[0] != epochs[1]
    assert batches.batch_keys(10, 3, seed=0, start=4, total=9) == keys[4:]


def test_learning_rate_warms_up_and_follows_the_poly_schedule() -> None:
    recipe = Recipe(lr=0.1, warmup=4, power=0.9, iterations=10)
    rates = [train.learning_rate(i, 10, recipe) for i in range(10)]
    assert rates[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert rates[4:] == pytest.approx([0.1 * (1 - i / 10) ** 0.9 for i in range(4, 10)])


def test_heads_learn_at_their_own_rate(tiny_plan: Callable[..., Plan]) -> None:
    cell = tiny_plan(defenses=["ddcat"], transfer=None).trainings[0]
    defense = cell.build(3, 255)
    sgd = train.make_optimizer(defense, Recipe(optimizer="sgd", head_lr_factor=10.0, iterations=1))
    factors = {id(p): group["factor"] for group in sgd.param_groups for p in group["params"]}
    assert len(factors) == len(list(defense.parameters()))
    for name, parameter in defense.named_parameters():
        assert factors[id(parameter)] == (1.0 if "trunk.encoder" in name else 10.0), name
    adamw = train.make_optimizer(defense, Recipe(optimizer="adamw", weight_decay=0.1, iterations=1))
    decays = {id(p): group["weight_decay"] for group in adamw.param_groups for p in group["params"]}
    for _, parameter in defense.named_parameters():
        assert decays[id(parameter)] == (0.1 if parameter.ndim > 1 else 0.0)


def test_gradient_clipping_bounds_the_step(tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path) -> None:
    base = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "lr": 1.0, "batch_size": 4, "iterations": 1}
    cell = tiny_plan(recipe={**base, "clip_norm": 0.001}, models=["pspnet(encoder=tiny)"], transfer=None).trainings[0]
    torch.manual_seed(train.derive(cell.seed, "weights"))
    before = copy.deepcopy(cell.build(3, 255).deploy().state_dict())
    after = load_file(run(cell, tmp_path, silent()).weights(cell.digest))
    moved = [(after[n] - before[n]).norm() for n in after if "running" not in n and "num_batches" not in n]
    assert 0 < torch.stack(moved).norm() <= 0.001 * 1.001


def test_bf16_autocast_trains(tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path) -> None:
    recipe = {"batch_size": 4, "iterations": 2}
    plain = tiny_plan(recipe=recipe, defenses=["sat"]).trainings[0]
    cell = tiny_plan(recipe={**recipe, "precision": "bf16"}, defenses=["sat"]).trainings[0]
    saved = load_file(run(cell, tmp_path, silent()).weights(cell.digest))
    assert all(value.dtype != torch.bfloat16 for value in saved.values())
    assert weights(Store(tmp_path), cell) != weights(run(plain, tmp_path, silent()), plain)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_runs_on_a_gpu(
    tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path, precision: str
) -> None:
    cell = tiny_plan(recipe={"precision": precision, "batch_size": 4, "iterations": 3}, defenses=["sat"]).trainings[0]
    store = Store(tmp_path)
    train.run_training(cell, store, Runtime(checkpoint_every=1e9), torch.device("cuda"), silent())
    dataset = cell.data.open()
    assert store.weights(cell.digest).is_file()
    assert len(dataset.classes) == 3


def test_a_trained_network_loads_without_the_encoder_file_that_it_started_from(
    tiny_plan: Callable[..., Plan], silent: type[Any], tmp_path: Path
) -> None:
    cell = tiny_plan(models=["pspnet(encoder=tiny)"], defenses=["none"], transfer=None).trainings[0]
    encoder = cell.build(3, 255).deploy().trunk.encoder
    file = tmp_path / "encoder.safetensors"
    save_file(encoder.state_dict(), file)
    started = tiny_plan(
        models=[{"name": "pspnet", "encoder": "tiny", "weights": str(file)}], defenses=["none"], transfer=None
    ).trainings[0]
    store = run(started, tmp_path / "runs", silent())
    file.unlink()
    assert isinstance(load_network(started, store, CPU, 3, 255), torch.nn.Module)
