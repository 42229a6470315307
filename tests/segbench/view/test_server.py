"""The page shows what a store holds, answers this machine alone, and reads no other file."""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from segbench import cli
from segbench.reports.evidence import KeptImage
from segbench.reports.statistics import mean_iou
from segbench.store import Store
from segbench.store.base import packed
from segbench.store.running import Running
from segbench.view.pictures import KINDS
from segbench.view.server import Server
from segbench.view.unfinished import live_miou

Serve = Callable[..., Server]


def request(
    server: Server, path: str, method: str = "GET", **headers: str
) -> tuple[int, bytes, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, answer


def data(server: Server, path: str, **query: Any) -> Any:
    status, content, _ = request(server, f"{path}?{urlencode(query)}")
    assert status == 200, content
    return json.loads(content)


def matrix_of(server: Server) -> tuple[str, Any]:
    store = data(server, "/api/stores")["stores"][0]
    return store["store"], data(server, "/api/matrix", store=store["store"], matrix=store["matrices"][0]["name"])


def job(digest: str, process: int) -> Running:
    """A sweep under way on this machine, three of its five images done."""
    now = time.time()
    host = socket.gethostname()
    return Running("somekey", "bim on it", (digest,), "local", host, process, now, now, 3, 5, note="mIoU 1.0")


def cells_of(matrix: Any) -> dict[str, Any]:
    return {c["digest"]: c for table in matrix["tables"] for row in table["rows"] for c in row["cells"] if c}


def test_every_evaluation_of_a_store_is_shown_with_its_mIoU(serve: Serve, store: Store) -> None:
    _, matrix = matrix_of(serve(store.root))
    records = {record.digest: record for record in store.records()}
    cells = cells_of(matrix)
    assert set(cells) == set(records)
    assert matrix["states"] == {"done": len(records), "running": 0, "failed": 0, "waiting": 0}
    for digest, record in records.items():
        assert record.scores is not None
        assert cells[digest]["miou"] == record.scores.miou
    assert [table["heading"].rpartition(", ")[2] for table in matrix["tables"]] == ["white-box", "black-box"]
    assert {training["state"] for training in matrix["trainings"]} == {"done"}


def test_failed_and_missing_evaluations_are_shown_as_such(serve: Serve, store: Store) -> None:
    first, second = store.evaluations()[:2]
    record = store.record(first)
    assert record is not None
    for name in ("record.json", "counts.npz", "tallies.npz"):
        (store.eval_dir(first) / name).unlink(missing_ok=True)
        (store.eval_dir(second) / name).unlink(missing_ok=True)
    failed = record.model_copy(update={"status": "failed", "scores": None, "n_images": None})
    store.write_failed_record(failed, RuntimeError("it \x1b[31mbroke"))
    cells = cells_of(matrix_of(serve(store.root))[1])
    assert cells[first]["state"] == "failed"
    assert cells[first]["error"] == r"RuntimeError: it \x1b[31mbroke"
    assert cells[second]["state"] == "waiting"


def test_a_damaged_record_is_shown_with_what_is_wrong(serve: Serve, store: Store) -> None:
    digest = store.evaluations()[0]
    path = store.eval_dir(digest) / "record.json"
    path.write_text(path.read_text().replace('"status": "done"', '"status": "odd"'))
    cell = cells_of(matrix_of(serve(store.root))[1])[digest]
    assert cell["state"] == "failed"
    assert "checksum" in cell["error"]


def test_a_job_under_way_is_shown_with_the_mIoU_so_far(serve: Serve, store: Store) -> None:
    digest = store.evaluations()[0]
    record, counts = store.record(digest), store.counts(digest)
    assert record is not None
    assert counts is not None
    for name in ("record.json", "counts.npz", "tallies.npz"):
        (store.eval_dir(digest) / name).unlink(missing_ok=True)
    store.write_unfinished("somekey", packed(**{f"counts/{digest}/": counts[:3], f"passes/{digest}": np.zeros(2)}))
    store.write_running(job(digest, os.getpid()))
    server = serve(store.root)
    _, matrix = matrix_of(server)
    cell = cells_of(matrix)[digest]
    assert (cell["state"], cell["done"], cell["total"]) == ("running", 3, 5)
    assert cell["miou"] == pytest.approx(100 * float(mean_iou(counts[:3].sum(0), record.absent)), abs=1e-9)
    assert matrix["jobs"] == [{"label": "bim on it", "done": 3, "total": 5, "note": "mIoU 1.0"}]
    assert data(server, "/api/stores")["stores"][0]["running"] == ["tiny"]


def test_a_process_that_has_ended_runs_nothing(serve: Serve, store: Store) -> None:
    gone = job(store.evaluations()[0], 2**22 + 1)
    store.write_running(gone)
    os.utime(store.cache_dir / "running" / f"{gone.key}.json", (time.time() - 20,) * 2)
    server = serve(store.root)
    assert matrix_of(server)[1]["jobs"] == []
    assert data(server, "/api/stores")["stores"][0]["running"] == []


def test_the_worst_part_of_an_ensemble_is_the_mIoU_so_far() -> None:
    good, bad = np.array([[[4, 4], [4, 4], [4, 4]]]), np.array([[[1, 1], [4, 4], [4, 4]]])
    content = packed(**{"counts/d/a": good, "counts/d/b": bad, "counts/other/": good, "names": np.array(["x"])})
    assert live_miou(content, {"d": "skip"}) == {"d": pytest.approx(100 / 7)}
    assert live_miou(None, {"d": "skip"}) == {}


def test_kept_images_have_the_scores_of_their_pixels(serve: Serve, store: Store) -> None:
    server = serve(store.root)
    key, _ = matrix_of(server)
    digest = store.evaluations()[0]
    found = data(server, "/api/images", store=key, digest=digest)
    kept = store.kept_images(digest)
    assert [row["index"] for row in found["images"]] == [image.index for image in kept]
    record = store.record(digest)
    assert record is not None
    assert found["classes"] == list(record.classes)
    for row, image in zip(found["images"], kept, strict=True):
        ious = []
        for label in range(len(image.palette)):
            pairs = [
                (t, p) for t, p in zip(image.truth.ravel(), image.preds.ravel(), strict=True) if t < len(image.palette)
            ]
            both = sum(t == label and p == label for t, p in pairs)
            either = sum(label in (t, p) for t, p in pairs)
            ious.append(100 * both / either if either else None)
        assert row["iou"] == pytest.approx(ious)
        assert row["miou"] == pytest.approx(np.mean([iou for iou in ious if iou is not None]))
        assert row["accuracy"] == pytest.approx(100 * np.mean([t == p for t, p in pairs]))


def test_pictures_are_the_pixels_that_were_kept(serve: Serve, store: Store) -> None:
    server = serve(store.root)
    key, _ = matrix_of(server)
    digest = store.evaluations()[0]
    kept = store.kept_images(digest)[0]

    def seen(kind: str, **more: Any) -> Any:
        query = urlencode({"store": key, "digest": digest, "index": kept.index, "kind": kind, **more})
        status, content, answer = request(server, f"/image?{query}")
        assert (status, answer.getheader("Content-Type")) == (200, "image/png")
        return np.asarray(Image.open(io.BytesIO(content)))

    np.testing.assert_array_equal(seen("clean"), (kept.images[0] / 257).round())
    np.testing.assert_array_equal(seen("prediction"), kept.palette[kept.preds])
    change = (kept.adversarial[0].astype(float) - kept.images[0]) / 257
    np.testing.assert_array_equal(seen("change", factor=3), np.clip(128 + 3 * change, 0, 255).round())
    assert max(seen("attacked", side=5).shape) == 5
    for kind in KINDS:
        assert seen(kind).shape[-1] == 3


def test_pieces_of_an_image_are_seen_one_by_one() -> None:
    from segbench.view.pictures import png

    rng = np.random.default_rng(0)
    pieces = rng.integers(0, 65536, (2, 4, 6, 3), np.uint16)
    flat = np.zeros((4, 9), np.uint8)
    kept = KeptImage(0, "a", np.zeros((2, 3), np.uint8), pieces, pieces[::-1].copy(), flat, flat)
    second = np.asarray(Image.open(io.BytesIO(png(kept, "clean", piece=1))))
    np.testing.assert_array_equal(second, (pieces[1] / 257).round())
    assert png(kept, "clean", piece=7) == png(kept, "clean", piece=1)


def test_the_course_of_a_training_is_its_history(serve: Serve, store: Store) -> None:
    server = serve(store.root)
    key, matrix = matrix_of(server)
    digest = matrix["trainings"][0]["digest"]
    path = store.history(digest)
    assert path is not None
    found = data(server, "/api/training", store=key, digest=digest)
    lines = path.read_text().splitlines()
    assert ",".join(found["columns"]) == lines[0]
    assert found["rows"][0] == pytest.approx([float(value) for value in lines[1].split(",")])


@pytest.mark.parametrize(
    "path",
    [
        "/static/../routes.py",
        "/static/%2e%2e/routes.py",
        "//etc/passwd",
        "/api/training?store={key}&digest=../../matrices",
        "/api/images?store={key}&digest=..%2F..%2Fx",
        "/api/matrix?store={key}&matrix=../matrices/tiny",
        "/api/matrix?store=other&matrix=tiny",
        "/image?store={key}&digest=.hidden&index=0&kind=clean",
        "/image?store={key}&digest={digest}&index=0&kind=odd",
        "/image?store={key}&digest={digest}&index=nan&kind=clean",
        "/image?store={key}&digest={digest}&index=-1e99&kind=clean&side=x",
        "/api/training?store={key}&digest=%00",
        "/api/stores/",
    ],
)
def test_nothing_else_is_found(serve: Serve, store: Store, path: str) -> None:
    server = serve(store.root)
    key = data(server, "/api/stores")["stores"][0]["store"]
    status, content, _ = request(server, path.format(key=key, digest=store.evaluations()[0]))
    assert (status, json.loads(content)) == (404, {"error": "there is nothing here"})


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "127.0.0.1", ""]
)
def test_a_name_that_was_pointed_at_this_machine_is_refused(serve: Serve, store: Store, host: str) -> None:
    server = serve(store.root)
    status, content, _ = request(server, "/api/stores", Host=host.format(port=server.server_address[1]))
    assert status == 421
    assert b"stores" not in content


