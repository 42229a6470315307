"""The wheel has one import name and all its files, and lives beside a user's own folders of any name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIBLINGS = ("attacks", "defenses", "model_zoo", "reports")
DATA = (
    ("segbench/matrices", "*.yaml"),
    ("segbench/datasets/descriptions", "*.yaml"),
    ("segbench/view/static", "*"),
    ("reports/templates", "*"),
    ("reports/published", "*.csv"),
)
"""Folders of the repository with files that are no modules."""


def run(*command: object, cwd: Path) -> str:
    # Only the wheel may be found: not the tree that PYTHONPATH may name.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def in_wheel(path: Path) -> str:
    """Where a file of the repository lies in the wheel."""
    name = path.relative_to(ROOT).as_posix()
    return f"segbench/{name}" if name.startswith(SIBLINGS) else name


def test_pyproject_lists_the_packages_that_exist() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {
        in_wheel(path.parent).replace("/", ".")
        for top in ("segbench", *SIBLINGS)
        for path in (ROOT / top).rglob("*.py")
    }
    assert len(setuptools["packages"]) == len(set(setuptools["packages"]))
    assert set(setuptools["packages"]) == folders
    assert setuptools["package-dir"] == {
        "segbench": "segbench",
        **{f"segbench.{sibling}": sibling for sibling in SIBLINGS},
    }


class Installed(NamedTuple):
    """The wheel, installed.

    Attributes:
        wheel: the file.
        site: where it was installed.
        python: the interpreter that finds it.
    """

    wheel: Path
    site: Path
    python: Path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    # From a copy, because a build leaves files behind where it runs.
    folder = tmp_path_factory.mktemp("wheel")
    source, dist = folder / "source", folder / "dist"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "build", "runs", "*.egg-info"))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", dist, source, cwd=folder)
    (wheel,) = dist.glob("segbench-*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    run(*pip, "install", "--quiet", "--no-deps", "--target", site, wheel, cwd=folder)
    # torch and the other dependencies come from the environment of the test. A line of code in a .pth file, such as
    # that of an editable segbench, runs only in folders that `site` reads: a plain path is none.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installed(wheel, site, python)


@pytest.mark.slow
def test_the_wheel_has_one_root_and_every_file(installed: Installed) -> None:
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    roots = {name.partition("/")[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == {"segbench"}
    modules = {in_wheel(path) for top in ("segbench", *SIBLINGS) for path in (ROOT / top).rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    data = {in_wheel(path) for folder, pattern in DATA for path in (ROOT / folder).glob(pattern) if path.is_file()}
    assert data | {"segbench/py.typed"} <= names


@pytest.mark.slow
def test_the_command_line_works_from_an_empty_folder(installed: Installed, tmp_path: Path) -> None:
    where = run(installed.python, "-c", "import segbench; print(segbench.__file__)", cwd=tmp_path)
    assert where.startswith(str(installed.site))
    assert "bim" in run(installed.python, "-m", "segbench", "list", cwd=tmp_path)
    assert "trainings" in run(installed.python, "-m", "segbench", "plan", "quickstart", cwd=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_folder_attacks_of_the_user_does_no_harm(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "attacks").mkdir()
    (tmp_path / "attacks" / "__init__.py").write_text("OWN = True\n")
    program = (
        "import attacks, segbench; from segbench.attacks.bim import bim; "
        "print(attacks.OWN, bim.name, segbench.attack.__module__, segbench.__file__)"
    )
    own, name, module, where = run(installed.python, "-c", program, cwd=tmp_path).split()
    assert (own, name, module) == ("True", "bim", "segbench.tensors")
    assert where.startswith(str(installed.site))
    assert "bim" in run(installed.python, "-m", "segbench", "list", "attacks", cwd=tmp_path)


OWN_TEST = """
import reports

def test_own_package_and_plugin(assert_robust):
    import segbench.reports.render

    assert reports.OWN
    assert "segbench" in segbench.reports.render.__name__
    assert callable(assert_robust)
"""


@pytest.mark.slow
def test_a_package_reports_of_the_user_lives_beside_the_pytest_plugin(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "__init__.py").write_text("OWN = True\n")
    (tmp_path / "test_own.py").write_text(OWN_TEST)
    # `python -m pytest` puts the current folder first on the path, which is the harder case.
    output = run(installed.python, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "test_own.py", cwd=tmp_path)
    assert "1 passed" in output
    where = run(installed.python, "-c", "import segbench.pytest_plugin as p; print(p.__file__)", cwd=tmp_path)
    assert where.startswith(str(installed.site))
