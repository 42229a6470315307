"""Tables hold the means they say, of the runs they say, and never mix what must not be mixed."""

import statistics

import pytest

from segbench.reports.labels import Labels
from segbench.reports.tables.layouts import layouts


def tables_of(records):
    return layouts(records, Labels(records))


def cell(table, model, defense, column):
    index = [c.label for c in table.columns].index(column)
    (block,) = [b for b in table.blocks if b.label == model]
    (row,) = [r for r in block.rows if r.label == defense]
    return row.cells[index]


def test_white_box_means_and_deviations_are_those_of_the_seeds(records) -> None:
    table = tables_of(records)[0]
    for model in ("pspnet", "deeplabv3"):
        for defense in ("none", "sat", "ddcat"):
            for column in ("clean", "bim(steps=2)", "bim(steps=6)"):
                values = [
                    r.scores.miou
                    for r in records
                    if r.setting != "black-box"
                    and (r.target.model.name, r.target.defense.name, r.attack.short) == (model, defense, column)
                ]
                found = cell(table, model, defense, column)
                assert len(values) == found.done == found.expected == 2
                assert found.mean == pytest.approx(sum(values) / 2)
                assert found.std == pytest.approx(statistics.stdev(values))


def test_black_box_means_are_over_all_pairs_and_clean_over_seeds(records) -> None:
    table = tables_of(records)[1]
    found = cell(table, "pspnet", "none", "bim(steps=4)")
    values = [
        r.scores.miou
        for r in records
        if r.setting == "black-box"
        and (r.target.model.name, r.target.defense.name) == ("pspnet", "none")
        and r.attack.options["steps"] == 4
    ]
    assert found.done == len(values) == 4
    assert found.mean == pytest.approx(statistics.fmean(values))
    assert found.std == pytest.approx(statistics.stdev(values))
    assert cell(table, "pspnet", "none", "clean").done == 2


def test_columns_and_rows_keep_the_order_of_the_matrix(records) -> None:
    table = tables_of(records)[0]
    assert [c.label for c in table.columns] == ["clean", "bim(steps=2)", "bim(steps=4)", "bim(steps=6)"]
    assert [c.sub for c in table.columns] == ["clean", "steps=2", "steps=4", "steps=6"]
    assert table.heads == (("clean", 0), ("bim", 3))
    assert [b.label for b in table.blocks] == ["pspnet", "deeplabv3"]
    assert [r.label for r in table.blocks[0].rows] == ["none", "sat", "ddcat"]


def test_options_that_neighbours_share_stand_above_them(one, net, part) -> None:
    target = net("pspnet", "none", 0)
    attacks = [part("apgd", f"apgd(eps={e}/255, rates=[1, 2], steps=20)", eps=e / 255) for e in (1, 2)]
    attacks += [part("corruption"), part("corruption", "corruption(kind=blur, severity=3)", kind="blur")]
    attacks += [part("cw")]
    (table,) = tables_of([one(target, attack) for attack in attacks])
    assert table.heads == (("apgd (rates=[1, 2], steps=20)", 2), ("corruption", 2), ("cw", 0))
    assert [c.sub for c in table.columns] == ["eps=1/255", "eps=2/255", "corruption", "kind=blur, severity=3", "cw"]


def test_one_run_has_no_deviation_and_its_own_interval(one, net) -> None:
    record = one(net("pspnet", "none", 0), miou=60.0)
    found = tables_of([record])[0].blocks[0].rows[0].cells[0]
    assert (found.mean, found.std, found.low, found.high) == (60.0, None, 58.0, 62.0)


def test_best_and_second_are_marked_and_equal_values_share_a_mark(one, net) -> None:
    values = {"none": 50.04, "sat": 50.01, "ddcat": 40.0, "other": 30.0}
    table = tables_of([one(net("pspnet", d, 0), miou=v) for d, v in values.items()])[0]
    assert [row.cells[0].rank for row in table.blocks[0].rows] == [1, 1, 2, 0]


def test_where_all_are_equal_none_is_best(one, net) -> None:
    table = tables_of([one(net("pspnet", d, 0), miou=12.5) for d in ("none", "sat")])[0]
    assert [row.cells[0].rank for row in table.blocks[0].rows] == [0, 0]


def test_failed_and_missing_runs_are_visible_and_never_ranked(one, net, attack_bim) -> None:
    none, sat = [net("pspnet", "none", s) for s in (0, 1)], [net("pspnet", "sat", s) for s in (0, 1)]
    records = [
        one(none[0], attack_bim(2), miou=90.0),
        one(none[1], attack_bim(2), status="failed", error="out of memory"),
        one(sat[0], attack_bim(2), miou=10.0),
        one(sat[1], attack_bim(2), miou=20.0),
        one(none[0], attack_bim(4), status="failed", error="out of memory"),
        one(none[1], attack_bim(4), status="missing"),
        one(sat[0], attack_bim(4), status="missing"),
    ]
    table = tables_of(records)[0]
    partial, failed = table.blocks[0].rows[0].cells
    assert (partial.state, partial.mean, partial.done, partial.expected, partial.rank) == ("partial", 90.0, 1, 2, 0)
    assert (failed.state, failed.mean) == ("failed", None)
    assert [c.state for c in table.blocks[0].rows[1].cells] == ["done", "missing"]


