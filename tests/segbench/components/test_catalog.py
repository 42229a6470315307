from __future__ import annotations

import inspect
import json
import os
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from segbench.attacks.base import attack
from segbench.components import catalog, plugins, specs
from segbench.plan.identity import component_identity


@pytest.fixture
def fresh() -> object:
    catalog._all.cache_clear()
    yield
    catalog._all.cache_clear()


def test_the_founding_components_are_there() -> None:
    wanted = {
        "attack": {"clean", "fgsm", "bim", "pgd"},
        "defense": {"none", "sat", "ddcat"},
        "model": {"pspnet", "deeplabv3", "smp"},
        "dataset": {"digits", "camvid", "folder"},
        "protocol": {"whole-v1"},
    }
    for kind, names in wanted.items():
        assert names <= set(catalog.components(kind))


@pytest.mark.parametrize("kind", list(catalog.PACKAGES))
def test_every_component_is_described(kind: str) -> None:
    for component in catalog.components(kind).values():
        assert component.summary.endswith("."), component.name
        for option, parameter in component.options.items():
            assert parameter.annotation is not inspect.Parameter.empty, f"{component.name}: {option}"
            assert f"{option}:" in component.doc, f"the docstring of {component.name} does not describe {option}"


def test_a_package_that_takes_a_name_is_left_out_and_said(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("stranger")

    @attack("bim")
    def other(model: object, images: object, masks: object) -> object:
        """Take a name that is taken."""
        return images

    other.__module__ = "stranger"
    module.other = other  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stranger", module)
    point = types.SimpleNamespace(value="stranger")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])
    assert catalog.components("attack")["bim"].module == "segbench.attacks.bim"
    (sentence,) = catalog.refused()
    assert sentence == "stranger: the attack 'bim' is defined in segbench.attacks.bim already; rename one"


def test_an_entry_point_joins_the_catalog(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("friend")

    @attack("friendly")
    def friendly(model: object, images: object, masks: object, *, eps: float = 0.03) -> object:
        """Leave the images alone."""
        return images

    friendly.__module__ = "friend"
    module.friendly = friendly  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "friend", module)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [types.SimpleNamespace(value="friend")])
    assert list(catalog.components("attack")["friendly"].options) == ["eps"]


PLUGIN = """
from segbench.attacks.base import attack
from stranger_of_test.amount import AMOUNT


@attack("stranger")
def stranger(model, images, masks, *, steps: int = 1, ignore_index: int = 255):
    '''Darken the images.'''
    return (images - AMOUNT).clamp(0, 1)
"""


def test_a_component_from_outside_counts_with_its_source(
    fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "stranger_of_test"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "attacks.py").write_text(PLUGIN)
    amount = package / "amount.py"
    amount.write_text("AMOUNT = 0.25\n")
    times = amount.stat()
    point = types.SimpleNamespace(value="stranger_of_test.attacks")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])
    monkeypatch.syspath_prepend(tmp_path)

    def met() -> tuple[object, object, float]:
        for name in [name for name in sys.modules if name.startswith("stranger_of_test")]:
            monkeypatch.delitem(sys.modules, name)
        catalog._all.cache_clear()
        made = specs.bound("attack", "stranger")
        trained = specs.bound("defense", "pgd-at(attack=stranger)")
        images = made.attack()(nn.Conv2d(3, 2, 1), torch.ones(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long))
        identities = [json.dumps(component_identity(one), sort_keys=True) for one in (made, trained)]
        return *identities, float(images.mean())

    before = met()
    assert met() == before
    amount.write_text("AMOUNT = 0.75\n")  # of equal size, and of equal time
    os.utime(amount, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = met()
    assert after[2] != before[2]
    assert set(after[:2]).isdisjoint(before[:2])
