"""The steps of action.yml and of the GitLab snippet, run one by one as a runner would, with segbench in place."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MATRIX = """\
dataset: digits(size=16, train=4, val=4, dev=2, digits=[0, 1])
networks: [{load: "net.py:build", name: net}]
attacks: [clean]
"""
NETWORK = """\
from torch import nn
def build():
    return nn.Conv2d(3, 3, 1)
"""


@pytest.fixture
def runner(tmp_path: Path) -> dict[str, str]:
    """The environment of a runner whose cache holds an environment with segbench in it."""
    if shutil.which("bash") is None:
        pytest.skip("the steps are bash")
    place = tmp_path / "temp" / "segbench" / "bin"
    place.mkdir(parents=True)
    program = place / "segbench"
    program.write_text(f'#!/bin/bash\nexec {sys.executable} -P -m segbench "$@"\n')
    program.chmod(0o755)
    (tmp_path / "ci.yaml").write_text(MATRIX)
    (tmp_path / "net.py").write_text(NETWORK)
    paths = os.pathsep.join(path for path in sys.path if path)
    places = {"HOME": str(tmp_path), "RUNNER_TEMP": str(tmp_path / "temp")}
    return {"PATH": os.environ["PATH"], "PYTHONPATH": paths, **places}


def step(name: str) -> dict[str, Any]:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    found: dict[str, Any] = next(each for each in action["runs"]["steps"] if each.get("id") == name)
    return found


def filled(text: str, runner: dict[str, str], inputs: dict[str, str]) -> str:
    values = {"runner.temp": runner["RUNNER_TEMP"], **{f"inputs.{key}": value for key, value in inputs.items()}}
    return re.sub(r"\$\{\{\s*([\w.]+)\s*\}\}", lambda match: values[match[1]], text)


@pytest.mark.slow
def test_the_check_of_the_action(runner: dict[str, str], tmp_path: Path) -> None:
    own = step("check")
    output = tmp_path / "output"
    given = {"matrix": "ci.yaml", "baseline": "", "data": "\n", "arguments": "--require=miou[clean]>=100\n"}

    def run(**changes: str) -> int:
        environment = {key: filled(value, runner, {**given, **changes}) for key, value in own["env"].items()}
        environment |= {**runner, "GITHUB_OUTPUT": str(output)}
        ran = subprocess.run(["bash", "-e", "-c", own["run"]], cwd=tmp_path, env=environment, check=False, timeout=300)
        return ran.returncode

    assert run() == 1
    found = Path(output.read_text().strip().partition("=")[2])
    assert json.loads(found.read_text())["rows"][0]["verdict"] == "NOT MET"
    assert {path.name for path in found.parent.iterdir()} == {"result.json", "junit.xml", "summary.md"}
    assert run(baseline="none.json") == 2
    assert json.loads(found.read_text())["exit_code"] == 2


def test_the_inputs_that_steps_name_are_there() -> None:
    text = (ROOT / "action.yml").read_text()
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(yaml.safe_load(text)["inputs"])


@pytest.mark.slow
def test_the_script_of_the_gitlab_snippet(runner: dict[str, str], tmp_path: Path) -> None:
    (block,) = re.findall(r"## GitLab.*?```yaml\n(.*?)```", (ROOT / "docs" / "ci.md").read_text(), re.DOTALL)
    script = yaml.safe_load(block)["robustness"]["script"]
    (tmp_path / ".robustness").symlink_to(Path(runner["RUNNER_TEMP"]) / "segbench")
    made = [*script[:-1], script[-1] + " --update", script[-1]]
    ran = subprocess.run(["bash", "-e", "-c", "\n".join(made)], cwd=tmp_path, env=runner, check=False, timeout=300)
    assert ran.returncode == 0
    assert (tmp_path / "junit.xml").is_file()
    assert json.loads((tmp_path / "result.json").read_text())["exit_code"] == 0
