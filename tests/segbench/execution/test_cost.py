from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from segbench.attacks.tools.passes import Passes
from segbench.components import catalog
from segbench.components.specs import bound
from segbench.errors import DataError, SegbenchError
from segbench.evaluation.probes import LEAST
from segbench.execution import cost, pass_counts
from segbench.execution.short_runs import by_short_runs
from segbench.execution.timing import Timer
from segbench.model_zoo.pspnet import PyramidPooling
from segbench.plan.plan import Plan
from segbench.plan.traits import ToyTrunk, defense_traits
from segbench.reports.records import Record
from segbench.store import Store


@pytest.mark.parametrize(
    ("attack", "forward", "backward"),
    [
        ("clean", 0, 0),
        ("fgsm", 1, 1),
        ("bim(steps=6)", 6, 6),
        ("pgd(steps=3)", 3, 3),
        ("pgd(steps=3, restarts=2)", 8, 6),
        # Three losses of ten steps; a first look at each of their three stages, and one at each part.
        ("sea(steps=10)", 3 * (10 + 3) + 3, 30),
    ],
)
def test_passes_of_attacks(attack: str, forward: int, backward: int) -> None:
    assert pass_counts.attack_passes(bound("attack", attack)) == Passes(forward, backward)


SMOOTHING = "randomized-smoothing(samples=5000, picking=1000, counting=100000)"


@pytest.mark.parametrize(
    ("attack", "defense", "forward", "backward"),
    [
        ("bim(steps=200001)", None, 200_001, 200_001),
        ("pgd(steps=4001, restarts=2503)", None, 2503 * (4001 + 1), 2503 * 4001),
        ("square(queries=500000)", None, 500_000, 0),
        ("sea(steps=30007)", None, 3 * (30007 + 3) + 3, 3 * 30007),
        ("bim(steps=3000)", SMOOTHING, 3000 * 5000, 3000 * 5000),
    ],
)
def test_long_attacks_are_counted_by_short_runs(attack: str, defense: str | None, forward: int, backward: int) -> None:
    behind = None if defense is None else bound("defense", defense)
    with images_through(ToyTrunk) as seen:
        assert pass_counts.attack_passes(bound("attack", attack), behind) == Passes(forward, backward)
    assert seen() < 20_000


def test_long_trainings_and_predictions_are_counted_by_short_runs() -> None:
    smoothing = bound("defense", SMOOTHING)
    with images_through(ToyTrunk) as seen:
        assert pass_counts.training_passes(bound("defense", "pgd-at(attack=bim(steps=70001))")) == Passes(
            70_002, 70_002
        )
        assert pass_counts.scoring_passes(smoothing, certified=True) == Passes(5000 + 1000 + 100_000, 0)
    assert seen() < 2000


@contextlib.contextmanager
def images_through(kind: type[nn.Module]) -> Iterator[Callable[[], int]]:
    """Count the images that go through modules of a kind."""
    sizes: list[int] = []

    def note(module: nn.Module, inputs: tuple[Tensor], features: object) -> None:
        if isinstance(module, kind):
            sizes.append(len(inputs[0]))

    handle = nn.modules.module.register_module_forward_hook(note)
    yield lambda: sum(sizes)
    handle.remove()