def test_a_combination_that_no_one_asked_for_is_not_missing(one, net, attack_bim) -> None:
    records = [one(net("pspnet", "none", 0), attack_bim(2)), one(net("pspnet", "sat", 0), attack_bim(4))]
    assert [c.state for c in tables_of(records)[0].blocks[0].rows[0].cells] == ["done", "not asked for"]


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": "crops-v1"},
        {"dataset": "camvid"},
        {"split": "test"},
        {"limit": 10},
        {"fingerprint": "0000"},
        {"absent": "zero"},
    ],
)
def test_a_table_never_mixes(one, net, other) -> None:
    first, second = net("pspnet", "none", 0), net("pspnet", "none", 1)
    tables = tables_of([one(first, miou=10.0), one(second, miou=20.0, **other)])
    assert [t.blocks[0].rows[0].cells[0].mean for t in tables] == [10.0, 20.0]
    assert all(t.blocks[0].rows[0].cells[0].done == 1 for t in tables)


def test_networks_that_differ_in_recipe_alone_are_never_averaged(one, net) -> None:
    records = [
        one(net("pspnet", "sat", 0, lr=0.01), miou=10.0),
        one(net("pspnet", "sat", 1, lr=0.01), miou=20.0),
        one(net("pspnet", "sat", 0, lr=0.1), miou=80.0),
    ]
    rows = tables_of(records)[0].blocks[0].rows
    assert [(row.label, row.cells[0].mean) for row in rows] == [("sat [lr=0.01]", 15.0), ("sat [lr=0.1]", 80.0)]


def test_two_networks_of_one_seed_are_never_averaged(one, net) -> None:
    first = net("pspnet", "sat", 0)
    second = first.model_copy(update={"digest": "abcdef0123456789"})
    rows = tables_of([one(first, miou=10.0), one(second, miou=30.0)])[0].blocks[0].rows
    assert [row.cells[0].mean for row in rows] == [10.0, 30.0]
    assert rows[1].label == "sat [abcdef01]"


def test_one_network_on_two_datasets_is_one_row_of_each(one, net) -> None:
    first, second = net("pspnet", "sat", 0), net("pspnet", "sat", 0).model_copy(update={"digest": "abcdef"})
    tables = tables_of([one(first), one(second, dataset="camvid", fingerprint="other")])
    assert [table.blocks[0].rows[0].label for table in tables] == ["sat", "sat"]


def test_labels_are_short_strings_where_names_are_shared(one, net, part) -> None:
    small, large = part("unet", "unet(encoder=a)", encoder="a"), part("unet", "unet(encoder=b)", encoder="b")
    table = tables_of([one(net(small, "none", 0)), one(net(large, "none", 0)), one(net("pspnet", "none", 0))])[0]
    assert [block.label for block in table.blocks] == ["unet(encoder=a)", "unet(encoder=b)", "pspnet"]


def test_labels_show_versions_where_nothing_else_differs(one, net, part) -> None:
    old, new = part("unet"), part("unet").model_copy(update={"version": 2})
    table = tables_of([one(net(old, "none", 0)), one(net(new, "none", 0))])[0]
    assert [block.label for block in table.blocks] == ["unet [version 1]", "unet [version 2]"]


def test_substitutes_of_two_defenses_are_two_tables(one, net, attack_bim) -> None:
    target, sources = net("pspnet", "none", 0), [net("deeplabv3", d, 0) for d in ("sat", "none")]
    tables = tables_of([one(target, attack_bim(2), source) for source in sources])
    assert [t.heading for t in tables] == [
        "Black-box: digits (val), substitutes trained with sat",
        "Black-box: digits (val), substitutes trained without defense",
    ]


def test_captions_state_runs_images_protocol_and_budget(records) -> None:
    white, black = tables_of(records)
    assert "2 seeds" in white.caption
    assert "150 images" in white.caption
    assert "whole-v1" in white.caption
    assert "L-inf, eps = 0.03" in white.caption
    assert "(n - 1)" in white.caption
    assert "up to 4 pairs" in black.caption


def test_captions_tell_budgets_apart(one, net, attack_bim, part) -> None:
    attacks = [attack_bim(6), part("apgd", eps=8 / 255), part("almaprox", steps=500)]
    (table,) = tables_of([one(net("pspnet", "none", 0), attack) for attack in attacks])
    assert "L-inf, eps = 0.03: bim; L-inf, eps = 8/255: apgd; no bound: almaprox." in table.caption
