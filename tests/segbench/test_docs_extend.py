"""The components that the README and docs/extend.md show work outside of the package."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TITLED = re.compile(r'^```\w+ title="(?P<file>\S+)"\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)


def run(*command: object, cwd: Path, **environment: str) -> str:
    result = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_attack_of_the_readme_runs_when_pasted(tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## An attack in one file")[2]
    snippet = re.search(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert snippet is not None
    (tmp_path / "my_attack.py").write_text(snippet[1], encoding="utf-8")
    assert re.fullmatch(r"\d+ of 2304 labels changed\n", run(sys.executable, "my_attack.py", cwd=tmp_path))


def test_a_file_of_the_page_is_a_plugin(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    files = {block["file"]: block["text"] for block in TITLED.finditer(page)}
    (tmp_path / "my_attack.py").write_text(files["my_attack.py"], encoding="utf-8")
    (line,) = re.findall(r"^segbench (show .*)$", page.partition("## The package")[0], re.MULTILINE)
    shown = run(sys.executable, "-m", "segbench", *shlex.split(line), cwd=tmp_path)
    assert "One step of size eps up the cross-entropy." in shown


@pytest.mark.slow
def test_the_package_of_the_page_joins_matrices_and_the_command_line(tmp_path: Path) -> None:
    source, site, work = (tmp_path / name for name in ("source", "site", "work"))
    source.mkdir()
    work.mkdir()
    page = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    for block in TITLED.finditer(page):
        folder = work if block["file"].endswith(".yaml") else source
        (folder / block["file"]).write_text(block["text"], encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    run(*pip, "--no-deps", "--no-build-isolation", "--target", site, source, cwd=tmp_path)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])

    (commands,) = re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    outputs = {}
    for line in commands.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "segbench"
        outputs[arguments[0]] = run(sys.executable, "-m", "segbench", *arguments, cwd=work, PYTHONPATH=path)
    assert "my-attack" in outputs["list"]
    assert "One step of size eps up the cross-entropy." in outputs["show"]
    report = (work / "runs" / "reports" / "mine" / "report.md").read_text(encoding="utf-8")
    assert all(name in report for name in ("stripes", "two-layers", "brighter", "my-attack"))
    assert "failed" not in report
