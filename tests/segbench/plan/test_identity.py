"""Identities that share most of their content have the digests that the whole content has."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from segbench.components import catalog, specs
from segbench.plan.cells import Data, EvalCell, TrainCell
from segbench.plan.identity import Shared, digest

NAMES = st.text(max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, VALUES, max_size=6), st.dictionaries(NAMES, st.text(max_size=5), min_size=1, max_size=3))
def test_what_is_shared_changes_no_digest(content: dict[str, object], own: dict[str, str]) -> None:
    rest = {name: value for name, value in content.items() if name not in own}
    assert Shared(rest, own).digest(**own) == digest({**rest, **own})


def test_evaluations_share_nothing_that_tells_them_apart() -> None:
    data = Data(specs.bound("dataset", "digits"), "f00d")
    networks = [
        TrainCell(data, specs.bound("model", "pspnet(encoder=tiny)"), specs.bound("defense", "none"), {}, seed)
        for seed in (0, 1)
    ]
    bim = specs.bound("attack", "bim")
    foreign = replace(bim, component=replace(bim.component, source="other code"))
    protocol = specs.bound("protocol", "whole-v1")
    cells = [
        EvalCell(target, source, attack, protocol, "val", limit, seed, **special)
        for target in networks
        for source in networks
        for attack in (bim, foreign, specs.bound("attack", "bim(steps=2)"))
        for limit in (None, 1)
        for seed in (0, 1)
        for special in ({}, {"adaptive": False}, {"certified": True}, {"dynamic": True}, {"precision": "bf16"})
    ]
    assert len({cell.digest for cell in cells}) == len(cells)
    assert catalog.find("attack", "bim").source is None
