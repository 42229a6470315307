from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from segbench.components import catalog
from segbench.components.specs import Bound
from segbench.config.load import matrix_from_data
from segbench.config.matrix import Matrix
from segbench.config.network import Convention, external_network
from segbench.errors import CellError, MatrixError, SegbenchError
from segbench.execution import execute, prepare
from segbench.networks.load import load_network, state_sha256
from segbench.plan.cells import Data, ExternalCell
from segbench.reports.records import Record
from segbench.store import Store

CPU = torch.device("cpu")
RunPlan = Callable[..., list[Record]]
FILE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
    def forward(self, images):
        return self.conv(images)

def build():
    return Net()

def frozen():
    net = Net()
    return lambda images: net(images).detach()

def large():
    return nn.Conv2d(3, 3, 33)
"""
SHOWN = {"models": None, "defenses": None, "recipe": None, "transfer": None}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(FILE)
    return path


@pytest.fixture
def matrix(tiny_matrix: Callable[..., Matrix], file: Path) -> Callable[..., Matrix]:
    """A matrix of one given network, changed by keyword arguments of the network's entry."""
    return lambda **entry: tiny_matrix(networks=[{"load": f"{file}:build", **entry}], **SHOWN)


def cell_of(matrix: Matrix) -> ExternalCell:
    cell = prepare.tentative_plan(matrix).evaluations[0].target
    assert isinstance(cell, ExternalCell)
    return cell


def test_golden_digest() -> None:
    # A change here orphans every stored result: raise EXTERNAL_VERSION and say so in CHANGELOG.
    cell = ExternalCell(
        data=Data(Bound(catalog.find("dataset", "digits"), {"size": 48}), "f00d"),
        external=external_network("net.py:build"),
        identity={"factory": "build", "code": "c0de", "state": "beef"},
        convention={"range": "0-1"},
    )
    assert cell.digest == "3d63344be8385a73"


def test_identity_is_content_not_place(matrix: Callable[..., Matrix], file: Path) -> None:
    first = cell_of(matrix())
    other = file.with_name("moved.py")
    file.rename(other)
    assert cell_of(matrix(load=f"{other}:build", name="net")).digest == first.digest
    other.write_text(FILE + "# another file\n")
    assert cell_of(matrix(load=f"{other}:build", name="net")).digest != first.digest


@pytest.mark.parametrize(
    "entry",
    [
        {"seed": 1},
        {"name": "other"},
        {"defense": "sat"},
        {"convention": {"range": "0-255"}},
        {"classes": {"background": 0, "0": 1, "1": 2}},
    ],
)
def test_what_can_change_a_record_changes_the_digest(matrix: Callable[..., Matrix], entry: dict[str, object]) -> None:
    assert cell_of(matrix(**entry)).digest != cell_of(matrix()).digest


def test_weights_change_the_digest(matrix: Callable[..., Matrix], tmp_path: Path) -> None:
    digests = set()
    for value in (0.0, 1.0):
        state = {"conv.weight": torch.full((3, 3, 3, 3), value), "conv.bias": torch.zeros(3)}
        save_file(state, tmp_path / "w.safetensors")
        digests.add(cell_of(matrix(weights=str(tmp_path / "w.safetensors"))).digest)
    assert len(digests) == 2


