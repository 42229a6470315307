"""The page's files are written, and its commands and programs run, in order."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segbench import cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "black-box.md"
BLOCK = re.compile(r'^```(?P<kind>\w+)(?: title="(?P<file>[^"]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_the_page_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    said: list[str] = []
    for block in BLOCK.finditer(PAGE.read_text()):
        if block["file"]:
            Path(block["file"]).write_text(block["text"])
        elif block["kind"] == "python":
            exec(compile(block["text"], str(PAGE), "exec"), {})
        elif block["kind"] == "sh":
            for line in block["text"].splitlines():
                program, *arguments = shlex.split(line)
                assert program == "segbench"
                if arguments[:2] == ["attacked-set", "score"]:
                    exec(compile(Path("predict.py").read_text(), "predict.py", "exec"), {})
                result = CliRunner().invoke(cli.app, arguments)
                assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception}"
                said.append(" ".join(result.output.split()))
    sys.modules.pop("net", None)
    assert len(said) == 6
    assert "n/a: bim(steps=3) needs gradients, and net gives only scores" in said[0]
    assert "n/a" not in said[2]
    assert "bim(steps=3) needs gradients, and file gives only scores" in said[3]
    assert "set/bim-eps-4-255-steps-3--net: 4 images, largest change 0.01569" in said[4]
    assert "ours" in said[5]
