"""Values stand in one table, and evaluations of two stores beside each other, only where that is fair."""

import pytest

from segbench.reports.comparable import condition, identity, request
from segbench.reports.labels import Labels


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "voc2012"},
        {"fingerprint": "0000"},
        {"split": "dev"},
        {"limit": 10},
        {"protocol": "sea-v2"},
        {"absent": "zero"},
    ],
)
def test_whatever_changes_the_scored_pixels_parts_two_tables(one, net, change) -> None:
    plain, other = one(net("pspnet", "sat", 0)), one(net("pspnet", "sat", 0), **change)
    assert condition(plain) != condition(other)
    assert condition(plain, Labels([plain, other]).component_key) == condition(plain)


def test_another_version_of_a_protocol_parts_two_tables(one, net) -> None:
    record = one(net("pspnet", "sat", 0))
    newer = record.model_copy(update={"protocol": record.protocol.model_copy(update={"version": 2})})
    assert condition(record) != condition(newer)


def test_networks_and_attacks_share_a_table(one, net, attack_bim) -> None:
    assert condition(one(net("pspnet", "sat", 0))) == condition(one(net("unet", "none", 1), attack_bim(3)))


def test_a_request_names_networks_but_not_how_they_came_out(one, net, attack_bim) -> None:
    asked = request(one(net("pspnet", "sat", 0), attack_bim(3)))
    assert asked == request(one(net("pspnet", "sat", 0, lr=0.5), attack_bim(3), miou=1.0, fingerprint="other files"))
    assert asked != request(one(net("pspnet", "sat", 1), attack_bim(3)))
    assert asked != request(one(net("pspnet", "sat", 0), attack_bim(4)))
    assert asked != request(one(net("pspnet", "sat", 0), attack_bim(3), net("unet", "sat", 0)))
    assert asked != request(one(net("pspnet", "sat", 0), attack_bim(3), adaptive=False))


def test_an_identity_is_that_of_json(part) -> None:
    assert identity(part("bim", "bim(steps=3)", steps=3, size=(4, 5))) == {
        "name": "bim",
        "version": 1,
        "options": {"steps": 3, "size": [4, 5]},
    }
