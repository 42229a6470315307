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
from segbench.execution import prepare, work
from segbench.networks import loaders
from segbench.networks.adapter import Adapter
from segbench.networks.fingerprint import state_sha256
from segbench.networks.load import PLACES, Opened, answers, at_places, load_network, open_adapter, open_external
from segbench.plan.data import Data
from segbench.plan.networks import ExternalCell
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

def lazy():
    return nn.LazyConv2d(3, 1)

class Late(Net):
    def forward(self, images):
        if not hasattr(self, "head"):
            self.head = nn.Conv2d(3, 3, 1)
        return self.head(self.conv(images))
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
    bound = matrix.datasets[0]
    dataset = prepare.open_bound(bound, {})
    return open_external(matrix.networks[0], Data(bound, dataset.fingerprint()), dataset).cell


def test_golden_digest() -> None:
    # A change here orphans every stored result: raise EXTERNAL_VERSION and say so in CHANGELOG.
    cell = ExternalCell(
        data=Data(Bound(catalog.find("dataset", "digits"), {"size": 48}), "f00d"),
        external=external_network("net.py:build"),
        identity={"factory": "build", "code": "c0de", "state": "beef"},
        convention={"range": "0-1"},
    )
    assert cell.digest == "d2b092fbb99e6072"


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
    plan = prepare.checked_plan(loaded, store)
    assert plan.trainings == ()
    records = run_plan(plan, store, loaded.runtime, silent())
    assert [(r.status, r.setting) for r in records] == [("done", "clean"), ("done", "white-box"), ("done", "white-box")]
    state = load_network(plan.evaluations[0].target, store, CPU, 3, 255).network
    for record in records:
        assert (record.target.model.short, record.target.defense.short) == ("net", "sat")
        assert record.target.weights_sha256 == state_sha256(state)
    monkeypatch.setattr(work, "work", lambda *arguments: pytest.fail("a cell was run again"))
    again = prepare.checked_plan(matrix(defense="sat"), store)
    assert run_plan(again, store, loaded.runtime, silent()) == records


def test_a_given_network_beside_trained_ones_transfers(
    run_plan: RunPlan, tiny_matrix: Callable[..., Matrix], file: Path, silent: type
) -> None:
    model = {"name": "pspnet", "encoder": "tiny", "widths": [4, 4, 6, 6], "bins": [1, 2], "channels": 4}
    loaded = tiny_matrix(models=[model], networks=[f"{file}:build"], attacks=["bim(steps=1)"])
    store = Store(loaded.runtime.store)
    records = run_plan(prepare.checked_plan(loaded, store), store, loaded.runtime, silent())
    transfers = {(r.source.model.name, r.target.model.name) for r in records if r.setting == "black-box"}
    assert transfers == {("pspnet", "net")}
    assert {r.status for r in records} == {"done"}


def test_trained_weights_evaluated_as_given_give_the_same_scores(
    run_plan: RunPlan, tiny_matrix: Callable[..., Matrix], silent: type, tmp_path: Path
) -> None:
    trained = tiny_matrix(models=["pspnet(encoder=tiny, channels=4)"], defenses=["none"], transfer=None)
    store = Store(trained.runtime.store)
    plan = prepare.checked_plan(trained, store)
    records = run_plan(plan, store, trained.runtime, silent())
    entry = {"load": "pspnet(encoder=tiny, channels=4)", "weights": str(store.weights(plan.trainings[0].digest))}
    again = tiny_matrix(networks=[entry], **SHOWN)
    found = run_plan(prepare.checked_plan(again, store), store, again.runtime, silent())
    assert [r.scores for r in found] == [r.scores for r in records]
    assert all(r.status == "done" and r.scores for r in found)


def test_a_network_that_changed_since_the_plan_is_not_scored(matrix: Callable[..., Matrix], file: Path) -> None:
    cell = cell_of(matrix())
    file.write_text(FILE + "# changed\n")
    with pytest.raises(CellError, match="changed since the evaluation was planned"):
        load_network(cell, Store(Path("nowhere")), CPU, 3, 255)


