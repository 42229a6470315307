from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from typer.testing import CliRunner

from segbench import cli
from segbench.files import file_sha256, write_json
from segbench.model_zoo.base import Segmenter
from segbench.model_zoo.pspnet import pspnet
from segbench.networks.load import load_network
from segbench.store import Store
from segbench.zoo import networks as zoo
from segbench.zoo import places
from segbench.zoo.cards import ZooError
from segbench.zoo.places import Zoo

runner = CliRunner()
SAT = "digits/pspnet-tiny/sat/0@1"


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SEGBENCH_ZOO", raising=False)
    monkeypatch.delenv("SEGBENCH_OFFLINE", raising=False)
    monkeypatch.chdir(tmp_path)


MATRIX = """
name: tiny
dataset: digits(size=16, train=12, val=5, dev=2, digits=[0, 1])
model: pspnet(encoder=tiny, widths=[4, 4, 6, 6], bins=[1, 2], channels=4)
defenses: [sat, bit-depth]
attacks: [clean, bim(steps=1), bim(steps=3)]
recipe: {optimizer: adamw, lr: 0.01, batch_size: 4, iterations: 4}
runtime: {workers: 1, device: cpu}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a finished tiny matrix: one architecture, a defense at inference beside a plain one."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(MATRIX)
    result = runner.invoke(cli.app, ["run", str(folder / "tiny.yaml"), "--store", str(folder / "runs")])
    assert result.exit_code == 0, result.output
    return folder / "runs"


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> Store:
    """A copy of that store, in the current folder."""
    shutil.copytree(finished, tmp_path / "runs")
    return Store(tmp_path / "runs")


@pytest.fixture
def added(store: Store) -> Path:
    """The zoo folder that the finished matrix was entered into."""
    result = runner.invoke(cli.app, ["zoo", "add", "tiny", "--licence", "CC0-1.0"])
    assert result.exit_code == 0, result.output
    return Path("zoo")


def segbench(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line as a user does and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["segbench", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_a_network_from_the_zoo_computes_what_the_trained_one_does(store: Store, added: Path) -> None:
    cells = {cell.defense.name: cell for cell, _ in zoo.trained_cells(store, "tiny")}
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert sorted(cells) == ["bit-depth", "sat"]
    for defense, cell in cells.items():
        trained = load_network(cell, store, torch.device("cpu"), 3, 255)
        loaded = zoo.load(f"digits/pspnet-tiny/{defense}/0")
        assert not loaded.training
        assert torch.equal(loaded.to(memory_format=torch.channels_last)(images), trained(images))  # type: ignore[call-overload]


def test_a_card_says_what_was_measured(store: Store, added: Path) -> None:
    _, card = places.resolve(SAT)
    records = {r.attack.short: r for r in store.manifest("tiny").records if r.target.defense.name == "sat"}  # type: ignore[union-attr]
    assert [n.attack for n in card.numbers] == ["clean", "bim(steps=1)", "bim(steps=3)"]
    for number in card.numbers:
        record = records[number.attack]
        assert record.scores is not None
        assert (number.record, number.n_images, number.setting) == (record.digest, 5, record.setting)
        assert number.miou == pytest.approx(record.scores.miou, abs=0.005)
        assert card.sha256 == record.target.weights_sha256
    assert card.classes == ("background", "0", "1")
    assert card.licence == "CC0-1.0"


def test_the_same_weights_are_entered_once_and_others_get_the_next_version(store: Store, added: Path) -> None:
    runner.invoke(cli.app, ["zoo", "add", "tiny"])
    assert Zoo("zoo").names() == [SAT.replace("sat", "bit-depth"), SAT]
    cell = next(cell for cell, _ in zoo.trained_cells(store, "tiny") if cell.defense.name == "sat")
    folder, done = store.train_dir(cell.digest), store.trained(cell.digest)
    assert done is not None
    weights = save({name: value * 2 for name, value in load_file(folder / "weights.safetensors").items()})
    store.write_training(cell.digest, weights, (folder / "history.csv").read_bytes(), done)
    assert "it was not evaluated" in str(runner.invoke(cli.app, ["zoo", "add", cell.digest]).exception)
    for record in [r for r in store.all_records() if r.target.digest == cell.digest]:
        counts, names = store.counts(record.digest), store.image_names(record.digest)
        assert counts is not None
        assert names is not None
        target = record.target.model_copy(update={"weights_sha256": store.weights_sha256(cell.digest)})
        store.write_record(record.model_copy(update={"target": target}), counts, names)
    assert "sat/0@2" in runner.invoke(cli.app, ["zoo", "add", cell.digest]).output
    assert places.resolve("digits/pspnet-tiny/sat/0")[1].name.endswith("@2")


def test_a_name_of_one_s_own(store: Store) -> None:
    digests = [cell.digest for cell, _ in zoo.trained_cells(store, "tiny")]
    result = runner.invoke(cli.app, ["zoo", "add", digests[0], "--as", "scenes/mine/sat/7"])
    assert "scenes/mine/sat/7@1" in result.output
    assert zoo.load("scenes/mine/sat/7")(torch.rand(1, 3, 16, 16)).shape == (1, 3, 16, 16)


def test_a_training_without_numbers_is_not_entered(store: Store) -> None:
    cell = next(cell for cell, _ in zoo.trained_cells(store, "tiny"))
    with pytest.raises(ZooError, match="it was not evaluated"):
        zoo.add(store, cell, [], Zoo("zoo"), licence="unknown")


def test_weights_of_another_architecture_are_found_out(added: Path) -> None:
    assert zoo.verify(SAT).name == SAT
    other = {"trunk.weight": torch.zeros(3)}
    path = added / SAT / "weights.safetensors"
    save_file(other, path)
    card = json.loads((added / SAT / "card.json").read_text())
    write_json(added / SAT / "card.json", {**card, "sha256": file_sha256(path), "size": path.stat().st_size})
    with pytest.raises(ZooError, match="these weights do not fit the network; missing: "):
        zoo.verify(SAT)
    result = runner.invoke(cli.app, ["zoo", "verify"])
    assert result.exit_code == 1
    assert f"{SAT}: " in result.output
    assert f"{SAT.replace('sat', 'bit-depth')}: good" in result.output


def save_as_the_authors(segmenter: Segmenter, path: Path) -> None:
    """Write a network as the authors' checkpoints are: other names, and `module.` before each."""
    names = {
        "trunk.encoder.": "",
        "trunk.context.branches.": "ppm.features.",
        "classifier.": "cls.",
        "auxiliary.": "aux.",
    }
    state = {}
    for ours, value in segmenter.state_dict().items():
        prefix = next(prefix for prefix in names if ours.startswith(prefix))
        state[f"module.{names[prefix]}{ours.removeprefix(prefix)}"] = value
    torch.save({"epoch": 50, "state_dict": state}, path)


