"""Tables 3 and 6 of the paper: chosen by what the records hold, with the values of the plain tables."""

import pandas as pd
import pytest

from segbench.reports.formats.frames import cells
from segbench.reports.formats.latex import to_latex
from segbench.reports.formats.markdown import to_markdown
from segbench.reports.labels import Labels
from segbench.reports.page.page import compose
from segbench.reports.page.reading import fates_of, notes
from segbench.reports.published import beside, load
from segbench.reports.records import Manifest
from segbench.reports.sanity import explained
from segbench.reports.tables.inference import infer
from segbench.reports.tables.layouts import layouts
from segbench.reports.tables.paper import comparisons, shown

VARIANTS = ("sat", "ddcat-m", "ddcat-n", "ddcat")
RIVALS = ("multitask-depth", "multitask", "teacher-student", "teacher-student-vote", "ddcat")


@pytest.fixture
def ablation(one, net, attack_bim):
    """Two models, two seeds; the order of the defenses is not the paper's, and each value says where it belongs."""
    return [
        one(net(model, defense, seed), *attack, miou=10.0 * d + 3 * m + seed - a + 5, dataset="voc2012")
        for m, model in enumerate(("pspnet", "deeplabv3"))
        for d, defense in enumerate(reversed(VARIANTS))
        for seed in (0, 1)
        for a, attack in enumerate(((), (attack_bim(2),), (attack_bim(4),), (attack_bim(6),)))
    ]


@pytest.fixture
def rivals(one, net, attack_bim, part):
    """White-box and black-box values of rivals; the teachers' students are dynamic."""
    records = []
    attacks = (
        attack_bim(2),
        part("cw", eps=0.03),
        part("bim", "bim(norm=rms)", eps=0.03, alpha=0.01, steps=3, norm="rms"),
    )
    for model, other in (("pspnet", "deeplabv3"), ("deeplabv3", "pspnet")):
        source = net(other, "sat", 0)
        for d, defense in enumerate(("none", *RIVALS)):
            target, dynamic = net(model, defense, 0), defense.startswith("teacher")
            records.append(one(target, miou=60.0 + d, dataset="cityscapes", dynamic=dynamic))
            for a, attack in enumerate(attacks):
                records.append(one(target, attack, miou=20.0 + d + a, dataset="cityscapes", dynamic=dynamic))
                records.append(one(target, attack, source, miou=30.0 + d + a, dataset="cityscapes", dynamic=dynamic))
    return records


def special(records):
    return comparisons(records, Labels(records))


def row(table, model, label):
    (found,) = [r for b in table.blocks if b.label == model for r in b.rows if r.label == label]
    return found


def test_the_ablation_is_laid_out_as_table_3(ablation) -> None:
    (table,) = special(ablation)
    assert [(block.label, [r.label for r in block.rows]) for block in table.blocks] == [("", list(VARIANTS))]
    assert table.heads == (("pspnet", 4), ("deeplabv3", 4))
    assert [column.sub for column in table.columns] == ["clean", "bim(steps=2)", "bim(steps=4)", "bim(steps=6)"] * 2
    means = [cell.mean for cell in row(table, "", "ddcat-m").cells]
    assert means == [25.5, 24.5, 23.5, 22.5, 28.5, 27.5, 26.5, 25.5]
    assert [cell.done for cell in table.blocks[0].rows[0].cells] == [2] * 8
    assert [r.cells[4].rank for r in table.blocks[0].rows] == [1, 2, 0, 0]


def test_its_values_are_those_of_the_plain_table(ablation) -> None:
    (plain,), (table,) = layouts(ablation, Labels(ablation)), special(ablation)
    values = {(model, r.label, column.label): cell.mean for model, r, column, cell in plain.cells}
    assert {(model, r.label, column.label): cell.mean for model, r, column, cell in table.cells} == values
    assert len(values) == 32
    assert sorted(fates_of(table)) == sorted(fates_of(plain))


def test_published_values_are_those_of_table_3(ablation) -> None:
    (table,) = beside(special([r for r in ablation if r.target.defense.name != "ddcat-n"]), load("xu2021"))
    assert [c.published.mean for c in row(table, "", "ddcat-m").cells] == [
        75.1,
        69.0,
        44.1,
        30.4,
        74.1,
        72.0,
        45.1,
        31.4,
    ]
    assert [c.published.std for c in row(table, "", "ddcat").cells] == [0.1, 0.5, 2.2, 4.0, 0.1, 1.3, 0.5, 1.2]
    missing = row(table, "", "ddcat-n (published)")
    assert [c.published.mean for c in missing.cells] == [74.8, 73.7, 45.6, 31.8, 74.1, 68.3, 42.6, 31.2]
    assert [r.label for r in table.blocks[0].rows] == ["sat", "ddcat-m", "ddcat", "ddcat-n (published)"]


