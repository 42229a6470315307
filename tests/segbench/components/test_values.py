"""Nothing that someone writes turns into a value of another kind."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from segbench.components import catalog, specs
from segbench.components.values import number, whole
from segbench.config.matrix import Augmentation, MatrixFile, Recipe, Runtime, Transfer
from segbench.config.network import Convention, ExternalNetwork

ODD: tuple[Any, ...] = (
    True, False, 0, 1, 2, -1, 2.0, 2.5, -0.0, math.nan, math.inf, -math.inf, 2**63, 10**39, 10**400,
    "", " ", "3", "0.5", "true", "yes", "nan", "1/0", "a\nb", "a\x00b", "\ud800", b"3", None,
)  # fmt: skip
MODELS = (Recipe, Runtime, Augmentation, Convention, ExternalNetwork, MatrixFile, Transfer)
OPTIONS = [(kind, each.name) for kind in catalog.PACKAGES for each in catalog.components(kind).values()]


def same(written: Any, found: Any) -> bool:
    """Whether a value stayed what it was: an int may become a float, a text a path, and one value a list of one."""
    if isinstance(found, tuple | list) and len(found) == 1 and not isinstance(written, list):
        return same(written, found[0])
    if isinstance(written, list):
        return isinstance(found, tuple | list) and all(map(same, written, found))
    if isinstance(found, float) and type(written) in (int, float):
        return math.isfinite(found) and found == written and (found != 0 or math.copysign(1, found) > 0)
    if isinstance(found, int) and not isinstance(found, bool):
        return type(written) is int and found == written and abs(found) < 2**63
    if isinstance(found, Path):
        return isinstance(written, str) and bool(written.strip()) and found == Path(written)
    return type(found) is type(written) and found == written


@pytest.mark.parametrize("model", MODELS)
def test_no_field_of_a_matrix_takes_a_value_for_another(model: type[BaseModel]) -> None:
    needed = {"load": "net.py:build", "name": "net"} if model is ExternalNetwork else {}
    for name in model.model_fields:
        if name in ("protocol", "recipe", "datasets", "models", "defenses", "attacks", "networks"):
            continue  # these hold components and mappings, which are checked on their own
        for value in (*ODD, *([one, one] for one in ODD)):
            try:
                found = getattr(model.model_validate({**needed, name: value}), name)
            except ValidationError:
                continue
            assert same(value, found), f"{model.__name__}.{name}: {value!r} became {found!r}"


@pytest.mark.parametrize(("kind", "name"), OPTIONS)
def test_no_option_of_a_component_takes_a_value_for_another(kind: str, name: str) -> None:
    for option in catalog.components(kind)[name].options:
        for value in (*ODD, *([one, one] for one in ODD)):
            bound, problems = specs.bind(kind, {"name": name, option: value})
            assert (bound is None) == bool(problems)
            if bound is not None:
                assert same(value, bound.options[option]), (
                    f"{name}.{option}: {value!r} became {bound.options[option]!r}"
                )


def test_the_numbers_of_the_house() -> None:
    assert number(3) == 3.0
    assert number("8/255") == 8 / 255
    assert number(" 0.5 / 2 ") == 0.25
    assert whole(2**63 - 1) == 2**63 - 1


@pytest.mark.parametrize(
    ("function", "written", "message"),
    [
        (number, "0.03", "got the text '0.03'; leave the quotes out"),
        (number, True, "expected a number such as 0.03 or 8/255, got true"),
        (number, "8/0", "nothing can be divided by 0"),
        (number, 10**400, "expected a finite number, got a whole number of 1,329 bits"),
        (number, -0.0, "-0.0 is zero with a sign; write 0"),
        (whole, 2.0, "expected a whole number, got 2.0; write 2"),
        (whole, "2", "got the text '2'; leave the quotes out"),
        (whole, True, "expected a whole number, got true"),
        (whole, 2**63, "expected a whole number of at most 9,223,372,036,854,775,807"),
    ],
)
def test_what_is_wrong_and_what_instead(function: Any, written: object, message: str) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        function(written)
    assert message in str(caught.value)
