"""Display names: published spelling by default, the matrix's own where it gives some, and never one name for two."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest

from segbench.components import catalog
from segbench.reports.display import SPELLED, with_defense
from segbench.reports.formats.frames import cells, tidy
from segbench.reports.formats.markdown import to_markdown
from segbench.reports.labels import Labels
from segbench.reports.page.page import compose
from segbench.reports.records import Manifest


@pytest.mark.parametrize("kind", ["attack", "defense", "model", "dataset", "protocol"])
def test_every_built_in_component_has_its_published_spelling(kind) -> None:
    own = [d.name for d in catalog.components(kind).values() if d.module.startswith("segbench.")]
    assert [name for name in own if name not in SPELLED] == []


def test_no_two_components_are_spelled_alike() -> None:
    assert len(set(SPELLED.values())) == len(SPELLED)


def attack_labels(one, net, attacks, names):
    records = [one(net("pspnet", "none", 0), attack) for attack in attacks]
    labels = Labels(records, names)
    return [labels.component("attack", attack) for attack in attacks]


def test_options_stand_behind_the_name(one, net, attack_bim, part) -> None:
    rms = part("bim", "bim(steps=6, norm=rms)", eps=0.03, alpha=0.01, steps=6, norm="rms")
    fog = part("corruption", "corruption(kind=fog)", kind="fog")
    snow = part("corruption", "corruption(kind=snow, severity=5)", kind="snow", severity=5)
    mine = part("mine", "mine(steps=3)", steps=3)
    found = attack_labels(one, net, [attack_bim(2), attack_bim(6), rms, fog, snow, mine], {})
    assert found == ["BIM-2", "BIM-6", "BIM-6 (RMS)", "Corruption (fog)", "Corruption (snow, severity=5)", "mine"]


def test_a_matrix_names_one_attack_or_all_of_a_name(one, net, attack_bim, part) -> None:
    fgsm = part("fgsm", eps=0.03)
    names = {"bim": "I-FGSM", "bim(steps=6)": "Six", "fgsm()": "One step"}
    assert attack_labels(one, net, [attack_bim(2), attack_bim(6), fgsm], names) == ["I-FGSM-2", "Six", "One step"]
    assert attack_labels(one, net, [attack_bim(2)], {"bim": "Basic"}) == ["Basic"]


@pytest.mark.parametrize(
    "names",
    [
        {"pspnet": "Net", "deeplabv3": "Net"},
        {"pspnet": "DeepLabv3"},
        {"pspnet": "deeplabv3", "deeplabv3": "PSPNet"},
        {"sat": "none"},
        {"none": "SAT", "sat": "none"},
        {"bim(steps=2)": "BIM-6"},
        {"bim(steps=2)": "clean"},
        {"bim": "bim", "bim(steps=2)": "bim-6"},
        {"pspnet": "A with B", "deeplabv3": "A", "sat": "C", "ddcat": "B with C"},
    ],
)
def test_two_things_never_share_a_label(records, names) -> None:
    labels = Labels(records, names)
    for kind, of in (
        ("attack", lambda r: r.attack),
        ("model", lambda r: r.target.model),
        ("defense", lambda r: r.target.defense),
    ):
        parts = {labels.component_key(of(r)): of(r) for r in records}
        assert len({labels.component(kind, part) for part in parts.values()}) == len(parts)
    networks = {labels.key(r.target): labels.network(r.target) for r in records}
    assert len(set(networks.values())) == len(networks)
    attacks = {labels.component("attack", r.attack) for r in records if r.setting != "clean"}
    assert "clean" not in attacks
    defended = {labels.network(r.target) for r in records if r.target.defense.name != "none"}
    assert not any("without defense" in network for network in defended)


def test_versions_of_one_component_are_told_apart(one, net, attack_bim) -> None:
    old, new = attack_bim(6), attack_bim(6).model_copy(update={"version": 2})
    assert attack_labels(one, net, [old, new], {}) == ["BIM-6 [version 1]", "BIM-6 [version 2]"]


@pytest.mark.parametrize(
    ("defense", "network"),
    [
        ("SAT", "PSPNet with SAT"),
        ("none", "PSPNet without defense"),
        ("none [lr=0.1]", "PSPNet without defense [lr=0.1]"),
        ("none, oblivious attack", "PSPNet without defense, oblivious attack"),
        ("nonesuch", "PSPNet with nonesuch"),
        ("none-plus", "PSPNet with none-plus"),
    ],
)
def test_a_network_without_defense_is_called_so(defense, network) -> None:
    assert with_defense("PSPNet", defense) == network


def test_display_names_reach_tables_and_prose_but_no_file_for_programs(records) -> None:
    names = {"pspnet": "MyFPN", "bim(steps=6)": "Strongest"}
    page = compose(Manifest(name="x", title="x", records=tuple(records), labels=names))
    text = to_markdown(page)
    assert "MyFPN without defense collapses from 72.3 to 24.4 under Strongest." in text
    before, _, _ = text.partition("## Provenance")
    assert not any(raw in before for raw in ("pspnet", "deeplabv3", "ddcat", "bim(", "linf"))
    frame = pd.DataFrame(cells([section.table for section in page.sections]))
    assert set(frame["model"]) == {"pspnet", "deeplabv3"}
    assert set(frame["defense"]) == {"none", "sat", "ddcat"}
    assert set(frame["attack"]) == {"clean", "bim(steps=2)", "bim(steps=4)", "bim(steps=6)"}
    assert set(tidy(page.records)["model"]) == {"pspnet", "deeplabv3"}


def test_without_display_names_labels_are_those_of_the_catalog(records) -> None:
    labels = Labels(records)
    found = {labels.network(r.target) for r in records}
    assert found == {
        f"{model} {rest}"
        for model, rest in itertools.product(("pspnet", "deeplabv3"), ("without defense", "with sat", "with ddcat"))
    }
