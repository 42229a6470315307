"""Identities that share most of their content have the digests that the whole content has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from segbench.components import catalog, specs
from segbench.plan import plan
from segbench.plan.data import Data
from segbench.plan.evaluations import EvalCell
from segbench.plan.identity import Shared, digest
from segbench.plan.networks import TrainCell

NAMES = st.text(max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@example({}, {"self": ""})
@given(st.dictionaries(NAMES, VALUES, max_size=6), st.dictionaries(NAMES, st.text(max_size=5), min_size=1, max_size=3))
def test_what_is_shared_changes_no_digest(content: dict[str, object], own: dict[str, str]) -> None:
    rest = {name: value for name, value in content.items() if name not in own}
    assert Shared(rest, own).digest(**own) == digest({**rest, **own})


def test_evaluations_share_nothing_that_tells_them_apart() -> None:
    digits = specs.bound("dataset", "digits")
    named = [Data(digits, "f00d", classes=("background", "0")), Data(digits, "beef", classes=("road", "sky"))]
    networks = [
        TrainCell(data, specs.bound("model", "pspnet(encoder=tiny)"), specs.bound("defense", "none"), {}, 0)
        for data in named
    ]
    bim = specs.bound("attack", "bim")
    foreign = replace(bim, component=replace(bim.component, source="other code"))
    special: list[dict[str, Any]] = [
        *({}, {"adaptive": False}, {"adaptive": True, "dynamic": True}, {"certified": True}, {"dynamic": True}),
        *({"precision": "bf16"}, {"files": {"map.png": "f00d"}}),
    ]
    cells = [
        EvalCell(target, source, attack, specs.bound("protocol", protocol), "val", limit, seed, **more)
        for target in networks
        for source in networks
        for attack in (bim, foreign, specs.bound("attack", "bim(steps=2)"))
        for protocol in ("whole-v1", "sea-v2(size=32)")
        for limit in (None, 1)
        for seed in (0, 1)
        for more in special
    ]
    for cell in cells:
        networks_of = {"target": cell.target.digest, "source": cell.source.digest}
        assert cell.digest == digest({**cell._shared(), **networks_of})
        own = {"source": cell.source.digest, **({"only": cell.digest} if cell.dynamic else {})}
        assert plan._trajectory(cell) == digest({**plan._shared(cell), **own})
    # Of files those count that an option of the attack names; of `adaptive` only that it is false.
    told = [cell for cell in cells if not cell.files and cell.adaptive is not True]
    assert len({cell.digest for cell in told}) == len(told)
    assert catalog.find("attack", "bim").source is None
