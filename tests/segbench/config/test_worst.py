"""Sets of attacks mean what is bound; those without sense are refused with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from segbench.config.load import load_matrix
from segbench.config.matrix import Matrix
from segbench.errors import MatrixError

ATTACKS = "attacks: [clean, bim(steps=2), bim(steps=4), pgd, fgsm(eps=8/255)]"


def load(tmp_path: Path, worst_of: str, more: str = "") -> Matrix:
    path = tmp_path / "m.yaml"
    path.write_text(f"{ATTACKS}\nworst_of: {worst_of}\nrecipe: {{iterations: 1}}\n{more}")
    return load_matrix(str(path))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("'bim(steps=2, eps=0.03)'", "bim(steps=2)"),
        ("'bim(eps=0.03,steps=4)'", "bim(steps=4)"),
        ("'bim( steps = 4 )'", "bim(steps=4)"),
        ("fgsm(eps=0.03137254901960784)", "fgsm(eps=8/255)"),
        ("bim", "bim"),
        ("pgd(restarts=1)", None),
    ],
)
def test_a_member_is_what_it_is_bound_to(tmp_path: Path, written: str, meant: str | None) -> None:
    matrix = load(tmp_path, f"{{w: [{written}]}}")
    pgd = next(bound.short for bound in matrix.attacks if bound.name == "pgd")
    assert matrix.worst_of == {"w": (meant or pgd,)}


@pytest.mark.parametrize(
    ("worst_of", "message"),
    [
        ("{w: [clean, pgd]}", "m.yaml:2: clean is no attack"),
        ("{w: [clean]}", "m.yaml:2: clean is no attack"),
        (
            "{w: [bim(steps=3)]}",
            "'bim(steps=3)' is not one of the matrix's attacks; there are bim(steps=2), bim(steps=4)",
        ),
        ("{w: [segpgd]}", "'segpgd' is not one of the matrix's attacks"),
        ("{w: [pgd, pgd]}", "worst_of: 'pgd' and 'pgd' name the same attack"),
        ("{w: [bim, bim(steps=2)]}", "worst_of: 'bim' and 'bim(steps=2)' name the same attack"),
        ("{w: [bim(steps=2), 'bim(steps=2, eps=0.03)']}", "name the same attack"),
        ("{clean: [bim]}", "worst_of: 'clean' is the name of a column already"),
        ("{'bim(steps=2)': [bim]}", "is the name of a column already"),
        ("{w: []}", "worst_of: 'w' names no attack"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(tmp_path: Path, worst_of: str, message: str) -> None:
    with pytest.raises(MatrixError) as error:
        load(tmp_path, worst_of)
    assert message in str(error.value)
    assert str(error.value).count("\n") == 0


def test_a_set_that_no_network_is_under_is_refused(tmp_path: Path) -> None:
    transfer = "models: [pspnet, deeplabv3]\ndefenses: [none]\ntransfer: {substitutes: none, attacks: [pgd]}\n"
    assert load(tmp_path, "{w: [pgd, bim]}", transfer).worst_of == {"w": ("pgd", "bim")}
    assert load(tmp_path, "{w: [pgd]}", transfer + "white_box: false\n").worst_of == {"w": ("pgd",)}
    other = transfer.replace("[pgd]", "[segpgd]")
    assert load(tmp_path, "{w: [segpgd]}", other).worst_of == {"w": ("segpgd",)}
    with pytest.raises(MatrixError, match="no network is under all attacks of 'w' in one setting"):
        load(tmp_path, "{w: [segpgd, bim]}", other)
    with pytest.raises(MatrixError, match=r"'bim' is not one of"):
        load(tmp_path, "{w: [bim]}", transfer + "white_box: false\n")


def test_transfer_stands_for_all_attacks_made_on_other_networks(tmp_path: Path) -> None:
    transfer = "models: [pspnet, deeplabv3]\ndefenses: [none]\ntransfer: {substitutes: none, attacks: [segpgd]}\n"
    assert load(tmp_path, "{w: [bim, transfer]}", transfer).worst_of == {"w": ("bim", "transfer")}
    for written, more, message in (
        (
            "{w: [bim, transfer]}",
            "",
            "m.yaml:2: worst_of: transfer is every attack made on another network; there is none",
        ),
        ("{w: [transfer]}", transfer, "'w' needs an attack on the network itself beside transfer"),
        ("{w: [segpgd, transfer]}", transfer, "no network is under all attacks of 'w'"),
    ):
        with pytest.raises(MatrixError) as error:
            load(tmp_path, written, more)
        assert message in str(error.value)
