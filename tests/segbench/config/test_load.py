from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel

from segbench.config import matrix
from segbench.config.fields import IDENTITY, LAYOUT, RUNTIME
from segbench.config.load import builtin_matrices, load_matrix, matrix_from_data
from segbench.config.matrix import Matrix
from segbench.config.names import as_name, wrong_name
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


MANY = """\
name: ../x
title: ""
dataset: digitz
model: pspnet
models:
  - unet
  - name: deeplabv3
    ratez: [1, 2]
    dropout: true
  - pspnet(bins=[1, x])
defenses: [sat(attack=bim(step=3)), {name: sat, recipe: {lr: "3", iterations: 5.0}}]
attacks: [bim(eps=8), bim(eps=1), 'fgsm(eps=[1/255, 9])', bim(steps=3), bim(steps=3)]
seeds: [0, 0, 010, true, 1.5, 0-2, 1:30]
networks:
  - {load: net.py:build, convention: {men: 1, mean: [123, 116, 103]}, classes: {no: 1, sky: -1}}
recipe:
  lr: yes
  batch_size: 8
  batch_size: 9
  crop: [3, 3]
transfer: {substitute: sat}
worst_of: {3: [bimm], empty: []}
protocol: whole-v2
limit: 0
white_box: no
epochs: 5
runtime: {device: gpu, workers: "2", data: {camvd: x}, recompute: 1}
"""
MISTAKES = [
    (1, "a matrix's name is made of letters, digits"),
    (2, "title: expected text, got '', which is empty"),
    (3, "there is no dataset 'digitz'; did you mean 'digits'?"),
    (4, "'model' and 'models' both stand here; keep one"),
    (6, "there is no model 'unet'; did you mean smp(architecture=unet)?"),
    (8, "deeplabv3 takes no 'ratez'; did you mean 'rates'?"),
    (9, "deeplabv3: dropout: expected a number such as 0.03 or 8/255, got true"),
    (10, "pspnet: bins: expected a whole number, got 'x'"),
    (11, "sat: attack: bim takes no 'step'; did you mean 'steps'?"),
    (11, "lr: expected a number such as 0.03 or 8/255, got the text '3'; leave the quotes out"),
    (11, "iterations: expected a whole number, got 5.0; write 5"),
    (12, "eps is in [0, 1] units, got 8; write 8/255"),
    (12, "got 1; write 1/255 for one grey level, or 1.0 if the whole range is meant"),
    (12, "fgsm: eps is in [0, 1] units, got 9; write 9/255"),
    (12, "bim(steps=3) stands twice in attacks"),
    (13, "010 is octal in old YAML"),
    (13, "1:30 is a number to the base 60 in old YAML"),
    (13, "seeds.3: expected a whole number, got true"),
    (13, "seeds.4: expected a whole number, got 1.5"),
    (13, "seeds.5: expected a whole number, got '0-2'"),
    (13, "0 stands twice in seeds"),
    (15, "no is a truth value in old YAML; write false, or 'no' for the word"),
    (15, "convention: there is no key 'men'; did you mean 'mean'?"),
    (15, "mean is in units of range, 0-1; write range: 0-255"),
    (15, "classes: sky: input should be greater than or equal to 0, got -1"),
    (16, "iterations or epochs, here neither is"),
    (17, "yes is a truth value in old YAML; write true, or 'yes' for the word"),
    (19, "the key 'batch_size' stands twice (also in line 18); keep one"),
    (20, "there is no key 'crop' here; did you mean 'recipe.augmentation.crop'?"),
    (21, "there is no key 'substitute'; did you mean 'substitutes'?"),
    (22, "worst_of.3: expected text, got 3; put it in quotes"),
    (22, "there is no attack 'bimm'; did you mean 'bim'?"),
    (22, "worst_of: 'empty' names no attack"),
    (23, "there is no protocol 'whole-v2'; did you mean 'whole-v1'?"),
    (24, "limit: input should be greater than or equal to 1, got 0"),
    (25, "no is a truth value in old YAML"),
    (26, "there is no key 'epochs' here; did you mean 'recipe.epochs'?"),
    (27, "runtime.device: expected auto, cpu, cuda or cuda:N, got 'gpu'"),
    (27, "runtime.workers: expected a whole number, got the text '2'; leave the quotes out"),
    (27, "runtime.recompute: expected true or false, got 1"),
    (27, "runtime.data: there is no dataset 'camvd'; did you mean 'camvid'?"),
]


