"""A page over a store, and a browser to look at it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from segbench.store import Store
from segbench.view.server import Server


@pytest.fixture
def store(ran: Path, tmp_path: Path) -> Store:
    """A finished store of the tiny matrix."""
    return Store(shutil.copytree(ran, tmp_path / "runs"))


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Serve the page over stores."""
    servers = []

    def started(*stores: Path) -> Server:
        server = Server(list(stores), 0)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return server

    yield started
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="browser tests need playwright")
    path = os.environ.get("SEGBENCH_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium; set SEGBENCH_CHROMIUM to its path")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A page whose complaints, and whose requests that leave the machine, fail the test."""
    opened = chromium.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda r: complaints.append(r.url) if not r.url.startswith("http://127.0.0.1:") else None)
    yield opened
    assert complaints == []
    opened.close()