def test_a_network_is_loaded_once_for_many_sweeps_as_long_as_it_is_what_it_was(
    matrix: Callable[..., Matrix], monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, store = cell_of(matrix()), Store(Path("nowhere"))
    loads = []
    load_anew = loaders.load
    monkeypatch.setattr(loaders, "load", lambda *args, **kwargs: loads.append(1) or load_anew(*args, **kwargs))
    first, again = (load_network(cell, store, CPU, 3, 255) for _ in range(2))
    assert not loads
    assert first.network is again.network
    with torch.no_grad():
        first.network.conv.bias += 1
    fresh = load_network(cell, store, CPU, 3, 255)
    assert len(loads) == 1
    assert state_sha256(fresh.network) == cell.identity["state"]


class Keeping(nn.Module):
    """A network that keeps something of each image by a function of (network, image)."""

    def __init__(self, keep: Callable[[nn.Module, torch.Tensor], object], *, copied: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.keep, self.kept, self.steps = keep, dict[object, object](), 0
        self.held = None if copied else self.conv.weight * 2  # a tensor that is no leaf cannot be copied
        self.register_buffer("grid", None)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.keep(self, images)
        logits: torch.Tensor = self.conv(images)
        return logits


seen: list[int] = []
KEPT: dict[str, Callable[[nn.Module, torch.Tensor], object]] = {
    "a cache": lambda network, images: network.kept.setdefault(tuple(images.shape), images[:, :1] > 0),
    "a counter": lambda network, images: setattr(network, "steps", network.steps + 1),
    "its last logits": lambda network, images: setattr(network, "kept", network.conv(images)),
    "a buffer made late": lambda network, images: setattr(network, "grid", torch.arange(images.shape[-1])),
    "a global": lambda network, images: seen.append(len(images)),
}


def given(matrix: Callable[..., Matrix], network: nn.Module) -> ExternalCell:
    loaders.in_memory[type(network).__name__] = network
    return cell_of(matrix(load=f"memory:{type(network).__name__}"))


@pytest.mark.parametrize("copied", [True, False], ids=["copied", "in place"])
@pytest.mark.parametrize("name", KEPT)
def test_what_a_network_keeps_while_it_predicts_makes_no_other_network_of_it(
    matrix: Callable[..., Matrix], name: str, *, copied: bool
) -> None:
    if name == "a buffer made late" and not copied:
        pytest.skip("a buffer of a network in place is part of its weights")
    network, other = Keeping(KEPT[name], copied=copied), nn.Conv2d(3, 3, 1)
    first, second, store = given(matrix, network), given(matrix, other), Store(Path("nowhere"))
    for cell in (first, first, second, first):
        load_network(cell, store, CPU, 3, 255)(torch.rand(1, 3, 16, 16))
    if copied:
        assert (network.steps, network.kept, network.grid) == (0, {}, None)


def test_a_network_in_place_whose_weights_drift_while_it_predicts_is_refused(matrix: Callable[..., Matrix]) -> None:
    network = Keeping(lambda own, images: own.conv.bias.data.sub_(images.mean()), copied=False)
    cell, store = given(matrix, network), Store(Path("nowhere"))
    load_network(cell, store, CPU, 3, 255)(torch.rand(1, 3, 16, 16))
    with pytest.raises(CellError, match="changed since the evaluation was planned"):
        load_network(cell, store, CPU, 3, 255)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"load": "{file}:frozen", "access": "gradients"}, "no gradient reaches the images"),
        ({"load": "{file}:large"}, r"large cannot take an image \(1, 3, 16, 16\)|net cannot take an image"),
        ({"load": "{file}:lazy"}, "net: some of its weights are made, at random, when it first predicts"),
        ({"load": "{file}:Late"}, "net: some of its weights are made, at random, when it first predicts"),
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
        prepare.checked_plan(matrix(**written), Store(tmp_path))


