"""What list, show and completion remember; and the doctor."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segbench import cli
from segbench.cli import known
from segbench.components import catalog, plugins
from segbench.networks import loaders

runner = CliRunner()

LIST_WITHOUT_TORCH = """
import sys
from segbench.cli import known
found = known.known()
assert "bim" in found["components"]["attack"]
print("torch" in sys.modules)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_remembered_is_what_is_found(own_cache: Path) -> None:
    first = known.known()
    (file,) = (own_cache / "known").iterdir()
    assert known.known() == first
    assert set(first["components"]["attack"]) == set(catalog.components("attack"))
    file.write_text(file.read_text().replace("bim", "mib"))  # damaged: found anew
    assert known.known() == first


def test_the_second_time_torch_is_not_imported() -> None:
    for expected in ("True", "False"):
        told = subprocess.run([sys.executable, "-c", LIST_WITHOUT_TORCH], capture_output=True, text=True, check=True)
        assert told.stdout.strip() == expected


def test_plugins_are_never_remembered(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("")
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path / "mine.py"))
    catalog._all.cache_clear()
    known.known()
    assert not own_cache.exists()


def test_a_cache_that_cannot_be_written_stops_nothing(own_cache: Path) -> None:
    own_cache.write_text("a file in its place")
    assert "bim" in known.known()["components"]["attack"]


def test_completion_knows_names() -> None:
    assert "quickstart" in known.complete_matrix("quick")
    assert [name for name, _ in known.completing("attack")("segp")] == ["segpgd"]
    assert ("bim", known.known()["components"]["attack"]["bim"]["summary"]) in known.complete_name("b")
    assert ("torchvision:", "") in known.completing("model", known.WAYS)("t")
    assert {way.removesuffix(":") for way in known.WAYS} == {*loaders.LIBRARIES, "hf"} - {"memory"}


def test_the_doctor_says_what_is_there(tmp_path: Path) -> None:
    result = runner.invoke(cli.app, ["doctor", "--store", str(tmp_path / "runs"), "--json"])
    assert result.exit_code == 0, result.output
    found = {one["what"]: one for one in json.loads(result.stdout)["findings"]}
    assert found["Python"]["found"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert {"torch", "CUDA", "extra hf", "processors", "memory", "disk", "store"} <= set(found)
    assert not (tmp_path / "runs").exists()


def test_the_doctor_finds_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file in its place")
    result = runner.invoke(cli.app, ["doctor", "--store", str(tmp_path / "runs")])
    assert result.exit_code == 1
    assert "name another folder with --store" in result.output
