from __future__ import annotations

import inspect
import sys
import types

import pytest

from segbench.attacks.base import attack
from segbench.components import catalog
from segbench.errors import SegbenchError


@pytest.fixture
def fresh() -> object:
    catalog._all.cache_clear()
    yield
    catalog._all.cache_clear()


def test_what_the_issue_names_is_there() -> None:
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


def test_a_name_that_two_modules_define_is_an_error(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("stranger")

    @attack("bim")
    def other(model: object, images: object, masks: object) -> object:
        """Take a name that is taken."""
        return images

    other.__module__ = "stranger"
    module.other = other  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stranger", module)
    point = types.SimpleNamespace(value="stranger")
    monkeypatch.setattr(catalog, "entry_points", lambda group: [point])
    with pytest.raises(SegbenchError, match=r"stranger: the attack 'bim' is defined in segbench\.attacks\.bim already"):
        catalog.components("attack")


def test_an_entry_point_joins_the_catalog(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("friend")

    @attack("friendly")
    def friendly(model: object, images: object, masks: object, *, eps: float = 0.03) -> object:
        """Leave the images alone."""
        return images

    friendly.__module__ = "friend"
    module.friendly = friendly  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "friend", module)
    monkeypatch.setattr(catalog, "entry_points", lambda group: [types.SimpleNamespace(value="friend")])
    assert list(catalog.components("attack")["friendly"].options) == ["eps"]