def test_a_given_network_is_attacked_scored_and_not_done_again(
    run_plan: RunPlan, matrix: Callable[..., Matrix], silent: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = matrix(defense="sat")
    store = Store(loaded.runtime.store)
    plan = prepare.checked_plan(loaded, store.cache_dir)
    assert plan.trainings == ()
    records = run_plan(plan, store, loaded.runtime, silent())
    assert [(r.status, r.setting) for r in records] == [("done", "clean"), ("done", "white-box"), ("done", "white-box")]
    state = load_network(plan.evaluations[0].target, store, CPU, 3, 255).network
    for record in records:
        assert (record.target.model.short, record.target.defense.short) == ("net", "sat")
        assert record.target.weights_sha256 == state_sha256(state)
    monkeypatch.setattr(execute, "work", lambda *arguments: pytest.fail("a cell was run again"))
    again = prepare.checked_plan(matrix(defense="sat"), store.cache_dir)
    assert run_plan(again, store, loaded.runtime, silent()) == records


def test_a_given_network_beside_trained_ones_transfers(
    run_plan: RunPlan, tiny_matrix: Callable[..., Matrix], file: Path, silent: type
) -> None:
    model = {"name": "pspnet", "encoder": "tiny", "widths": [4, 4, 6, 6], "bins": [1, 2], "channels": 4}
    loaded = tiny_matrix(models=[model], networks=[f"{file}:build"], attacks=["bim(steps=1)"])
    store = Store(loaded.runtime.store)
    records = run_plan(prepare.checked_plan(loaded, store.cache_dir), store, loaded.runtime, silent())
    transfers = {(r.source.model.name, r.target.model.name) for r in records if r.setting == "black-box"}
    assert transfers == {("pspnet", "net")}
    assert {r.status for r in records} == {"done"}


def test_trained_weights_evaluated_as_given_give_the_same_scores(
    run_plan: RunPlan, tiny_matrix: Callable[..., Matrix], silent: type, tmp_path: Path
) -> None:
    trained = tiny_matrix(models=["pspnet(encoder=tiny, channels=4)"], defenses=["none"], transfer=None)
    store = Store(trained.runtime.store)
    plan = prepare.checked_plan(trained, store.cache_dir)
    records = run_plan(plan, store, trained.runtime, silent())
    entry = {"load": "pspnet(encoder=tiny, channels=4)", "weights": str(store.weights(plan.trainings[0].digest))}
    again = tiny_matrix(networks=[entry], **SHOWN)
    found = run_plan(prepare.checked_plan(again, store.cache_dir), store, again.runtime, silent())
    assert [r.scores for r in found] == [r.scores for r in records]
    assert all(r.status == "done" and r.scores for r in found)


def test_a_network_that_changed_since_the_plan_is_not_scored(matrix: Callable[..., Matrix], file: Path) -> None:
    cell = cell_of(matrix())
    file.write_text(FILE + "# changed\n")
    with pytest.raises(CellError, match="changed since the evaluation was planned"):
        load_network(cell, Store(Path("nowhere")), CPU, 3, 255)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"load": "{file}:frozen"}, "no gradient reaches the images"),
        ({"load": "{file}:large"}, r"large cannot take an image \(1, 3, 16, 16\)|net cannot take an image"),
        ({"load": "{file}:biuld"}, "did you mean 'build'"),
        ({"classes": {"background": 0, "0": 1}}, "must name every class of the dataset .*; it lacks 1"),
        ({"classes": {"background": 0, "0": 1, "1": 3}}, "has 3 channels, but 'classes' names channel 3"),
        ({"load": "smp:fpn?encoder_name=mobilenet_v2&classes=2"}, "fpn has 2 channels, the dataset 3 classes"),
    ],
)
def test_a_network_that_does_not_fit_is_an_error_before_anything_runs(
    matrix: Callable[..., Matrix], file: Path, tmp_path: Path, entry: dict[str, object], message: str
) -> None:
    written = {key: str(value).format(file=file) if key == "load" else value for key, value in entry.items()}
    with pytest.raises(SegbenchError, match=message):
        prepare.checked_plan(matrix(**written), tmp_path / "cache")


def test_a_network_fed_what_it_does_not_expect_is_refused_unless_told_otherwise(
    matrix: Callable[..., Matrix], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubt = prepare.convention_check.Doubt(Convention(range="0-255"), 70.0, 20.0)
    monkeypatch.setattr(prepare.convention_check, "check", lambda *arguments, **options: doubt)
    message = r"net scores 20.0 on clean images .* but 70.0 .* state the convention {range: 0-255}, or pass --force"
    with pytest.raises(SegbenchError, match=message):
        prepare.checked_plan(matrix(), tmp_path / "cache")
    assert prepare.checked_plan(matrix(check=False), tmp_path / "cache").evaluations
    with pytest.raises(SegbenchError, match=message):
        prepare.checked_plan(matrix(), tmp_path / "cache")


def test_cells_survive_a_round_trip(matrix: Callable[..., Matrix]) -> None:
    for cell in prepare.tentative_plan(matrix(convention={"mean": [0.1, 0.2, 0.3]})).evaluations:
        again = pickle.loads(pickle.dumps(cell))
        assert again.digest == cell.digest
        assert isinstance(again.target, ExternalCell)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"networks": ["a.py:b", "a.py:b"]}, "a with none, seed 0, stands twice; set 'name' or 'seed'"),
        ({"networks": ["a.py:b"], "recipe": {"iterations": 3}}, "a recipe trains nothing here"),
        ({"networks": [{"laod": "a.py:b"}]}, "did you mean 'load'"),
        ({"networks": ["a.py:b"], "transfer": {"substitutes": "sat"}}, "there is no defense 'sat'"),
    ],
)
def test_mistakes_in_a_matrix(content: dict[str, object], message: str) -> None:
    with pytest.raises(MatrixError, match=message):
        matrix_from_data(content, "mine")


def test_an_encoder_file_is_known_by_its_content(tiny_matrix: Callable[..., Matrix], tmp_path: Path) -> None:
    from segbench.model_zoo.pspnet import pspnet

    def digest(path: Path) -> str:
        model = {"name": "pspnet", "encoder": "tiny", "weights": str(path)}
        plan = prepare.tentative_plan(tiny_matrix(models=[model], defenses=["none"], transfer=None))
        return plan.trainings[0].digest

    encoder: nn.Module = pspnet(3, encoder="tiny").trunk.encoder
    save_file(encoder.state_dict(), tmp_path / "a.safetensors")
    first = digest(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").rename(tmp_path / "b.safetensors")
    assert digest(tmp_path / "b.safetensors") == first
    state = load_file(tmp_path / "b.safetensors")
    save_file({name: value + 1 for name, value in state.items()}, tmp_path / "b.safetensors")
    assert digest(tmp_path / "b.safetensors") != first
