from __future__ import annotations

from pathlib import Path

import pytest

from segbench.config.load import load_matrix
from segbench.config.matrix import Matrix
from segbench.errors import MatrixError

TEXT = "model: pspnet(encoder=tiny)\nattacks:\n  - clean\n  - {name: bim, steps: 2}\nrecipe: {iterations: 10}\n"


def load(tmp_path: Path, *overrides: str, **options: object) -> Matrix:
    path = tmp_path / "m.yaml"
    path.write_text(TEXT)
    return load_matrix(str(path), overrides, {f"--{name}": value for name, value in options.items()})


def test_a_path_leads_into_lists_and_mappings(tmp_path: Path) -> None:
    matrix = load(tmp_path, "attacks.1.steps=3", "recipe.augmentation.flip=0.5", "runtime.data.camvid=data")
    assert [attack.short for attack in matrix.attacks] == ["clean", "bim(steps=3)"]
    assert matrix.defenses[0].recipe.augmentation.flip == 0.5
    assert matrix.runtime.data == {"camvid": Path("data")}


def test_one_and_several_take_each_other_s_place(tmp_path: Path) -> None:
    assert load(tmp_path, "model=deeplabv3").models[0].component.name == "deeplabv3"
    assert [model.component.name for model in load(tmp_path, "models=[deeplabv3, smp]").models] == ["deeplabv3", "smp"]
    assert [attack.short for attack in load(tmp_path, "attack=clean").attacks] == ["clean"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title=a: b: c", "--set title=a: b: c: not valid YAML: mapping values are not allowed here; put text"),
        ("title=a: [b", "--set title=a: [b: not valid YAML"),
        ("title=sp #1", "--set title=sp #1: what follows a # is a comment in YAML"),
        ("seeds=[010, 1]", "--set seeds=[010, 1]: 010 is octal in old YAML"),
        ("recipe={lr: 1, lr: 2}", "the key 'lr' stands twice"),
        ("recipe.lr=yes", "yes is a truth value in old YAML"),
        ("attacks=&a [clean, *a]", "an alias contains itself"),
        ("title=&", "not valid YAML"),
        ("nonsense", "--set nonsense: expected key.path=value, for instance recipe.iterations=100"),
        ("=1", "--set =1: expected key.path=value"),
        ("a..b=1", "--set a..b=1: expected key.path=value"),
        (".a=1", "expected key.path=value"),
        ("attacks.5=x", "there is nothing at 5 of attacks; it has 2 entries, counted from 0"),
        ("attacks.-1=x", "there is nothing at '-1' of attacks"),
        ("attacks.x=x", "there is nothing at 'x' of attacks"),
        ("model.encoder=tiny", "of models.0, which is 'pspnet(encoder=tiny)'; replace it as a whole"),
        ("recipe.iterations.x=1", "there is nothing at 'x' of recipe.iterations, which is 10"),
        ("attacks[1]=x", "write attacks.1 in place of attacks[1]"),
        ("recipe.__class__=1", "m.yaml (--set): there is no key '__class__'"),
        ("__class__=1", "m.yaml (--set): there is no key '__class__'"),
        ("recipe.²=1", "m.yaml (--set): there is no key '²'"),
        ("recipe.lr='0.1'", "m.yaml (--set): lr: expected a number such as 0.03 or 8/255, got the text '0.1'"),
        ("models=[unet]", "m.yaml (--set): there is no model 'unet'; did you mean smp(architecture=unet)?"),
        ("title=" + "x" * 20_000, "20,006 characters; at most 10,000 are read"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(MatrixError) as caught:
        load(tmp_path, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_mistake_of_every_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(MatrixError) as caught:
        load(tmp_path, "a..b=1", "recipe.lr=-1", "title=a: b: c")
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("store", ["sp #1", "007", "null", "yes", "a: b", "[x", "'", "~"])
def test_options_are_no_yaml(tmp_path: Path, store: str) -> None:
    matrix = load(tmp_path, "runtime.store=elsewhere", store=Path(store), device="cuda:1", workers=2, limit=7)
    assert matrix.runtime.store == Path(store)
    assert (matrix.runtime.device, matrix.runtime.workers, matrix.limit) == ("cuda:1", 2, 7)


def test_a_mistake_in_an_option_names_it(tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match=r"\(--device\): runtime.device: expected auto, .*, got 'gpu'"):
        load(tmp_path, device="gpu")