@pytest.fixture
def trunk_images(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Counts the images that go through trunks, and lets a step take a second for each of its own."""
    with images_through(PyramidPooling) as seen:

        def once(timer: object, step: Callable[[], None]) -> float:
            before = seen()
            step()
            return float(seen() - before)

        monkeypatch.setattr(Timer, "_time", once)
        yield seen


def few(steps: int) -> int:
    if steps < 64:
        raise ValueError(f"{steps} steps are too few")
    return steps


@pytest.mark.parametrize(
    "passes",
    [
        pytest.param(lambda steps: steps * (steps + 1) // 2, id="each step looks at all before it"),
        pytest.param(lambda steps: steps + max(steps - 14, 0), id="later steps cost more"),
        pytest.param(lambda steps: min(steps, 14), id="all is fooled after 14 steps"),
        pytest.param(few, id="short runs are refused"),
    ],
)
@pytest.mark.parametrize("steps", [70, 207, 530])
def test_what_short_runs_do_not_tell_is_counted_as_it_is(passes: Callable[[int], int], steps: int) -> None:
    attack = catalog.find("attack", "bim").object.bind(steps=steps)
    counted = by_short_runs(lambda attack: Passes(passes(attack.options["steps"]), 0), attack=attack)
    assert counted == Passes(passes(steps), 0)


TARGETED = [name for name, component in catalog.components("attack").items() if "target" in component.options]


@pytest.mark.parametrize("attack", TARGETED)
def test_any_class_may_be_the_target_of_what_is_counted(attack: str) -> None:
    steps = "steps=2, " if "steps" in catalog.find("attack", attack).options else ""
    aimed, plain = f"{attack}({steps}target=18)", f"{attack}({steps.rstrip(', ')})"
    assert pass_counts.attack_passes(bound("attack", aimed)) == pass_counts.attack_passes(bound("attack", plain))
    if attack not in FITTED:
        assert pass_counts.training_passes(bound("defense", f"pgd-at(attack={aimed})")) == pass_counts.training_passes(
            bound("defense", f"pgd-at(attack={plain})")
        )


@pytest.mark.parametrize(
    ("defense", "forward", "backward"),
    [
        ("none", 1, 1),
        # Half of the batch is attacked by three steps: 1 + 1.5, rounded up.
        ("sat", 3, 3),
        # The whole batch is attacked; the attacked half is predicted once more: 1 + 3 + 0.5, rounded up, and 1 + 3.
        ("ddcat", 5, 4),
    ],
)
def test_passes_of_training_steps(defense: str, forward: int, backward: int) -> None:
    assert pass_counts.training_passes(bound("defense", defense)) == Passes(forward, backward)


@pytest.mark.parametrize(
    ("defense", "forward", "backward"),
    [
        ("multitask-depth", 2, 2),
        ("multitask(tasks=[depth])", 1, 1),
        # A teacher, its student, and the student's own features once more.
        ("teacher-student", 3, 2),
    ],
)
def test_passes_of_training_steps_of_several_losses_and_networks(defense: str, forward: int, backward: int) -> None:
    assert pass_counts.training_passes(bound("defense", defense)) == Passes(forward, backward)


FITTED = ("universal", "universal-patch")
"""Attacks that need the training data first: a perturbation made on it."""


@pytest.mark.parametrize("attack", [name for name in catalog.components("attack") if name not in FITTED])
def test_any_other_attack_of_the_catalog_can_be_trained_against(attack: str) -> None:
    few = [f"{name}=2" for name in ("steps", "queries", "passes") if name in catalog.find("attack", attack).options]
    counted = pass_counts.training_passes(bound("defense", f"pgd-at(attack={attack}({', '.join(few)}))"))
    assert counted.forward >= counted.backward >= 1


@pytest.mark.parametrize("attack", FITTED)
def test_an_attack_that_needs_the_training_data_is_refused_before_training(
    attack: str, tiny_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = tiny_plan(defenses=[f"pgd-at(attack={attack})"], transfer=None)
    with pytest.raises(SegbenchError, match=rf"pgd-at\(attack={attack}.* cannot be trained: .*training"):
        cost.measured(plan, Store(tmp_path / "none"), estimate=False)


def test_passes_through_what_a_defense_does_at_inference() -> None:
    smoothing = "randomized-smoothing(samples=5, picking=3, counting=7)"
    assert pass_counts.scoring_passes() == Passes(1, 0)
    assert pass_counts.scoring_passes(bound("defense", smoothing)) == Passes(5, 0)
    assert pass_counts.scoring_passes(bound("defense", smoothing), certified=True) == Passes(5 + 3 + 7, 0)
    assert pass_counts.attack_passes(bound("attack", "bim(steps=2)"), bound("defense", smoothing)) == Passes(
        2 * 5, 2 * 5
    )
    assert pass_counts.attack_passes(
        bound("attack", "bim(steps=2)"), bound("defense", smoothing), oblivious=True
    ) == Passes(2, 2)
    # Two static networks and, twice, the adapting one; its own prediction comes on top.
    adapting = "teacher-student(steps=2)"
    assert pass_counts.scoring_passes(bound("defense", adapting), dynamic=True) == Passes(2 + 2 + 1, 2)
    # Whoever anticipates lets it learn before every forward pass.
    assert pass_counts.attack_passes(
        bound("attack", "bim(steps=3)"), bound("defense", adapting), anticipating=True
    ) == Passes(3 * (2 + 2 + 1), 3 * (2 + 1))


def test_the_table_of_defenses_says_what_is_counted() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "defenses.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| [^|]+ \| ([^|]+) \| ([^|]+) \|", page, re.MULTILINE)
    assert {name for name, _, _ in rows} == set(catalog.components("defense"))
    for name, training, inference in rows:
        written = "pir-at(backbone='robust.pth')" if name == "pir-at" else name
        claimed = [math.ceil(float(number)) for number in re.findall(r"[\d.]+", training)]
        counted = pass_counts.training_passes(bound("defense", written))
        assert (sum(claimed[::2]), sum(claimed[1::2])) == (counted.forward, counted.backward), name
        traits = defense_traits(bound("defense", written))
        most = pass_counts.scoring_passes(
            bound("defense", written), certified="certified" in traits, dynamic="dynamic" in traits
        )
        assert sum(map(int, re.findall(r"\d+", inference))) == most.forward + most.backward, name
        assert pass_counts.scoring_passes(bound("defense", written)).forward == int(inference.partition(",")[0]), name


def test_the_summary_adds_up(tiny_plan: Callable[..., Plan], tmp_path: Path) -> None:
    console = Console(record=True, width=120)
    console.print(cost.summary(cost.measured(tiny_plan(transfer=None), Store(tmp_path / "none"), estimate=False)))
    shown = console.export_text()
    # Two architectures: none takes 4 x 4 images once, SAT three times.
    assert f"{2 * 16 * (1 + 3)}" in shown
    # Four networks, five images: clean forward, three BIM steps, two scored iterates.
    assert f"{4 * 5 * (1 + 3 + 2)}" in shown
    assert "12 evaluations in 8 sweeps: sharing saves 25 % of the backward passes." in shown
    # A quarter of five images, clean and under BIM-3, is less than what one image takes.
    assert f"sanity probes of 4 networks take at most {4 * LEAST} passes" in shown


def test_what_is_counted_is_what_evaluations_spend(
    tiny_plan: Callable[..., Plan], run_plan: Callable[..., list[Record]], silent: type[Any], tmp_path: Path
) -> None:
    """An image is cut into four pieces, and so is each training image that attacks are fitted on."""
    plan = tiny_plan(
        models=["pspnet(encoder=tiny)"],
        defenses=["none"],
        attacks=["bim(steps=3)", "square(queries=21)", "universal(epochs=2)", "universal-patch"],
        transfer=None,
        protocol="ddcat-crop-v1(size=32, crop=20)",
    )
    store = Store(tmp_path / "runs")
    counted = cost.measured(plan, store, estimate=False).evaluations.passes
    records = run_plan(plan, store, plan.matrix.runtime, silent())
    assert counted is not None
    assert counted.backward == sum(record.passes["backward"] for record in records)
    assert counted.forward == sum(record.passes["forward"] for record in records) + len(records) * 5 * 4


def test_data_that_is_not_there_is_said(tiny_plan: Callable[..., Plan], tmp_path: Path) -> None:
    console = Console(record=True, width=120)
    plan = tiny_plan(dataset="camvid")
    console.print(cost.summary(cost.measured(plan, Store(tmp_path / "none"), estimate=False)))
    shown = console.export_text()
    assert "unknown" in shown
    assert "name its folder with --data" in shown


def test_the_summary_counts_what_a_defense_does_at_inference(tiny_plan: Callable[..., Plan], tmp_path: Path) -> None:
    smoothing = "randomized-smoothing(samples=2, picking=1, counting=9)"
    plan = tiny_plan(models=["pspnet(encoder=tiny)"], defenses=[smoothing], transfer=None)
    console = Console(record=True, width=120)
    console.print(cost.summary(cost.measured(plan, Store(tmp_path / "none"), estimate=False)))
    # Five images. Clean, certified: 2 + 10. BIM-3 by two attackers: 6 and 3; each is scored after 1 and 3 steps: 2 x 2.
    assert f"{5 * (12 + 6 + 4 + 3 + 4)}" in console.export_text()


def test_what_is_timed_is_what_the_evaluation_does(
    tiny_plan: Callable[..., Plan], trunk_images: Callable[[], int]
) -> None:
    """The timed step of every sweep takes as many forward passes of the trunk as are counted for it."""
    defenses = ["none", "randomized-smoothing(samples=2, picking=1, counting=9)", "teacher-student-vote"]
    plan = tiny_plan(models=["pspnet(encoder=tiny)"], defenses=defenses, transfer=None)
    timer, known = Timer(plan, torch.device("cpu")), cost.lengths(plan)
    assert len(plan.sweeps) == 2 + 3 + 5
    for sweep in plan.sweeps:
        counted = cost._sweep(sweep, known)
        assert counted is not None
        assert timer.image(sweep) * 5 == counted.forward


def test_a_training_of_too_few_images_cannot_be_timed(tiny_plan: Callable[..., Plan], tmp_path: Path) -> None:
    plan = tiny_plan(transfer=None, recipe={"batch_size": 1000, "iterations": 1})
    with pytest.raises(DataError, match="fewer than one batch of 1000"):
        cost.measured(plan, Store(tmp_path / "none"), estimate=True)


def test_long_jobs_are_timed_by_short_ones(tiny_plan: Callable[..., Plan], trunk_images: Callable[[], int]) -> None:
    """Where a pass takes a second, the time of a job is the number of its passes."""
    plan = tiny_plan(
        models=["pspnet(encoder=tiny)"],
        defenses=["pgd-at(attack=pgd(steps=500))", "randomized-smoothing(samples=400, picking=100, counting=9000)"],
        attacks=["clean", "bim(steps=30000)"],
        transfer=None,
    )
    timer, known = Timer(plan, torch.device("cpu")), cost.lengths(plan)
    for sweep in plan.sweeps:
        counted = cost._sweep(sweep, known)
        assert counted is not None
        assert timer.image(sweep) * 5 == pytest.approx(counted.forward, rel=0.2)
    assert timer.training_step(plan.trainings[0]) == pytest.approx(501 * 4, rel=0.01)
    assert trunk_images() < 20_000