def test_a_network_fed_what_it_does_not_expect_is_refused_unless_told_otherwise(
    matrix: Callable[..., Matrix], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubt = prepare.convention_check.Doubt(Convention(range="0-255"), 70.0, 20.0)
    monkeypatch.setattr(prepare.convention_check, "check", lambda *arguments, **options: doubt)
    message = r"net scores 20.0 on clean images .* but 70.0 .* state the convention {range: 0-255}, or pass --force"
    with pytest.raises(SegbenchError, match=message):
        prepare.checked_plan(matrix(), Store(tmp_path))
    assert prepare.checked_plan(matrix(check=False), Store(tmp_path)).evaluations
    with pytest.raises(SegbenchError, match=message):
        prepare.checked_plan(matrix(), Store(tmp_path))


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


PLAIN = """
import torch
from torch import nn

class Scaled(nn.Module):
    def __init__(self, channels, change):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.change = change
    def forward(self, images):
        return self.change(self.conv(images))

def softmax(num_classes):
    return Scaled(num_classes, lambda logits: logits.softmax(1))

def sigmoid():
    return Scaled(1, torch.sigmoid)

def nan(num_classes):
    return Scaled(num_classes, lambda logits: logits * float("nan"))

def infinite(num_classes):
    return Scaled(num_classes, lambda logits: logits + float("inf"))

def training():
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.5)).train()
    return lambda images: net(images)
"""


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.py"
    path.write_text(PLAIN)
    return path


def test_probabilities_are_said_or_refused(tiny_matrix: Callable[..., Matrix], plain: Path, tmp_path: Path) -> None:
    said: list[str] = []
    matrix = tiny_matrix(networks=[{"load": f"{plain}:softmax", "check": False}], **SHOWN)
    plan = prepare.checked_plan(matrix, Store(tmp_path / "runs"), said.append)
    assert any("as after a softmax" in text for text in said)
    assert any("as after a softmax" in note for note in plan.evaluations[0].expected().notes)
    two = {"dataset": "digits(size=32, train=4, val=2, dev=2, digits=[0])", **SHOWN}
    matrix = tiny_matrix(networks=[{"load": f"{plain}:sigmoid", "binary": True}], **two)
    with pytest.raises(SegbenchError, match="as after a sigmoid"):
        prepare.checked_plan(matrix, Store(tmp_path / "runs"))


@pytest.mark.parametrize(("name", "kind"), [("nan", "NaN"), ("infinite", "infinite")])
def test_logits_that_are_no_numbers_score_nothing(
    tiny_matrix: Callable[..., Matrix], run_plan: RunPlan, plain: Path, silent: type, name: str, kind: str
) -> None:
    matrix = tiny_matrix(networks=[{"load": f"{plain}:{name}", "check": False}], **SHOWN)
    store = Store(matrix.runtime.store)
    records = run_plan(prepare.checked_plan(matrix, store), store, matrix.runtime, silent())
    assert {record.status for record in records} == {"failed"}
    assert all(record.scores is None and kind in str(record.error) for record in records)


def test_networks_inside_functions_are_evaluated_in_eval_mode(
    tiny_matrix: Callable[..., Matrix], plain: Path, tmp_path: Path
) -> None:
    matrix = tiny_matrix(networks=[{"load": f"{plain}:training", "check": False}], **SHOWN)
    plan = prepare.checked_plan(matrix, Store(tmp_path / "runs"))
    network = load_network(plan.evaluations[0].target, Store(tmp_path / "runs"), CPU, 3, 255)
    assert not any(module.training for module in network.modules())
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(network(images), network(images), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ("smp:unet?encoder=resnet18", "no option 'encoder'; did you mean 'encoder_name'"),
        ("smp:unet?encoder_name=resnet18&clases=3", "no option 'clases'; did you mean 'classes'"),
        ("torchvision:fcn_resnet50?num_clases=3", "no option 'num_clases'; did you mean 'num_classes'"),
        ("torchvision:lraspp_mobilenet_v3_large?aux_loss=true", "no option 'aux_loss'"),
    ],
)
def test_options_that_a_library_does_not_know_are_refused(load: str, message: str) -> None:
    with pytest.raises(SegbenchError, match=message):
        open_adapter(external_network(load), 3)


