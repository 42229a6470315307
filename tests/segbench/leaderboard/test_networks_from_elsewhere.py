"""A network of a library is entered with what it was, and predicted again from its weights."""

from __future__ import annotations

import html
import io
import json
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from segbench.config.load import load_matrix
from segbench.config.network import ExternalNetwork
from segbench.execution import execute, prepare
from segbench.leaderboard import adding, bundle
from segbench.leaderboard.composing import Details
from segbench.leaderboard.verify import verify
from segbench.networks.load import open_adapter
from segbench.reports.labels import Labels
from segbench.reports.leaderboard import site
from segbench.reports.leaderboard.card import loading
from segbench.reports.leaderboard.entries import Entry
from segbench.reports.page.facts import facts
from segbench.store import Store

LOAD = "smp:fpn?encoder_name=tu-mobilenetv3_small_050"
DATA = "digits(size=32, train=4, val=4, dev=2, digits=[0, 1])"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network whose channels are the classes backwards, and whose input has another range."""
    torch.manual_seed(0)
    network = open_adapter(ExternalNetwork(load=LOAD, name="fpn"), 3).network
    assert isinstance(network, torch.nn.Module)
    path = tmp_path_factory.mktemp("weights") / "fpn.safetensors"
    save_file({name: value.contiguous().clone() for name, value in network.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def run(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("elsewhere")
    network = {
        "load": LOAD,
        "weights": str(weights),
        "convention": {"range": "0-255", "mean": [100, 100, 100], "std": [50, 50, 50]},
        "classes": {"background": 2, "0": 1, "1": 0},
        "check": False,
    }
    content = {
        "dataset": DATA,
        "networks": [network],
        "attacks": ["clean", "bim(steps=2)"],
        "runtime": {"workers": 1, "device": "cpu", "keep_images": 2, "store": str(folder / "runs")},
    }
    (folder / "m.yaml").write_text(yaml.safe_dump(content))
    matrix = load_matrix(str(folder / "m.yaml"))
    store = Store(folder / "runs")
    execute.run(prepare.checked_plan(matrix, store), store, matrix.runtime, execute.SILENT)
    assert {record.status for record in store.all_records()} == {"done"}
    return store


@pytest.fixture(scope="module")
def entry(run: Store) -> Entry:
    (made,) = adding.entries(run, [], Details()).entries
    return made


def test_it_is_verified_from_its_weights_alone(run: Store, entry: Entry, weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(bundle.pack(entry, run))
    verdict = verify(path, [weights], entry)
    assert verdict.problems == ()
    assert verdict.verification is not None
    assert (verdict.verification.images, verdict.verification.disagreement) == (4, 0.0)
    state = {name: value + 1 if value.is_floating_point() else value for name, value in load_file(weights).items()}
    save_file(state, tmp_path / "other.safetensors")
    (problem,) = verify(path, [tmp_path / "other.safetensors"], entry).problems
    assert "nor is that of its values" in problem


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("classes", {"background": [0], "0": [1], "1": [2]}, "of its pixels are predicted differently"),
        ("architecture", "evil.py:build", "networks of this kind are not built anew"),
        ("architecture", "smp:fpn?encoder_name=resnet18&classes=3", "do not fit the network"),
        ("architecture", "", "cannot build it: no image was predicted again"),
    ],
)
def test_a_record_that_says_something_else(
    run: Store, entry: Entry, weights: Path, tmp_path: Path, key: str, value: object, text: str
) -> None:
    """The whole bundle says it, so that only predicting again finds it."""
    path = tmp_path / "b.zip"
    changed = {}
    with zipfile.ZipFile(io.BytesIO(bundle.pack(entry, run))) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    for name, content in files.items():
        if name == "entry.json" or name.startswith("records/"):
            read = json.loads(content)
            owners = read["model"]["weights"] if name == "entry.json" else [read["target"], read["source"]]
            for owner in owners:
                owner["origin"][key] = value
            changed[name] = json.dumps(read).encode()
    path.write_bytes(bundle.zipped({**files, **changed}))
    verdict = verify(path, [weights])
    assert verdict.verification is None
    assert any(text in said for said in (*verdict.problems, *verdict.facts))


def test_its_page_and_its_report_say_what_was_loaded(run: Store, entry: Entry, tmp_path: Path) -> None:
    paths = site.build([entry], tmp_path, sortable=False)
    page = html.unescape(next(path for path in paths if path.suffix == ".html" and "fpn" in path.name).read_text())
    told = loading(entry)
    assert told.python.splitlines()[-1].startswith("network = segbench.load_model('smp:fpn?classes=3&")
    origin = entry.model.weights[0].origin
    assert origin is not None
    records = list(run.all_records())
    shown = next(own for own in facts(records, Labels(records), provenance=False) if "elsewhere" in own.heading)
    for text in (LOAD, "values 0-255", "background 2, 0 1, 1 0", f"{origin.parameters:,}", origin.file_sha256):
        assert text is not None
        assert text in page
        assert text in shown.rows[0][2]