def test_really_all_mistakes_are_told_once_in_the_order_of_their_lines(tmp_path: Path) -> None:
    with pytest.raises(MatrixError) as error:
        load(tmp_path, MANY)
    told = str(error.value).splitlines()
    for line, message in MISTAKES:
        found = [one for one in told if f"m.yaml:{line}: " in one and message in one]
        assert len(found) == 1, (line, message, told)
    assert len(told) == len(MISTAKES)
    numbers = [int(one.split("m.yaml:")[1].split(":")[0]) for one in told]
    assert numbers == sorted(numbers)


def test_keys_for_anchors_are_ignored(tmp_path: Path) -> None:
    text = "x-base: &base {iterations: 3, lr: 0.1}\nrecipe: {<<: *base, lr: 0.2}\n"
    recipe = load(tmp_path, text).defenses[0].recipe
    assert (recipe.iterations, recipe.lr) == (3, 0.2)


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", ".hidden", "", "a b", "x" * 101, "ü" * 51, "a\n", "..", "é/"])
def test_a_name_is_a_name_and_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(MatrixError, match=r"^[^\n]*m.yaml:2: name: a matrix's name [^\n]*$"):
        load(tmp_path, f"recipe: {{iterations: 1}}\nname: {json.dumps(name)}\n")
    with pytest.raises(MatrixError, match="a matrix's name "):
        matrix_from_data({"recipe": {"iterations": 1}}, name)
    assert wrong_name(as_name(name)) is None


def test_the_name_of_a_file_is_held_to_the_same(tmp_path: Path) -> None:
    path = tmp_path / "my matrix.yaml"
    path.write_text("recipe: {iterations: 1}\n")
    with pytest.raises(MatrixError, match="got 'my matrix'; rename the file, or write 'name:' in it"):
        load_matrix(str(path))
    assert load_matrix(str(path), ["name=mine-1.0_x"]).name == "mine-1.0_x"


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_other_encodings_are_one_sentence(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes("title: größe\nrecipe: {iterations: 1}\n".encode(encoding))
    with pytest.raises(MatrixError, match=r"^[^\n]*m.yaml[^\n]*save it as UTF-8$"):
        load_matrix(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("attacks: &a [clean, *a]\n", r"m.yaml:1: an alias contains itself"),
        ("attacks: [fgsm(eps=[1/255, 2/255])]\n", "put text that holds a comma or a bracket in quotes"),
        ('title: "\\UFFFFFFFF"\n', "not valid YAML"),
        ('title: "\\ud800"\n', "holds half of a character"),
        (f"attacks: [{', '.join(['clean'] * 1001)}]\n", "'attacks' has 1,001 entries; at most 1,000 are read"),
        ("".join(f"k{index}: 1\n" for index in range(500)), "\nmore mistakes are not shown; correct these first$"),
        ("recipe:\n", "m.yaml:1: recipe: expected a mapping, got null; leave the key out"),
        ("models: [pspnet, {name: pspnet, 1: 2}]\n", "the name of an option is a word, got 1"),
    ],
)
def test_no_text_is_too_odd_for_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(MatrixError, match=message):
        load(tmp_path, text)


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
        ("worst_of: {strong: [pgd]}\nrecipe: {iterations: 1}\n", "m.yaml:1: 'pgd' is not one of the matrix's attacks"),
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
    assert "bins must hold at least one number of cells, each at least 1" in lines[1]
