"""What black boxes allow: a matrix runs what is possible, and lists the rest once."""

from __future__ import annotations

import http.server
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import segbench
from segbench.components import catalog
from segbench.config.matrix import Matrix
from segbench.errors import MatrixError, SegbenchError
from segbench.execution import cost, prepare
from segbench.plan.access import GIVES, allows
from segbench.reports.records import Manifest
from segbench.reports.render import render
from segbench.store import Store

FILE = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Conv2d(3, 3, 3, padding=1)

def build():
    return net()

def scores():
    network = net().eval()
    return lambda images: network(images).detach().numpy()

def labels():
    network = net().eval()
    return lambda images: network(images).argmax(1).to(torch.uint8).numpy()
"""
SHOWN = {"models": None, "defenses": None, "recipe": None, "transfer": None}
ATTACKS = ["clean", "bim(steps=1)", "square(queries=3)", "label-square(steps=3)", "corruption(kind=fog)"]


@pytest.fixture
def matrix(tiny_matrix: Callable[..., Matrix], tmp_path: Path) -> Callable[..., Matrix]:
    """A matrix of networks of one file, given by their entries."""
    path = tmp_path / "net.py"
    path.write_text(FILE)

    def make(*entries: dict[str, object], attacks: list[str] = ATTACKS[:4]) -> Matrix:
        networks = [
            {"check": False, **entry, "load": f"{path}:{entry['load']}", "name": entry["load"]} for entry in entries
        ]
        return tiny_matrix(networks=networks, attacks=attacks, **SHOWN)

    return make


def test_each_level_gives_all_that_a_lower_one_gives() -> None:
    needs = {component.object.access for component in catalog.components("attack").values()}
    levels = [{need for need in needs if allows(given, need)} for given in ("labels", "scores", "gradients")]
    assert levels[0] < levels[1] < levels[2] == needs
    assert set(GIVES) == {"labels", "scores", "gradients"}


def test_a_mixed_matrix_runs_what_is_possible(
    matrix: Callable[..., Matrix], tmp_path: Path, run_plan: Callable[..., object], silent: type
) -> None:
    mixed = matrix({"load": "build"}, {"load": "scores"}, {"load": "labels"})
    said: list[str] = []
    store = Store(tmp_path / "runs")
    plan = prepare.checked_plan(mixed, store, said.append)
    made = {(cell.target.network().model.name, cell.attack.name) for cell in plan.evaluations}
    assert made == {
        *(("build", name) for name in ("clean", "bim", "square", "label-square")),
        *(("scores", name) for name in ("clean", "square", "label-square")),
        *(("labels", name) for name in ("clean", "label-square")),
    }
    refused = [text for text in said if text.startswith("not applicable")]
    assert len(refused) == 3
    assert "bim(steps=1) needs gradients, and scores gives only scores" in refused[0]
    assert any("no gradient reaches the images" in text for text in said)
    display = silent()
    execute_and_check(plan, store, mixed, run_plan, display, tmp_path)


def execute_and_check(
    plan: object, store: Store, mixed: Matrix, run_plan: Callable[..., object], display: object, out: Path
) -> None:
    run_plan(plan, store, mixed.runtime, display)
    manifest = store.manifest("tiny")
    assert isinstance(manifest, Manifest)
    states = {(r.target.model.name, r.attack.name): r.status for r in manifest.records}
    assert [key for key, state in states.items() if state != "done"] == [
        ("scores", "bim"),
        ("labels", "bim"),
        ("labels", "square"),
    ]
    assert states["labels", "square"] == "not applicable"
    by_access = {r.target.model.name: r.target.access for r in manifest.records}
    assert by_access == {"build": "gradients", "scores": "scores", "labels": "labels"}
    # The same network behind labels scores the same, clean and under the attack that reads only labels.
    shown = {(r.target.model.name, r.attack.name): r.scores for r in manifest.records}
    for attack in ("clean", "label-square"):
        assert shown["build", attack] == shown["labels", attack] == shown["scores", attack]
    html, text, cells, tex = (
        path.read_text() for path in render(manifest, out / "report", ("html", "md", "cells", "tex"), figures=False)
    )
    assert "n/a" in text
    assert "n/a: bim(steps=1) needs gradients, and labels gives only labels" in text
    assert 'title="bim(steps=1) needs gradients, and labels gives only labels' in html
    assert "3 not applicable" in text
    assert "not applicable" in cells
    assert "n/a" in tex


def test_the_plan_says_what_it_leaves_out(matrix: Callable[..., Matrix], tmp_path: Path) -> None:
    from rich.console import Console

    plan = prepare.tentative_plan(matrix({"load": "build", "access": "labels"}))
    console = Console(file=io.StringIO(), width=200)
    console.print(cost.summary(cost.measured(plan, Store(tmp_path / "runs"), estimate=False)))
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "not applicable: bim(steps=1) needs gradients, and build gives only labels" in written


def test_substitutes_take_what_a_black_box_does_not_give(matrix: Callable[..., Matrix], tmp_path: Path) -> None:
    mixed = matrix({"load": "labels", "substitutes": "build"}, {"load": "build", "scored": False})
    plan = prepare.checked_plan(mixed, Store(tmp_path / "runs"))
    made = {(cell.attack.name, cell.source.network().model.name, cell.setting) for cell in plan.asked}
    assert made == {
        ("clean", "labels", "clean"),
        ("bim", "build", "black-box"),
        ("square", "build", "black-box"),
        ("label-square", "labels", "white-box"),
    }
    assert {cell.target.network().model.name for cell in plan.asked} == {"labels"}
    assert not plan.refusals


def test_what_cannot_be_run_at_all_is_an_error(matrix: Callable[..., Matrix], tmp_path: Path) -> None:
    with pytest.raises(SegbenchError, match=r"nothing can be run: bim\(steps=1\) needs gradients, and labels gives"):
        prepare.checked_plan(matrix({"load": "labels"}, attacks=["bim(steps=1)"]), Store(tmp_path))
    with pytest.raises(MatrixError, match="substitutes of labels: there is no network 'biuld'; did you mean 'build'"):
        matrix({"load": "labels", "substitutes": ["biuld"]}, {"load": "build"})
    with pytest.raises(MatrixError, match="every network is only a substitute"):
        matrix({"load": "build", "scored": False})


@pytest.fixture
def service() -> Iterator[str]:
    """A service that answers images with label maps, as npy in both directions."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Conv2d(3, 6, 3, padding=1).eval()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            images = np.load(io.BytesIO(self.rfile.read(int(self.headers["Content-Length"]))), allow_pickle=False)
            with torch.no_grad():
                labels = network(torch.from_numpy(images)).argmax(1).to(torch.uint8).numpy()
            buffer = io.BytesIO()
            np.save(buffer, labels)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(buffer.getvalue())

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_remote_service_is_a_few_lines(service: str, tmp_path: Path) -> None:
    from urllib.request import urlopen

    def remote(images: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        buffer = io.BytesIO()
        np.save(buffer, images.numpy())
        found: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = np.load(
            io.BytesIO(urlopen(service, buffer.getvalue()).read())
        )
        return found

    result = segbench.evaluate(
        remote,
        "digits(size=32, val=4)",
        ["clean", "bim(steps=1)", "label-square(steps=4)"],
        limit=2,
        store=tmp_path / "runs",
        device="cpu",
        force=True,
    )
    states = {record.attack.name: record.status for record in result.records}
    assert states == {"clean": "done", "bim": "not applicable", "label-square": "done"}
    report = result.report()[0]
    assert report.is_file()
    assert json.loads(next((tmp_path / "runs" / "matrices").glob("*.json")).read_text())["records"][1]["error"]
