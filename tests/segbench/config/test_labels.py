"""Display names: each stands for one component or network of the matrix, and reports get them without the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from segbench.config.load import load_matrix
from segbench.config.matrix import Matrix
from segbench.errors import MatrixError

HEAD = """attacks: [clean, bim, bim(steps=2), pgd, fgsm]
defenses: [none, sat]
models: [pspnet(encoder=tiny)]
worst_of: {worst: [bim, pgd]}
recipe: {iterations: 1}
"""


def load(tmp_path: Path, labels: str) -> Matrix:
    path = tmp_path / "m.yaml"
    path.write_text(f"{HEAD}labels: {labels}\n")
    return load_matrix(str(path))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{pspnet: Ours}", {"pspnet": "Ours"}),
        ("{'pspnet( encoder = tiny )': ' Small PSPNet '}", {"pspnet(encoder=tiny)": "Small PSPNet"}),
        ("{'bim(steps=2, eps=0.03)': Two}", {"bim(steps=2)": "Two"}),
        ("{bim(steps=6): Six}", {"bim(steps=6)": "Six"}),
        ("{bim: B, digits: Ziffern, none: Standard, worst: Worst case}", None),
    ],
)
def test_a_display_name_is_of_what_the_matrix_holds(tmp_path: Path, written: str, meant: dict[str, str] | None) -> None:
    found = load(tmp_path, written).labels
    assert found == (meant or {"bim": "B", "digits": "Ziffern", "none": "Standard", "worst": "Worst case"})


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            "{pspnett: Ours}",
            "m.yaml:6: labels: there is no component or network of this matrix 'pspnett'; did you mean",
        ),
        ("{'bim(steps=3)': Three}", "there is no component or network of this matrix 'bim(steps=3)'"),
        ("{pspnet: ''}", "m.yaml:6: labels.pspnet: expected text, got '', which is empty"),
        ("{pspnet: ' '}", "labels"),
        ('{pspnet: "a\\nb"}', "expected text of one line without control characters"),
        ("{sat: none}", "labels: 'none' means something else in a report (no defense)"),
        ("{sat: clean}", "labels: 'clean' means something else in a report (no attack)"),
        ("{sat: " + "x" * 61 + "}", "has 61 characters; a column has room for 60"),
        ("{sat: Ours, none: Ours}", "labels: sat and none would both be called 'Ours'"),
        ("{sat: PSPNet}", "labels: 'PSPNet' is what reports call pspnet"),
        ("{'bim(steps=6)': Six, 'bim(steps=6, eps=0.03)': Other}", "are the same; keep one"),
        ("{pspnet: 3}", "labels"),
        ("[pspnet]", "labels"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, written: str, message: str) -> None:
    with pytest.raises(MatrixError) as caught:
        load(tmp_path, written)
    assert message in str(caught.value)


def test_display_names_change_no_identity(tmp_path: Path) -> None:
    first, second = load(tmp_path, "{}"), load(tmp_path, "{pspnet: Ours}")
    assert first.model_copy(update={"labels": second.labels}) == second
