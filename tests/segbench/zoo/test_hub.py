"""The Hugging Face Hub as a zoo, against a stand-in of its HTTP interface on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fsspec
import pytest
import yaml

from segbench.reports.records import Component
from segbench.zoo.cards import Card, Number, ZooError
from segbench.zoo.hub import parse_place
from segbench.zoo.model_card import MARK, model_card
from segbench.zoo.places import Zoo, resolve

hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # of the library's own upload
CONTENT = bytes(range(256)) * 300
REPOSITORY = "someone/zoo"
ADDRESS = f"hf://{REPOSITORY}"
NUMBERS = tuple(
    Number(
        attack=attack, setting=setting, protocol="whole-v1", split="val", n_images=5, miou=miou, aacc=90.0, record="r"
    )
    for attack, setting, miou in (("clean", "clean", 70.25), ("bim(steps=6)", "white-box", 31.5))
)


def made_card(name: str = "digits/pspnet-tiny/sat/0@1", content: bytes = CONTENT, **changes: Any) -> Card:
    fields: dict[str, Any] = dict(
        name=name,
        model=Component(name="pspnet", short="pspnet(encoder=tiny)"),
        defense=Component(name="sat", short="sat"),
        dataset=Component(name="digits", short="digits"),
        num_classes=2,
        classes=("back|ground", "zero"),
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        licence="CC-BY-4.0",
        numbers=NUMBERS,
    )
    return Card(**{**fields, **changes})


class Hub(ThreadingHTTPServer):
    """One model repository, none at first."""

    files: dict[str, bytes] | None = None
    objects: dict[str, bytes]
    commits: list[str]
    refuses = False


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        api, raw = f"/api/models/{REPOSITORY}", f"/{REPOSITORY}/resolve/main/"
        files = self.server.files
        if files is None:
            self._answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif path.startswith(raw):
            self._file(files.get(path.removeprefix(raw)))
        elif path.startswith(f"{api}/tree/main"):
            inside = path.removeprefix(f"{api}/tree/main").strip("/")
            own = [name for name in files if not inside or name.startswith(f"{inside}/")]
            if not own:
                self._answer({"error": "no such entry"}, 404, {"X-Error-Code": "EntryNotFound"})
                return
            recursive = "recursive=true" in self.path.lower()
            self._answer(self._listed(own, inside, recursive))
        elif path in (api, f"{api}/revision/main"):
            self._answer({"id": REPOSITORY, "sha": "0" * 40, "private": False, "siblings": [], "tags": []})
        else:
            self._answer({"error": path}, 404)

    def do_POST(self) -> None:
        body = self._body()
        path = self.path.partition("?")[0]
        if self.server.refuses:
            self._answer({"error": "Invalid username or password."}, 401)
        elif path == "/api/repos/create":
            status = 200 if self.server.files is None else 409
            self.server.files = self.server.files if self.server.files is not None else {}
            self._answer({"url": f"http://127.0.0.1/{REPOSITORY}", "name": REPOSITORY}, status)
        elif path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular"}
                for f in json.loads(body)["files"]
            ]
            self._answer({"files": [{**file, "shouldIgnore": False, "oid": None} for file in files]})
        elif path.endswith("/info/lfs/objects/batch"):
            href = f"http://127.0.0.1:{self.server.server_port}/upload/"
            objects = [
                {**each, "actions": {"upload": {"href": href + each["oid"], "header": {}}}}
                for each in json.loads(body)["objects"]
            ]
            self._answer({"transfer": "basic", "objects": objects})
        elif "/commit/" in path:
            self._commit([json.loads(line) for line in body.splitlines() if line])
        elif "/paths-info/" in path:
            wanted = json.loads(body)["paths"] if body.startswith(b"{") else []
            files = self.server.files or {}
            folders = {name.rpartition("/")[0] for name in files}
            self._answer(
                [_entry(name, files) for name in wanted if name in files]
                + [{"type": "directory", "oid": "0", "path": name, "size": 0} for name in wanted if name in folders]
            )
        else:
            self._answer({"error": path}, 404)

    def do_PUT(self) -> None:
        self.server.objects[self.path.rpartition("/")[2]] = self._body()
        self._answer({})

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        assert self.server.files is not None
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.server.commits.append(value["summary"])
            elif line["key"] == "file":
                self.server.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.server.files[value["path"]] = self.server.objects[value["oid"]]
        self._answer({"success": True, "commitOid": "1" * 40, "commitUrl": f"http://127.0.0.1/{REPOSITORY}/commit/1"})

    def _listed(self, names: list[str], inside: str, recursive: bool) -> list[dict[str, Any]]:
        files, found = self.server.files or {}, {}
        for name in names:
            parts = name.removeprefix(f"{inside}/" if inside else "").split("/")
            last = len(parts) if recursive else 1
            for depth in range(1, last + 1):
                path = "/".join([*([inside] if inside else []), *parts[:depth]])
                whole = depth == len(parts)
                found[path] = (
                    _entry(path, files) if whole else {"type": "directory", "oid": "0", "path": path, "size": 0}
                )
        return list(found.values())

    def _file(self, data: bytes | None) -> None:
        if data is None:
            self._answer({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        status, extra, part = 200, {}, data
        if wanted := self.headers.get("Range"):
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            last = min(int(end or len(data) - 1), len(data) - 1)
            part, status = data[int(start) : last + 1], 206
            extra = {"Content-Range": f"bytes {start}-{last}/{len(data)}"}
        self._send(part, status, {"ETag": '"1"', "X-Repo-Commit": "0" * 40, "Accept-Ranges": "bytes", **extra})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(content).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, body: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


def _entry(path: str, files: dict[str, bytes]) -> dict[str, Any]:
    return {"type": "file", "oid": "0" * 40, "path": path, "size": len(files[path])}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    running = Hub(("127.0.0.1", 0), Handler)
    running.objects, running.commits = {}, []
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{running.server_port}"
    monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": endpoint, "token": "hf_stand_in"})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("SEGBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SEGBENCH_OFFLINE", raising=False)
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "some.safetensors"
    path.write_bytes(CONTENT)
    return path


def test_a_network_goes_to_the_hub_in_one_commit_and_comes_back(server: Hub, weights: Path) -> None:
    card = made_card()
    Zoo(ADDRESS).put(card, weights)
    assert server.commits == [f"Add {card.name}"]
    assert set(server.files or {}) == {
        f"{card.name}/weights.safetensors",
        f"{card.name}/card.json",
        "index.json",
        "README.md",
    }
    assert Zoo(ADDRESS).names() == [card.name]
    path, found = resolve("digits/pspnet-tiny/sat/0", [ADDRESS])
    assert (path.read_bytes(), found) == (CONTENT, card)


def test_what_was_downloaded_is_there_offline(server: Hub, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = made_card()
    Zoo(ADDRESS).put(card, weights)
    path, _ = resolve(card.name, [ADDRESS])
    server.files = None
    monkeypatch.setenv("SEGBENCH_OFFLINE", "1")
    assert resolve(card.name, [ADDRESS])[0] == path


def test_a_second_network_joins_the_page_and_a_version_never_changes(server: Hub, weights: Path) -> None:
    Zoo(ADDRESS).put(made_card(), weights)
    other = made_card("digits/pspnet-tiny/none/0@1", licence="MIT")
    Zoo(ADDRESS).put(other, weights)
    assert server.files is not None
    page = server.files["README.md"].decode()
    assert page.index("digits/pspnet-tiny/none/0@1") < page.index("digits/pspnet-tiny/sat/0@1")
    assert json.loads(server.files["index.json"]) == [other.name, made_card().name]
    weights.write_bytes(b"other")
    with pytest.raises(ZooError, match="exists with other weights"):
        Zoo(ADDRESS).put(made_card(content=b"other"), weights)


def test_a_page_of_the_owner_stays(server: Hub, weights: Path) -> None:
    server.files = {"README.md": b"# Mine\n"}
    Zoo(ADDRESS).put(made_card(), weights)
    assert server.files["README.md"] == b"# Mine\n"


def test_a_refusal_is_one_sentence(server: Hub, weights: Path) -> None:
    server.refuses = True
    with pytest.raises(ZooError, match=r"zoo hf://someone/zoo: digits/pspnet-tiny/sat/0@1 cannot be written") as error:
        Zoo(ADDRESS).put(made_card(), weights)
    assert "\n" not in str(error.value)


def test_the_page_is_a_model_card_that_the_hub_reads() -> None:
    page = model_card([made_card()], ADDRESS)
    data = hub.ModelCard(page).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("cc-by-4.0", "segbench", "image-segmentation")
    assert {"sat", "pspnet", "adversarial-robustness"} <= set(data.tags)
    results = {result.metric_name: result.metric_value for result in data.eval_results}
    assert results == {"mIoU in %, clean images, whole-v1": 70.25, "mIoU in %, bim(steps=6), whole-v1": 31.5}
    assert MARK in page
    assert "back\\|ground" in page
    assert "| bim(steps=6) | whole-v1 | val | 5 | 31.5 | 90.0 |" in page


@pytest.mark.parametrize(
    ("licences", "written"),
    [
        (["Apache-2.0", "Apache-2.0"], {"license": "apache-2.0"}),
        (["MIT", "CC0-1.0"], {"license": "other", "license_name": "several"}),
        (["Mine-1"], {"license": "other", "license_name": "mine-1"}),
        (["unknown"], {"license": "unknown"}),
    ],
)
def test_licences_by_the_names_of_the_hub(licences: list[str], written: dict[str, str]) -> None:
    cards = [made_card(f"digits/net/sat/{seed}@1", licence=licence) for seed, licence in enumerate(licences)]
    read = yaml.safe_load(model_card(cards, ADDRESS).split("---\n")[1])
    assert {key: value for key, value in read.items() if key.startswith("license")} == written


def test_addresses_on_the_hub() -> None:
    assert parse_place("someone/zoo") == ("model", "someone/zoo", None, "")
    assert parse_place("datasets/someone/zoo@v2/a/b") == ("dataset", "someone/zoo", "v2", "a/b")
    for wrong in ("zoo", "", "a b/c"):
        with pytest.raises(ZooError, match="names no repository"):
            parse_place(wrong)
