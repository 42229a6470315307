"""Sentences follow from the numbers, whichever way these fall."""

from segbench.reports.labels import Labels
from segbench.reports.page.reading import notes
from segbench.reports.tables.layouts import layouts


def tables_of(records):
    return layouts(records, Labels(records))


def test_steps_that_do_not_reach_the_bound_are_noted(records) -> None:
    found = notes(tables_of(records)[0])
    assert found[0] == "bim(steps=2) does not use up its budget: 2 steps of 0.01 reach 0.02 of eps = 0.03."
    assert not any("steps=4" in note or "steps=6" in note for note in found)


def test_an_attack_that_starts_elsewhere_may_use_its_budget_in_few_steps(one, net, attack_bim) -> None:
    record = one(net("pspnet", "none", 0), attack_bim(2), budget_used=0.03)
    assert not any("budget" in note for note in notes(tables_of([record])[0]))


def test_a_table_without_the_strongest_attack_says_so(one, net, attack_bim, part) -> None:
    records = [one(net("pspnet", "none", 0), attack_bim(6))]
    assert any("stronger attack" in note for note in notes(tables_of(records)[0]))
    records.append(one(net("pspnet", "none", 0), part("sea", eps=0.03)))
    assert not any("stronger attack" in note for note in notes(tables_of(records)[0]))


def test_failures_and_flags_are_noted(one, net, attack_bim) -> None:
    records = [
        one(net("pspnet", "none", 0), attack_bim(6), status="failed", error="why"),
        one(net("pspnet", "sat", 0), attack_bim(6), flags=("gradients-vanish",)),
    ]
    found = notes(tables_of(records)[0])
    assert "1 evaluation failed; the reasons are below." in found
    assert "⚑ Flagged gradients-vanish: pspnet with sat." in found


def test_networks_that_learnt_one_class_are_noted(one, net, attack_bim) -> None:
    def idle(record):
        return record.model_copy(
            update={"scores": record.scores.model_copy(update={"class_iou": (37.5, 0.0, 0.0), "miou": 12.5})}
        )

    (table,) = tables_of([idle(one(net("pspnet", "none", 0), *a)) for a in ((), (attack_bim(6),))])
    assert any(note.endswith("means nothing: pspnet without defense.") for note in notes(table))
