"""Transport: what arrives is whole and what the card says, whatever happens on the way."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

from segbench.reports.records import Component
from segbench.zoo import places
from segbench.zoo.cards import Card, ZooError, parse_name
from segbench.zoo.places import Zoo, resolve

NAME = "digits/pspnet-tiny/sat/0@1"
CONTENT = bytes(range(256)) * 8192  # 2 MB: two chunks


def make_card(content: bytes = CONTENT, name: str = NAME) -> Card:
    return Card(
        name=name,
        model=Component(name="pspnet", short="pspnet"),
        defense=Component(name="sat", short="sat"),
        num_classes=3,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
    )


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SEGBENCH_ZOO", raising=False)
    monkeypatch.delenv("SEGBENCH_OFFLINE", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "some.safetensors"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def folder(weights: Path, tmp_path: Path) -> Zoo:
    zoo = Zoo(str(tmp_path / "zoo"))
    zoo.put(make_card(), weights)
    return zoo


class Server(ThreadingHTTPServer):
    """Serves a folder, with parts of files; `break_after` closes the connection after so many bytes, once."""

    root: Path
    ranges = True
    break_after: int | None = None
    sent = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.server.root / self.path.strip("/")
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data, first = path.read_bytes(), 0
        wanted = self.headers.get("Range") if self.server.ranges else None
        if wanted:
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(end or len(data) - 1), len(data) - 1)
            total, data = len(data), data[first : last + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{total}")
        else:
            self.send_response(200)
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            limit = self.server.break_after
            if limit is not None and path.suffix == ".safetensors" and first + len(data) > limit:
                self.wfile.write(data[: max(0, limit - first)])
                self.close_connection = True
                return
            self.wfile.write(data)
            self.server.sent += len(data) if path.suffix == ".safetensors" else 0

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server(folder: Zoo) -> Iterator[Server]:
    running = Server(("127.0.0.1", 0), Handler)
    running.root = Path(folder.root)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_a_network_in_a_folder_is_used_where_it_lies(folder: Zoo) -> None:
    path, card = resolve("digits/pspnet-tiny/sat/0")
    assert path == Path(folder.root, NAME, "weights.safetensors")
    assert card == make_card()
    assert folder.names() == [NAME]


def test_a_version_never_changes(folder: Zoo, weights: Path) -> None:
    folder.put(make_card(), weights)
    weights.write_bytes(b"other")
    with pytest.raises(ZooError, match="exists with other weights; a version never changes"):
        folder.put(make_card(b"other"), weights)
    assert resolve(NAME)[0].read_bytes() == CONTENT


def test_the_latest_version_by_number(folder: Zoo, weights: Path) -> None:
    for version in (2, 10):
        content = f"version {version}".encode()
        weights.write_bytes(content)
        folder.put(make_card(content, NAME.replace("@1", f"@{version}")), weights)
    assert folder.names() == [f"digits/pspnet-tiny/sat/0@{version}" for version in (1, 2, 10)]
    assert resolve("digits/pspnet-tiny/sat/0")[1].name.endswith("@10")
    assert resolve("digits/pspnet-tiny/sat/0@2")[0].read_bytes() == b"version 2"


def test_damaged_weights_are_refused(folder: Zoo) -> None:
    path = folder.weights(parse_name(NAME))
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(ZooError, match="not the file that its card describes"):
        resolve(NAME)


def test_zoos_are_searched_in_order(folder: Zoo, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights.write_bytes(b"first")
    Zoo("memory://first").put(make_card(b"first"), weights)
    monkeypatch.setenv("SEGBENCH_ZOO", "memory://absent, memory://first,zoo")
    assert resolve(NAME)[0].read_bytes() == b"first"
    monkeypatch.setenv("SEGBENCH_ZOO", "zoo,memory://first")
    assert resolve(NAME)[0].read_bytes() == CONTENT
    with pytest.raises(ZooError, match=r"digits/unet/sat/0: not in zoo, memory://first; `segbench zoo list`"):
        resolve("digits/unet/sat/0")


def test_an_object_store_is_read_through_the_cache(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = Zoo("memory://objects")
    zoo.put(make_card(), weights)
    assert zoo.names() == [NAME]
    path, _ = resolve(NAME, ["memory://objects"])
    assert path.read_bytes() == CONTENT
    fsspec.filesystem("memory").rm("/objects", recursive=True)
    monkeypatch.setenv("SEGBENCH_OFFLINE", "1")
    assert resolve("digits/pspnet-tiny/sat/0", ["memory://objects"])[0] == path
    with pytest.raises(ZooError, match="SEGBENCH_OFFLINE is set"):
        resolve("digits/pspnet-tiny/sat/1", ["memory://objects"])


def test_a_download_over_http(url: str, server: Server) -> None:
    assert Zoo(url).names() == [NAME]
    path, card = resolve(NAME, [url])
    assert (path.read_bytes(), card) == (CONTENT, make_card())
    sent = server.sent
    resolve(NAME, [url])
    assert server.sent == sent, "the second time it comes from the cache"


def test_a_broken_download_is_continued(url: str, server: Server) -> None:
    server.break_after = 1_500_000
    with pytest.raises(ZooError, match=r"stopped at [\d,]+ of 2,097,152 bytes .*; try again to continue it"):
        resolve(NAME, [url])
    weights = places.cache_of(Zoo(url)).weights(parse_name(NAME))
    assert not weights.exists(), "nothing shows until it is whole"
    part = weights.with_name("weights.safetensors.part")
    part.write_bytes(CONTENT[:1_048_576])
    server.break_after, server.sent = None, 0
    assert resolve(NAME, [url])[0].read_bytes() == CONTENT
    assert server.sent <= len(CONTENT) - 1_048_576, "only the rest was sent"
    assert not part.exists()


def test_a_server_without_parts_starts_over(url: str, server: Server) -> None:
    server.ranges = False
    weights = places.cache_of(Zoo(url)).weights(parse_name(NAME))
    weights.parent.mkdir(parents=True)
    weights.with_name("weights.safetensors.part").write_bytes(CONTENT[:1000])
    assert resolve(NAME, [url])[0].read_bytes() == CONTENT


def test_a_wrong_beginning_is_thrown_away(url: str) -> None:
    weights = places.cache_of(Zoo(url)).weights(parse_name(NAME))
    weights.parent.mkdir(parents=True)
    weights.with_name("weights.safetensors.part").write_bytes(b"?" * 1000)
    assert resolve(NAME, [url])[0].read_bytes() == CONTENT


def test_a_download_that_is_not_what_the_card_says_never_shows(url: str, server: Server) -> None:
    (server.root / NAME / "weights.safetensors").write_bytes(CONTENT[::-1])
    with pytest.raises(ZooError, match="is not the file that its card describes"):
        resolve(NAME, [url])
    cached = places.cache_of(Zoo(url)).weights(parse_name(NAME)).parent
    assert not [path for path in cached.iterdir() if path.name != ".lock"]


def test_a_place_that_cannot_be_reached_is_an_error_and_not_an_empty_zoo(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"zoo http://127.0.0.1:9: .* cannot be read"):
        resolve(NAME, ["http://127.0.0.1:9", str(tmp_path / "zoo")])
    with pytest.raises(ZooError, match=r"zoo qq://a: cannot be opened \(Protocol not known: qq"):
        Zoo("qq://a")


def test_a_zoo_that_cannot_be_written(url: str, weights: Path) -> None:
    card = make_card(name="digits/pspnet-tiny/sat/0@2")
    with pytest.raises(ZooError, match="cannot be written"):
        Zoo(url).put(card, weights)
