"""Commands of docs/zoo.md and docs/ci.md, run as they stand there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from segbench import cli
from segbench.zoo.places import resolve

DOCS = Path(__file__).resolve().parents[2] / "docs"
MODEL: dict[str, Any] = {"name": "pspnet", "encoder": "tiny", "widths": [4, 4, 6, 6], "bins": [1, 2], "channels": 4}


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGBENCH_CACHE", str(tmp_path / "cache"))
    for name in ("SEGBENCH_ZOO", "SEGBENCH_OFFLINE", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def commands(page: str) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def run(command: str) -> str:
    program, *arguments = shlex.split(command)
    assert program == "segbench"
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception}"
    return result.output


def test_the_commands_of_the_zoo_page(write_matrix: Callable[..., Path], tmp_path: Path) -> None:
    write_matrix("scenes", models=[MODEL], defenses=["sat"], transfer=None)
    outputs = {command: run(command) for command in commands("zoo.md")}
    assert len(outputs) == 8
    assert "digits/pspnet-tiny/sat/0@1" in outputs["segbench zoo list --zoo published"]
    assert "CC-BY-4.0" in outputs["segbench zoo show digits/pspnet-tiny/sat/0"]
    assert sorted(path.name for path in (tmp_path / "download").iterdir()) == ["card.json", "weights.safetensors"]
    code = re.search(r"```python\n(.*?)```", (DOCS / "zoo.md").read_text(), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1], names)
    assert names["card"] == resolve("digits/pspnet-tiny/sat/0@1")[1]


def test_the_commands_and_the_workflow_of_the_ci_page(write_matrix: Callable[..., Path], tmp_path: Path) -> None:
    write_matrix("ci", models=[MODEL], defenses=["none"], attacks=["clean"], transfer=None)
    for command in commands("ci.md"):
        run(command)
    text = re.search(r"```yaml\n(.*?)```", (DOCS / "ci.md").read_text(), re.DOTALL)
    assert text is not None
    workflow = yaml.safe_load(text[1])
    steps = workflow["jobs"]["check"]["steps"]
    kept = next(step["with"]["path"].split() for step in steps if "upload-artifact" in step.get("uses", ""))
    for name in kept:
        Path(name).unlink()
    install, check = (step["run"] for step in steps if "run" in step)
    assert install == "pip install segbench"
    assert "passed, all of 1 rows" in run(check)
    assert all(Path(name).is_file() for name in kept)
