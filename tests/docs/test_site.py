"""The documentation site builds without a warning, has every page, and asks for nothing from elsewhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from segbench.components import catalog

ROOT = Path(__file__).resolve().parents[2]
ASSET = re.compile(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=[\"']?(?:https?:)?//", re.IGNORECASE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ROOT / "build" / "tree").is_dir():
        make = shutil.which("make")
        assert make is not None, "the reference reads the tree that `make tree` links together"
        subprocess.run([make, "-s", "tree"], cwd=ROOT, check=True)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.mark.slow
def test_every_attack_and_defense_has_a_page(site: Path) -> None:
    for kind in ("attack", "defense"):
        for name, component in catalog.components(kind).items():
            page = (site / f"{kind}s" / name / "index.html").read_text(encoding="utf-8")
            assert all(f"<code>{option}</code>" in page for option in component.options), name


@pytest.mark.slow
def test_the_reference_shows_the_python_interface(site: Path) -> None:
    page = (site / "reference" / "segbench" / "index.html").read_text(encoding="utf-8")
    for name in ("api.evaluate", "tensors.attack", "tensors.predict", "api.load_model", "api.run_matrix"):
        assert page.count(f'id="segbench.{name}"') == 1
    assert page.count('id="segbench.result.Result"') == 1


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    assert [page for page in pages if ASSET.search(page.read_text(encoding="utf-8"))] == []


@pytest.mark.slow
def test_the_search_knows_the_attacks(site: Path) -> None:
    entries = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))["docs"]
    assert {f"attacks/{name}/" for name in catalog.components("attack")} <= {entry["location"] for entry in entries}
