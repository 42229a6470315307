"""Sentences follow from the numbers, whichever way these fall."""

from segbench.reports.labels import Labels
from segbench.reports.page.reading import notes, reading
from segbench.reports.tables.layouts import layouts


def tables_of(records):
    return layouts(records, Labels(records))


def networks(one, net, attack, values):
    """Records of networks by defense: clean and attacked mIoU."""
    return [
        record
        for defense, (clean, worst) in values.items()
        for record in (
            one(net("pspnet", defense, 0), miou=clean),
            one(net("pspnet", defense, 0), attack, miou=worst, status="done" if worst is not None else "missing"),
        )
    ]


def test_what_collapses_and_what_holds(records) -> None:
    assert reading(tables_of(records)) == (
        "2 of 6 networks lose more than half of their clean mIoU under their worst white-box attack: "
        "pspnet with none collapses from 72.3 to 24.4 under bim(steps=6). "
        "deeplabv3 with ddcat holds best and keeps 59.9 of its 71.8 under bim(steps=6)."
    )


def test_where_all_collapse_nothing_holds(one, net, attack_bim) -> None:
    values = {"none": (70.0, 1.0), "sat": (60.0, 20.0)}
    text = reading(tables_of(networks(one, net, attack_bim(6), values)))
    assert text.startswith("2 of 2 networks lose")
    assert text.endswith("Nothing holds: the best, pspnet with sat, keeps 20.0 of its 60.0.")


def test_where_none_collapses_it_says_so(one, net, attack_bim) -> None:
    values = {"none": (70.0, 65.0), "sat": (60.0, 58.0)}
    text = reading(tables_of(networks(one, net, attack_bim(6), values)))
    assert text.startswith("None of 2 networks loses more than half")
    assert "pspnet with none is hit hardest, from 70.0 to 65.0" in text


def test_one_that_collapsed_cannot_hold_best(one, net, attack_bim) -> None:
    values = {"none": (90.0, 40.0), "sat": (50.0, 35.0)}
    text = reading(tables_of(networks(one, net, attack_bim(6), values)))
    assert "pspnet with none collapses from 90.0 to 40.0" in text
    assert "pspnet with sat holds best" in text


def test_one_network_alone_is_not_compared(one, net, attack_bim) -> None:
    text = reading(tables_of(networks(one, net, attack_bim(6), {"none": (70.0, 30.0)})))
    assert text.startswith("pspnet with none collapses from 70.0 to 30.0 mIoU under bim")
    assert "nothing to hold it against" in text


def test_a_network_whose_worst_attack_was_not_run_does_not_hold(one, net, attack_bim) -> None:
    records = networks(one, net, attack_bim(2), {"none": (70.0, 30.0), "sat": (60.0, 55.0)})
    records += [
        one(net("pspnet", "none", 0), attack_bim(6), miou=10.0),
        one(net("pspnet", "sat", 0), attack_bim(6), status="missing"),
    ]
    assert "sat" not in reading(tables_of(records))


def test_nothing_done_is_nothing_said(one, net, attack_bim) -> None:
    assert reading(tables_of(networks(one, net, attack_bim(6), {"none": (70.0, None)}))) == ""
    assert reading([]) == ""


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
    assert "Flagged gradients-vanish: pspnet with sat." in found


def test_networks_that_learnt_one_class_say_nothing_of_robustness(one, net, attack_bim) -> None:
    def idle(record):
        return record.model_copy(
            update={"scores": record.scores.model_copy(update={"class_iou": (37.5, 0.0, 0.0), "miou": 12.5})}
        )

    untrained = [idle(one(net("pspnet", "none", 0), *a)) for a in ((), (attack_bim(6),))]
    (table,) = tables_of(untrained)
    assert reading([table]).startswith("The one completely evaluated network has learnt no more than one class")
    both = [*untrained, *(idle(one(net("pspnet", "sat", 0), *a)) for a in ((), (attack_bim(6),)))]
    assert reading(tables_of(both)).startswith("None of 2 networks has learnt more than one class")
    assert any(note.endswith("means nothing: pspnet with none.") for note in notes(table))
    trained = networks(one, net, attack_bim(6), {"sat": (60.0, 50.0), "ddcat": (62.0, 20.0)})
    text = reading(tables_of([*untrained, *trained]))
    assert "1 of 2 trained and completely evaluated networks loses" in text
    assert "none" not in text