def test_a_published_checkpoint_is_converted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    segmenter = pspnet(4, encoder="resnet50-deepstem").eval()
    save_as_the_authors(segmenter, Path("sat.pth"))
    name = "scenes/pspnet-resnet50-deepstem/sat/0"
    result = runner.invoke(
        cli.app, ["zoo", "import", "sat.pth", "--as", name, "--source", "https://example.org/sat.pth"]
    )
    assert result.exit_code == 0, result.exception
    assert f"{name}@1" in result.output
    card = zoo.verify(name)
    assert (card.num_classes, card.source, card.model.name) == (4, "https://example.org/sat.pth", "pspnet")
    images = torch.rand(1, 3, 33, 33)
    assert torch.equal(zoo.load(name)(images), segmenter(images))
    with pytest.raises(ZooError, match="trained by another defense, such as none or sat, as its branches show"):
        zoo.import_official(Path("sat.pth"), name.replace("sat", "ddcat"), Zoo("zoo"), licence="unknown", source=None)


class Bomb:
    """What a pickle can do."""

    def __reduce__(self) -> object:
        return os.mkdir, ("exploded",)


def test_a_pickle_is_never_run(added: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = added / SAT / "weights.safetensors"
    path.write_bytes(pickle.dumps({"state_dict": Bomb()}))
    card = json.loads((added / SAT / "card.json").read_text())
    write_json(added / SAT / "card.json", {**card, "sha256": file_sha256(path), "size": path.stat().st_size})
    with pytest.raises(ZooError, match="not a safetensors file"):
        zoo.load(SAT)
    torch.save({"state_dict": Bomb()}, "bad.pth")
    with pytest.raises(ZooError, match="refused, because it is damaged or contains Python objects"):
        zoo.import_official(Path("bad.pth"), "voc2012/pspnet/sat/0", Zoo("zoo"), licence="unknown", source=None)
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zoo", "show", "nonsense"], "'nonsense' is not a name of a network; expected dataset/architecture/defense"),
        (["zoo", "show", "a/b/c/0"], "a/b/c/0: not in zoo; `segbench zoo list` shows what is"),
        (
            ["zoo", "add", "quickstart"],
            "quickstart: no matrix (there are: none) and no finished training",
        ),
        (["zoo", "import", "absent.pth", "--as", "a/b/sat/0"], "absent.pth: there is no such file of weights"),
        (["zoo", "import", "absent.pth", "--as", "a/b/satt/0"], "did you mean 'sat'"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segbench(monkeypatch, *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["list", "show", "add", "pull", "push", "import", "verify"])
def test_help_of_every_verb_shows_an_example(verb: str) -> None:
    result = runner.invoke(cli.app, ["zoo", verb, "--help"])
    assert f"Example: segbench zoo {verb}" in " ".join(result.output.split())