def test_a_checkpoint_that_lacks_a_part_is_refused_unless_asked_for(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    sizes = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 1, 1]}
    config = transformers.SegformerConfig(num_labels=3, decoder_hidden_size=8, **sizes)
    transformers.SegformerModel(config).save_pretrained(tmp_path / "encoder")
    entry = {"load": f"hf:{tmp_path / 'encoder'}", "name": "net"}
    with pytest.raises(SegbenchError, match=r"the weights lack \d+ of its tensors: decode_head"):
        open_adapter(external_network(entry), 3)
    assert open_adapter(external_network({**entry, "incomplete": True}), 3)(torch.rand(1, 3, 32, 32)).shape[1] == 3


def test_classes_in_another_order_are_matched_by_their_names(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    bound = catalog.find("dataset", "digits")
    dataset = bound.object(size=32, train=2, val=2, dev=2, digits=[0, 1])
    data = Data(Bound(bound, {"size": 32}), "f00d")
    sizes = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 1, 1]}
    images = torch.rand(1, 3, 32, 32)

    def opened(names: tuple[str, ...]) -> Opened:
        config = transformers.SegformerConfig(id2label=dict(enumerate(names)), decoder_hidden_size=8, **sizes)
        transformers.SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / "net")
        return open_external(external_network({"load": f"hf:{tmp_path / 'net'}", "name": "net"}), data, dataset)

    assert opened(dataset.classes).cell.external.classes is None
    other = opened(("x", "0", "1"))
    assert other.cell.external.classes is None
    assert any("named otherwise" in note for note in other.cell.notes)
    for names in (dataset.classes[::-1], ("a", "1", "background", "b", "0")):
        found = opened(names)
        own, groups = found.adapter, found.cell.external.classes
        expected = [names.index(name) for name in dataset.classes]
        assert groups == {name: (place,) for name, place in zip(dataset.classes, expected, strict=True)}
        plain = Adapter(own.network, own.convention, None).eval()
        torch.testing.assert_close(own(images), plain(images)[:, expected])
        again = load_network(found.cell, Store(tmp_path / "runs"), CPU, 3, 255)
        torch.testing.assert_close(again(images), own(images))
    with pytest.raises(SegbenchError, match=r"its 4 channels .* do not name 1; say with --classes"):
        opened(("background", "0", "a", "b"))


def test_a_plan_runs_no_code_of_a_network(tiny_matrix: Callable[..., Matrix], tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("raise SystemExit('this file was run')\n")
    (tmp_path / "net.pt2").write_bytes(b"a program")
    for load in (f"{tmp_path}/code.py:build", str(tmp_path / "net.pt2")):
        matrix = tiny_matrix(networks=[{"load": load, "trust": True}], **SHOWN)
        assert prepare.tentative_plan(matrix).evaluations
    with pytest.raises(SegbenchError, match="can run code when it is loaded; if you trust its origin, pass --trust"):
        prepare.checked_plan(tiny_matrix(networks=[str(tmp_path / "net.pt2")], **SHOWN), Store(tmp_path / "runs"))


@pytest.mark.parametrize("classes", [1, 3, 150, 151])
def test_answers_are_taken_of_logits_of_any_number(classes: int) -> None:
    large = torch.full((), 2.0).expand(1, classes, 1024, 2048)
    assert at_places(large) == (2.0,) * PLACES
    small = torch.rand(1, classes, 5, 7).contiguous(memory_format=torch.channels_last)
    places = torch.linspace(0, small.numel() - 1, PLACES).long()
    assert at_places(small) == tuple(small.double().flatten()[places].tolist())


def test_answers_that_differ_or_are_not_finite_are_none() -> None:
    def logits(value: float) -> torch.Tensor:
        made = torch.ones(1, 2, 4, 4)
        made[0, 1, 2, 3] = value
        return made

    assert len(answers(logits(1.0), logits(1.0))) == PLACES
    for pair in ((1.0, 1.1), (float("nan"), float("nan")), (float("inf"), float("inf")), (1.0, float("nan"))):
        assert answers(*map(logits, pair)) == ()
