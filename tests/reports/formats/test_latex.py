"""LaTeX that compiles; without a compiler, its structure."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from segbench.reports.evidence import Evidence
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


def test_captions_are_short_and_the_rest_stands_below(build) -> None:
    page = compose(Manifest(name="x", title="x", records=tuple(build())))
    for section, text in zip(page.sections, re.findall(r"\\caption\{(.*)\}", to_latex(page)), strict=True):
        assert text.startswith(escape(section.table.heading))
        assert len(text) <= 160
    assert r"\item mIoU in per cent; mean and sample standard deviation" in to_latex(page)


def test_every_sign_is_explained_below_its_table(build) -> None:
    records = build()
    masked = [r.target.defense.name == "sat" and r.setting == "white-box" for r in records]
    flagged = [
        r.model_copy(update={"flags": ("zero-loss",)}) if own else r for r, own in zip(records, masked, strict=True)
    ]
    counts = {r.digest: _counts(r) for r in flagged}
    evidence = Evidence(counts.get)
    manifest = Manifest(name="x", title="x", records=tuple(flagged), metrics=("macc",))
    for text in to_latex(compose(manifest, evidence=evidence)).split(r"\begin{table}")[1:]:
        body, notes = text.split(r"\begin{tablenotes}")
        for sign, item in ((r"$^{\dagger}$", r"\item[$\dagger$] Flagged"), ("$^{*}$", r"\item[*] significantly")):
            assert (sign in body) == (item in notes), item
        assert (r"\textbf" in body) <= ("in bold" in notes)
        assert (r"$\pm$" in body) <= ("standard deviation" in notes)
    assert r"$^{*}$" in to_latex(compose(manifest, evidence=evidence))


def _counts(record) -> np.ndarray:
    true = np.full((40, 3), 1000)
    return np.stack([np.full_like(true, int(10 * record.scores.miou)), true, true], 1)


def test_deviations_stand_beside_the_means_where_the_table_is_wide(build) -> None:
    page = compose(Manifest(name="x", title="x", records=tuple(build())))
    narrow, wide = to_latex(page), to_latex(page, wide=True)
    assert r"\begin{table*}" in wide
    assert r"\begin{table*}" not in narrow
    assert r"\textbf{72.3} {\footnotesize $\pm$ 0.5}" in wide
    assert wide.count(r"$\pm$") == narrow.count(r"$\pm$")


LAYOUTS = [("", False), ("twocolumn", False), ("twocolumn", True)]


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "wide"), LAYOUTS)
def test_it_compiles(build, one, net, tmp_path, layout, wide) -> None:
    compiler = shutil.which("tectonic") or shutil.which("pdflatex")
    if compiler is None:
        pytest.skip("neither tectonic nor pdflatex is installed")
    records = [*build(), one(net(NASTY, NASTY, 0), dataset=NASTY, status="failed", error=NASTY)]
    tables = to_latex(compose(Manifest(name="x", title="x", records=tuple(records)), published="xu2021"), wide=wide)
    (tmp_path / "main.tex").write_text(
        f"\\documentclass[{layout}]{{article}}\\usepackage[T1]{{fontenc}}\n"
        "\\usepackage{textcomp,booktabs,graphicx,threeparttable}\n"
        # The width of the float, and every caption again as a paragraph of that width, whose lines are counted.
        "\\newsavebox{\\measured}\\let\\written\\caption\n"
        "\\renewcommand{\\caption}[1]{\\setbox\\measured\\vbox{\\hsize\\linewidth\\noindent Table 99: #1\\par"
        "\\xdef\\counted{\\the\\prevgraf}}\\typeout{LINES \\counted}\\written{#1}}\n"
        f"\\begin{{document}}\n{tables}\\end{{document}}\n"
    )
    options = ["-interaction=nonstopmode", "-halt-on-error"] if compiler.endswith("pdflatex") else ["--print"]
    done = subprocess.run([compiler, *options, "main.tex"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "main.pdf").stat().st_size > 1000
    lines = [int(number) for number in re.findall(r"LINES (\d+)", done.stdout + done.stderr)]
    assert len(lines) == tables.count("\\caption{")
    assert max(lines) <= 3
    if compiler.endswith("pdflatex"):
        wide_boxes = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", done.stdout)]
        assert [points for points in wide_boxes if points > 2] == []