def test_own_names_are_served_with_headers_that_keep_others_out(serve: Serve, store: Store) -> None:
    server = serve(store.root)
    for name in ("127.0.0.1", "localhost"):
        status, content, answer = request(server, "/", Host=f"{name}:{server.server_address[1]}")
        assert status == 200
        assert b"<script type=" in content
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Python" not in answer.headers["Server"]
    assert request(server, "/api/stores", Sec_Fetch_Site="cross-site")[0] == 403
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_reading_is_possible(serve: Serve, store: Store, method: str) -> None:
    status, _, answer = request(serve(store.root), "/api/stores", method)
    assert (status, answer.getheader("Allow")) == (405, "GET, HEAD")


def test_what_is_known_is_not_sent_again(serve: Serve, store: Store) -> None:
    server = serve(store.root)
    _, content, first = request(server, "/api/stores")
    status, again, _ = request(server, "/api/stores", If_None_Match=first.headers["ETag"])
    assert content
    assert (status, again) == (304, b"")
    status, nothing, head = request(server, "/api/stores", "HEAD")
    assert (status, nothing, head.headers["ETag"]) == (200, b"", first.headers["ETag"])


def test_several_stores_and_one_that_is_empty(serve: Serve, store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    stores = data(serve(store.root, tmp_path / "empty"), "/api/stores")["stores"]
    assert [len(each["matrices"]) for each in stores] == [1, 0]


def test_the_command_names_what_is_wrong(store: Store, serve: Serve, tmp_path: Path) -> None:
    taken = serve(store.root).server_address[1]
    for arguments, words in (
        ([str(store.root), "--port", str(taken)], f"port {taken} is taken"),
        ([str(tmp_path / "none")], "there is no such store"),
    ):
        with pytest.raises(Exception, match=words):
            CliRunner().invoke(cli.app, ["view", *arguments], catch_exceptions=False)


def test_no_torch_is_needed() -> None:
    import subprocess
    import sys

    code = "import sys, segbench.view.server; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
