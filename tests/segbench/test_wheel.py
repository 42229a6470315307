from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOTS = {"segbench", "attacks", "defenses", "model_zoo", "reports"}


def run(*command: object, cwd: Path) -> str:
    result = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.slow
def test_the_wheel_is_whole_and_works_from_an_empty_folder(tmp_path: Path) -> None:
    # From a copy, because a build leaves files behind where it runs.
    source, dist = tmp_path / "source", tmp_path / "dist"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "build", "runs", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", dist, source, cwd=tmp_path)
    (wheel,) = dist.glob("segbench-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    roots = {name.partition("/")[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == ROOTS
    assert all(f"{root}/py.typed" in names for root in ROOTS)
    for folder, pattern in (
        ("segbench/matrices", "*.yaml"),
        ("reports/templates", "*"),
        ("reports/published", "*.csv"),
    ):
        for path in (ROOT / folder).glob(pattern):
            assert f"{folder}/{path.name}" in names

    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    zipfile.ZipFile(wheel).extractall(site)
    # torch and the other dependencies are taken from the environment of the test; segbench comes from the wheel.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    where = run(python, "-c", "import segbench, reports; print(segbench.__file__, reports.__file__)", cwd=empty)
    assert where.count(str(site)) == 2
    assert "bim" in run(python, "-m", "segbench", "list", cwd=empty)
    assert "trainings" in run(python, "-m", "segbench", "plan", "quickstart", cwd=empty)
    assert not list(empty.iterdir())
