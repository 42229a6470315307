"""LaTeX that compiles; without a compiler, its structure."""

import re
import shutil
import subprocess

import pytest

from segbench.reports.formats.latex import escape, to_latex
from segbench.reports.page.page import compose
from segbench.reports.records import Manifest

NASTY = "a_b & 50 % $x$ #1 {c} \\d ~e^f <g> é 漢"


@pytest.fixture
def tables(build, one, net) -> str:
    records = [*build(), one(net(NASTY, NASTY, 0), dataset=NASTY, status="failed", error=NASTY)]
    return to_latex(compose(Manifest(name="x", title="x", records=tuple(records)), published="xu2021"))


def test_every_row_has_as_many_cells_as_columns(tables) -> None:
    for columns, body in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", tables, flags=re.S):
        for line in re.findall(r"^(.*) \\\\$", body, flags=re.M):
            spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            assert len(re.split(r"(?<!\\)&", line)) - len(spans) + sum(spans) == len(columns)


def test_braces_and_environments_close(tables) -> None:
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", tables):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    assert re.findall(r"\\begin\{(\w+)\}", tables).count("table") == tables.count(r"\end{table}") == 3
    assert tables.count(r"\toprule") == tables.count(r"\bottomrule") == 3


def test_escape() -> None:
    assert escape("a_b & 50 % #1 {c}") == r"a\_b \& 50 \% \#1 \{c\}"
    assert escape("\\input{x}\n$") == r"\textbackslash{}input\{x\} \$"
    assert escape("漢\x00") == "[U+6F22][U+0000]"


@pytest.mark.slow
def test_it_compiles(tables, tmp_path) -> None:
    compiler = shutil.which("tectonic") or shutil.which("pdflatex")
    if compiler is None:
        pytest.skip("neither tectonic nor pdflatex is installed")
    head = (
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{textcomp,booktabs,graphicx}\\begin{document}\n"
    )
    (tmp_path / "main.tex").write_text(f"{head}{tables}\\end{{document}}\n")
    options = ["-interaction=nonstopmode", "-halt-on-error"] if compiler.endswith("pdflatex") else []
    done = subprocess.run([compiler, *options, "main.tex"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "main.pdf").stat().st_size > 1000
    if compiler.endswith("pdflatex"):
        assert "Overfull" not in done.stdout
