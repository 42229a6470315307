"""A flag is told once, with every attack and network that it was raised for."""

from segbench.reports.flags import flag_sentences, raised
from segbench.reports.labels import Labels
from segbench.reports.sanity import SENTENCES


def flag(record, name):
    return record.model_copy(update={"flags": (*record.flags, name)})


def test_without_flags_there_is_nothing_to_tell(records) -> None:
    assert flag_sentences(records) == []


def test_networks_are_named_unless_all_were_flagged(one, net, attack_bim) -> None:
    nets = [net("pspnet", defense, 0) for defense in ("none", "sat", "ddcat")]
    few, many = ([one(n, attack_bim(steps)) for n in nets] for steps in (2, 6))
    records = [*(flag(r, "zero-loss") for r in few), flag(many[0], "zero-loss"), flag(many[1], "zero-loss"), many[2]]
    text = "bim(steps=2): all 3 networks; bim(steps=6): pspnet without defense, pspnet with sat"
    assert raised(records, Labels(records)) == {"zero-loss": text}
    assert flag_sentences(records) == [f"zero-loss ({SENTENCES['zero-loss']}): {text}"]
    assert (
        "BIM-2: all 3 networks; BIM-6: Mine without defense, Mine with SAT"
        in flag_sentences(records, {"pspnet": "Mine"})[0]
    )


def test_a_black_box_attack_says_so(one, net, attack_bim) -> None:
    record = flag(one(net("pspnet", "sat", 0), attack_bim(2), net("pspnet", "none", 0)), "zero-loss")
    assert raised([record], Labels([record])) == {"zero-loss": "bim (black-box): pspnet with sat"}
