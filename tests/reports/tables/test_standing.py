"""A value whose gradient is not to be trusted is ranked by the strongest other attack, and the report says so."""

from segbench.reports.labels import Labels
from segbench.reports.page.page import compose
from segbench.reports.page.reading import fates_of
from segbench.reports.records import Manifest
from segbench.reports.tables.layouts import layouts
from segbench.reports.tables.standing import strongest, with_standing


def scored(record, miou, flags=()):
    scores = record.scores.model_copy(update={"miou": miou, "miou_low": miou, "miou_high": miou})
    return record.model_copy(update={"scores": scores, "flags": flags})


def evaluations(one, net, part, flags):
    """Two networks, clean and under BIM, the first of them under a square attack as well."""
    bim = part("bim", "bim(steps=6)", eps=0.03, alpha=0.01, steps=6)
    square = part("square", "square(queries=100)", eps=0.03, queries=100)
    first, second = (net("pspnet", defense, 0) for defense in ("none", "sat"))
    return [
        scored(one(first), 70),
        scored(one(second), 60),
        scored(one(first, bim), 50, flags),
        scored(one(second, bim), 40),
        scored(one(first, square), 20),
        scored(one(second, square), 45),
    ]


def bim_cells(table):
    (index,) = (i for i, column in enumerate(table.columns) if column.attack and column.attack.name == "bim")
    return [row.cells[index] for row in table.blocks[0].rows]


def test_the_ranking_takes_the_strongest_other_attack(one, net, part) -> None:
    records = evaluations(one, net, part, ("wrong-gradient",))
    labels = Labels(records)
    (table,) = with_standing(layouts(records, labels), strongest(records, labels), labels)
    masked, honest = bim_cells(table)
    assert (masked.mean, masked.stands, masked.rank) == (50, 20, 2)
    assert (honest.mean, honest.stands, honest.rank) == (40, None, 1)
    (remark,) = table.remarks
    assert remark.startswith("pspnet without defense under bim")
    assert "ranked by square" in remark
    assert "leaves 20.0" in remark
    assert [(fate.defense, fate.worst) for fate in fates_of(table)] == [("none", 20), ("sat", 40)]


def test_a_trusted_gradient_ranks_by_itself(one, net, part) -> None:
    for flags in ((), ("test-time-optimisation",)):
        records = evaluations(one, net, part, flags)
        labels = Labels(records)
        (table,) = with_standing(layouts(records, labels), strongest(records, labels), labels)
        assert [cell.rank for cell in bim_cells(table)] == [1, 2]
        assert table.remarks == ()


def test_where_no_other_attack_is_stronger_the_report_asks_for_one(one, net, part) -> None:
    records = evaluations(one, net, part, ("zero-gradient",))[:4]
    assert [other.label for other in strongest(records, Labels(records)).values()] == [""]
    page = compose(Manifest(name="tiny", title="Tiny", records=tuple(records)))
    assert any("run square, or a transfer" in note for section in page.sections for note in section.notes)
