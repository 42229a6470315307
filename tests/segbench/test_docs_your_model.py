"""The page's files are written, and its commands and programs run, in order."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segbench import cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "your-model.md"
BLOCK = re.compile(r'^```(?P<kind>\w+)(?: title="(?P<file>[^"]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_page_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    commands = programs = 0
    for block in BLOCK.finditer(PAGE.read_text()):
        if block["file"]:
            Path(block["file"]).write_text(block["text"])
        elif block["kind"] == "sh":
            for line in block["text"].splitlines():
                program, *arguments = shlex.split(line)
                assert program == "segbench"
                result = CliRunner().invoke(cli.app, arguments)
                assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception}"
                commands += 1
        elif block["kind"] == "python":
            exec(compile(block["text"], str(PAGE), "exec"), {})
            programs += 1
        else:
            assert block["kind"] == "text"
    sys.modules.pop("net", None)
    assert (commands, programs) == (5, 1)
    assert (tmp_path / "report" / "report.html").is_file()
    assert (tmp_path / "runs" / "reports" / "mine" / "report.html").is_file()


def test_every_family_of_transformers_has_a_command() -> None:
    example = (PAGE.parents[1] / "examples" / "tiny_transformers.py").read_text()
    families = re.findall(r"^FAMILIES = \((.*?)^\)", example, re.MULTILINE | re.DOTALL)
    named = re.findall(r'"([\w-]+)"', families[0])
    assert len(named) == 14
    assert re.findall(r"^\| .* `segbench eval hf:(\S+) -d", PAGE.read_text(), re.MULTILINE) == named