def test_rivals_are_laid_out_as_table_6(rivals) -> None:
    (table,) = special(rivals)
    assert [block.label for block in table.blocks] == ["pspnet", "deeplabv3"]
    assert table.heads == (("clean", 0), ("white-box", 3), ("black-box, made on sat", 3))
    labels = [r.label for r in table.blocks[0].rows]
    assert labels[:3] == ["multitask-depth", "multitask", "ddcat"]
    assert labels[3:] == ["teacher-student (dynamic)", "teacher-student-vote (dynamic)"]
    assert [r.apart for r in table.blocks[0].rows] == [False, False, False, True, True]
    assert all(cell.rank == 0 for r in table.blocks[0].rows[3:] for cell in r.cells)
    assert [cell.mean for cell in row(table, "deeplabv3", "multitask").cells] == [62, 22, 23, 24, 32, 33, 34]


def test_published_values_are_those_of_table_6(rivals) -> None:
    (table,) = beside(special(rivals), load("xu2021"))
    found = row(table, "deeplabv3", "teacher-student (dynamic)").cells
    assert [c.published and c.published.mean for c in found] == [None, 42.3, 41.1, 42.4, 44.5, 44.8, 51.5]
    found = row(table, "pspnet", "ddcat").cells
    assert [c.published.mean for c in found] == [71.7, 50.2, 50.8, 46.7, 50.6, 58.4, 57.4]


def test_only_records_that_hold_a_comparison_get_its_table(records, ablation, rivals) -> None:
    assert special(records) == []
    assert special([r for r in ablation if r.target.defense.name != "ddcat"]) == []
    assert [table.name for table in special([*ablation, *rivals])] == ["ablation-1", "rivals-2"]


def test_a_plain_table_without_more_gives_way(ablation, rivals, one, net) -> None:
    def names(records):
        labels = Labels(records)
        return [table.name for table in shown(layouts(records, labels), comparisons(records, labels))]

    assert names(ablation) == ["ablation-1"]
    assert names([*ablation, one(net("pspnet", "none", 0), dataset="voc2012")]) == ["table-1", "ablation-1"]
    assert names(rivals) == ["table-1", "table-2", "rivals-1"]
    assert names([r for r in rivals if r.target.defense.name != "none"]) == ["rivals-1"]


def test_oblivious_attacks_stay_in_the_plain_table(ablation, one, net, attack_bim) -> None:
    oblivious = one(net("pspnet", "ddcat", 0), attack_bim(2), miou=99.0, adaptive=False, dataset="voc2012")
    records = [*ablation, oblivious.model_copy(update={"digest": "oblivious"})]
    (table,) = special(records)
    assert 99.0 not in [cell.mean for *_, cell in table.cells]
    assert len(shown(layouts(records, Labels(records)), [table])) == 2


def test_two_conditions_are_two_tables(ablation) -> None:
    others = [
        r.model_copy(update={"digest": f"other-{r.digest}", "split": "test", "data_fingerprint": "0" * 16})
        for r in ablation
    ]
    assert [table.name for table in special([*ablation, *others])] == ["ablation-1", "ablation-2"]


def test_notes_name_networks_by_the_model_of_their_column(ablation) -> None:
    flagged = [
        r.model_copy(update={"flags": ("zero-loss",)})
        if (r.target.model.name, r.target.defense.name, r.attack.short) == ("deeplabv3", "ddcat", "bim(steps=6)")
        else r
        for r in ablation
    ]
    found = notes(special(flagged)[0])
    assert f"⚑ Flagged {explained('zero-loss')}: deeplabv3 with ddcat." in found
    assert sum("does not use up its budget" in note for note in found) == 1


def test_captions_state_what_both_settings_are_means_of(rivals) -> None:
    (table,) = special([r.model_copy(update={"digest": r.digest + "x", "seed": 1}) for r in rivals] + rivals)
    assert table.setting == "both"
    assert "black-box over up to 2 pairs of target and source" in table.caption


def test_inference_keeps_models_apart(ablation) -> None:
    asked = []
    infer(special(ablation), lambda digest: asked.append(digest))
    assert set(asked) == {r.digest for r in ablation}


def test_every_format_has_them(ablation) -> None:
    page = compose(Manifest(name="x", title="x", records=tuple(ablation)), published="xu2021")
    text = to_markdown(page)
    assert "## Ablation: VOC 2012 (val)" in text
    head = next(line for line in text.splitlines() if line.startswith("| defense"))
    assert head.count("PSPNet") == head.count("DeepLabv3") == 4
    assert r"\multicolumn{4}{c}{PSPNet} & \multicolumn{4}{c}{DeepLabv3}" in to_latex(page)
    assert r"\emph{}" not in to_latex(page)
    frame = pd.DataFrame(cells([section.table for section in page.sections]))
    assert len(frame) == 32
    assert set(frame["model"]) == {"pspnet", "deeplabv3"}
    assert set(frame["setting"]) == {"white-box"}
