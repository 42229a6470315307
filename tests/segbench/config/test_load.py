from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel

from segbench.config import matrix
from segbench.config.fields import IDENTITY, LAYOUT, RUNTIME
from segbench.config.load import builtin_matrices, load_matrix
from segbench.config.matrix import Matrix
from segbench.errors import MatrixError
from segbench.execution import prepare


def load(tmp_path: Path, text: str, *overrides: str) -> Matrix:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    return load_matrix(str(path), overrides)


def test_a_short_file_is_enough(tmp_path: Path) -> None:
    matrix = load(tmp_path, "recipe: {iterations: 10}\n")
    assert [d.short for d in matrix.datasets] == ["digits"]
    assert [a.short for a in matrix.attacks] == ["clean", "bim(steps=6)"]
    assert matrix.protocol.short == "whole-v1"
    assert matrix.name == "m"


def test_all_mistakes_at_once_each_with_its_line(tmp_path: Path) -> None:
    text = """\
dataset: digitz
models:
  - pspnet(encoder=tiny)
  - name: deeplabv3
    ratez: [1, 2]
defenses: [none, sat(attack=bim(step=3))]
attacks: [clean, bim(eps=8)]
seeds: [0, 0]
recipe:
  lr: -1
  iterations: 10
"""
    with pytest.raises(MatrixError) as error:
        load(tmp_path, text)
    lines = str(error.value).splitlines()
    for where, what in [
        ("m.yaml:1: ", "there is no dataset 'digitz'; did you mean 'digits'?"),
        ("m.yaml:5: ", "deeplabv3 takes no 'ratez'; did you mean 'rates'?"),
        ("m.yaml:6: ", "bim takes no 'step'; did you mean 'steps'?"),
        ("m.yaml:7: ", "write 8/255"),
        ("m.yaml:8: ", "0 stands twice"),
        ("m.yaml:10: ", "lr: input should be greater than 0, got -1"),
    ]:
        assert any(where in line and what in line for line in lines), where
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modls: [pspnet]\n", "m.yaml:1: there is no key 'modls'; did you mean 'models'?"),
        ("recipe: {iteration: 5}\n", "m.yaml:1: there is no key 'iteration'; did you mean 'iterations'?"),
        ("recipe: {}\n", "iterations or epochs, here neither is"),
        ("recipe: {iterations: 1, epochs: 1}\n", "here both are there"),
        ("a: [b\n", "not valid YAML"),
        ("- a\n", "a matrix is a mapping"),
        ("attacks: []\nrecipe: {iterations: 1}\n", "attacks must not be empty"),
        ("transfer: {substitutes: sat}\nrecipe: {iterations: 1}\n", "there is no defense 'sat'"),
        ("transfer: {substitutes: none}\nrecipe: {iterations: 1}\n", "transfer needs a second model"),
        ("attacks: [bim, bim(steps=6)]\nrecipe: {iterations: 1}\n", "stands twice in attacks"),
        ("runtime: {device: gpu}\nrecipe: {iterations: 1}\n", "device"),
        ("worst_of: {strong: [pgd]}\nrecipe: {iterations: 1}\n", "not one of the matrix's attacks"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(MatrixError) as error:
        load(tmp_path, text)
    assert message in str(error.value)


def test_unknown_matrix_names_the_built_in_ones() -> None:
    with pytest.raises(MatrixError, match="did you mean 'quickstart'"):
        load_matrix("quickstrat")
    with pytest.raises(MatrixError, match="no such file"):
        load_matrix("absent.yaml")


def test_overrides_are_laid_over_the_file(tmp_path: Path) -> None:
    text = "models: [pspnet(encoder=tiny)]\nrecipe: {iterations: 10}\n"
    matrix = load(tmp_path, text, "recipe.lr=0.5", "seeds=[3, 4]", "models.0=deeplabv3", "limit=7")
    assert matrix.defenses[0].recipe.lr == 0.5
    assert matrix.seeds == (3, 4)
    assert matrix.models[0].component.name == "deeplabv3"
    assert matrix.limit == 7
    with pytest.raises(MatrixError, match=r"--set nonsense: expected key.path=value"):
        load(tmp_path, text, "nonsense")
    with pytest.raises(MatrixError, match=r"\(--set\): there is no key 'lrr'"):
        load(tmp_path, text, "recipe.lrr=1")
    with pytest.raises(MatrixError, match="there is nothing at"):
        load(tmp_path, text, "models.5=x")


def test_a_list_of_eps_is_a_curve(tmp_path: Path) -> None:
    text = "attacks: ['fgsm(eps=[1/255, 0.03])', {name: bim, eps: [2/255, 4/255]}]\nrecipe: {iterations: 1}\n"
    assert [a.options["eps"] for a in load(tmp_path, text).attacks] == [1 / 255, 0.03, 2 / 255, 4 / 255]


def test_a_defense_may_carry_its_own_recipe(tmp_path: Path) -> None:
    text = "defenses: [none, {name: sat, recipe: {iterations: 5}}]\nrecipe: {iterations: 10, lr: 0.2}\n"
    none, sat = load(tmp_path, text).defenses
    assert (none.recipe.iterations, sat.recipe.iterations, sat.recipe.lr) == (10, 5, 0.2)


def test_data_folders_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGBENCH_DATA_DIGITS", str(tmp_path))
    assert load(tmp_path, "recipe: {iterations: 1}\n").runtime.data == {"digits": tmp_path}


def test_the_readme_s_matrix_loads(tmp_path: Path) -> None:
    readme = Path(__file__).resolve().parents[3] / "README.md"
    written = readme.read_text().partition("```yaml\n")[2].partition("```")[0]
    matrix = load(tmp_path, written)
    prepare.try_out(matrix)
    assert [model.component.name for model in matrix.models] == ["pspnet", "smp"]


def test_every_built_in_matrix_loads() -> None:
    assert "quickstart" in builtin_matrices()
    for name, title in builtin_matrices().items():
        assert title
        assert load_matrix(name).name == name


@pytest.mark.parametrize("model", [matrix.Recipe, matrix.Runtime, matrix.Transfer, matrix.MatrixFile])
def test_every_field_is_classed(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        classes = [m for m in field.metadata if m in (IDENTITY, RUNTIME, LAYOUT)]
        assert len(classes) == 1, f"{model.__name__}.{name} must be marked IDENTITY, RUNTIME or LAYOUT"


def test_the_same_file_written_otherwise_is_the_same_matrix(
    write_matrix: Callable[..., Path], tiny_plan: Callable[..., object]
) -> None:
    first = load_matrix(str(write_matrix("a", attacks=["clean", "bim(steps=3)"])))
    second = load_matrix(str(write_matrix("b", attacks=["clean", {"name": "bim", "steps": 3, "eps": 0.03}])))
    assert [a.identity for a in first.attacks] == [a.identity for a in second.attacks]


def test_networks_that_cannot_be_built_are_found_before_anything_runs(tmp_path: Path) -> None:
    text = "models: ['pspnet(encoder=resnet18x)', 'pspnet(encoder=tiny, bins=[0])']\nrecipe: {iterations: 1}\n"
    with pytest.raises(MatrixError) as error:
        prepare.try_out(load(tmp_path, text))
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    assert "did you mean 'resnet18'?" in lines[0]
    assert "bins must be numbers of cells from 1" in lines[1]
