"""Components in files and modules that the user names: found, hashed, and refused in one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segbench import cli
from segbench.components import catalog, plugins, specs
from segbench.config.load import load_matrix
from segbench.errors import MatrixError, SegbenchError
from segbench.plan.identity import component_identity

ATTACK = """
from segbench.attacks.base import attack
from amounts import AMOUNT


@attack("darken")
def darken(model, images, masks, *, steps: int = 1, ignore_index: int = 255):
    '''Darken the images.'''
    return (images - AMOUNT).clamp(0, 1)
"""

runner = CliRunner()


@pytest.fixture(autouse=True)
def own_catalog(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A catalog that forgets its plugins."""
    monkeypatch.setenv(plugins.VARIABLE, "")
    catalog._all.cache_clear()
    yield
    plugins._plugins.clear()
    catalog._all.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a matrix, its plugin, and a module that the plugin imports."""
    (tmp_path / "mine.py").write_text(ATTACK)
    (tmp_path / "amounts.py").write_text("AMOUNT = 0.25\n")
    (tmp_path / "mine.yaml").write_text("plugins: mine.py\nattacks: [clean, darken]\nrecipe: {iterations: 2}\n")
    return tmp_path


def identity() -> str:
    return json.dumps(component_identity(specs.bound("attack", "darken")), sort_keys=True)


def test_a_matrix_names_a_plugin_beside_it(folder: Path) -> None:
    matrix = load_matrix(str(folder / "mine.yaml"))
    assert [attack.name for attack in matrix.attacks] == ["clean", "darken"]
    assert catalog.find("attack", "darken").module == str(folder / "mine.py")


def test_a_changed_plugin_or_helper_is_another_component_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    def again(where: Path) -> str:
        plugins._plugins.clear()
        os.environ[plugins.VARIABLE] = ""
        catalog._all.cache_clear()
        catalog.add_plugins(["mine.py"], where)
        return identity()

    before = again(folder)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("mine.py", "amounts.py"):
        (moved / name).write_text((folder / name).read_text())
    assert again(moved) == before
    (folder / "amounts.py").write_text("AMOUNT = 0.75\n")
    changed = again(folder)
    assert changed != before
    (folder / "mine.py").write_text(ATTACK + "\n# more\n")
    assert again(folder) not in (before, changed)


def test_processes_that_are_started_know_the_plugins(folder: Path) -> None:
    catalog.add_plugins(["mine.py"], folder)
    code = "from segbench.components import catalog; print(catalog.find('attack', 'darken').source)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == catalog.find("attack", "darken").source


def test_a_plugin_that_cannot_be_imported_is_one_sentence(folder: Path) -> None:
    (folder / "mine.py").write_text("import no_such_module_anywhere\n")
    with pytest.raises(MatrixError, match=r"mine\.yaml:1: .*mine\.py: the file failed \(ModuleNotFoundError: .*"):
        load_matrix(str(folder / "mine.yaml"))
    with pytest.raises(SegbenchError, match=r"missing\.py: there is no such file"):
        catalog.add_plugins(["missing.py"], folder)
    with pytest.raises(SegbenchError, match=r"no_such_package: cannot be imported"):
        catalog.add_plugins(["no_such_package"], folder)


def test_a_plugin_of_the_environment_that_fails_does_not_break_list(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mine.py").write_text("raise RuntimeError('not today')\n")
    monkeypatch.setenv(plugins.VARIABLE, str(folder / "mine.py"))
    listed = runner.invoke(cli.app, ["list", "attacks"])
    assert listed.exit_code == 0
    assert "bim" in listed.stdout
    assert "mine.py: the file failed (RuntimeError: not today)" in listed.stderr
    assert listed.stderr.count("\n") == 1
    with pytest.raises(SegbenchError, match=r"there is no attack 'darken'.*not today"):
        catalog.find("attack", "darken")


def test_a_plugin_that_takes_a_name_is_refused(folder: Path) -> None:
    (folder / "mine.py").write_text(ATTACK.replace("darken", "bim"))
    with pytest.raises(SegbenchError, match=r"mine\.py: the attack 'bim' is defined in segbench\.attacks\.bim already"):
        catalog.add_plugins(["mine.py"], folder)


def test_the_command_line_names_plugins(folder: Path) -> None:
    shown = runner.invoke(cli.app, ["show", "darken", "--plugin", str(folder / "mine.py")])
    assert shown.exit_code == 0, shown.output
    assert "Darken the images." in shown.stdout
