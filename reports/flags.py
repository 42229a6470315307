"""The raised flags of a set of records, in words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from segbench.reports.labels import Labels
from segbench.reports.records import Record
from segbench.reports.sanity import explained


def flag_sentences(records: Sequence[Record], names: Mapping[str, str] | None = None) -> list[str]:
    """Return one line per flag: its name, its meaning, and the attacks and networks that it was raised for.

    Args:
        records: the records.
        names: display names of components; None for the names of matrices. See `segbench.reports.labels.Labels`.
    """
    return [f"{explained(flag)}: {where}" for flag, where in raised(records, Labels(records, names)).items()]


def raised(records: Sequence[Record], labels: Labels) -> dict[str, str]:
    """Return flag -> the attacks and networks that it was raised for: "bim(steps=2): all 6 networks".

    Args:
        records: the records.
        labels: the labels of their components and networks.
    """
    found: dict[str, dict[str, dict[str, None]]] = {}
    attacked: dict[str, dict[str, None]] = {}
    for record in records:
        attack, network = attack_label(record, labels), labels.network(record.target)
        attacked.setdefault(attack, {})[network] = None
        for flag in record.flags:
            found.setdefault(flag, {}).setdefault(attack, {})[network] = None
    return {
        flag: "; ".join(f"{attack}: {_names(networks, attacked[attack])}" for attack, networks in attacks.items())
        for flag, attacks in found.items()
    }


def attack_label(record: Record, labels: Labels) -> str:
    """Return the label of a record's attack, which says so if it is a black-box attack."""
    label = labels.component("attack", record.attack)
    return f"{label} ({record.setting})" if record.setting == "black-box" else label


def _names(networks: Iterable[str], attacked: Collection[str]) -> str:
    names = list(networks)
    return f"all {len(names)} networks" if 2 < len(names) == len(attacked) else ", ".join(names)
