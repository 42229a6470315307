"""Two records may be compared only if they share what is named here.

`condition` holds for the cells of one table, the runs of one mean and the peers that a sanity check compares. `request`
identifies the same evaluation in two stores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from segbench.reports.labels import component_key
from segbench.reports.records import Component, Network, Record


def shared_parts(record: Record) -> dict[str, Any]:
    """Return what all values of a table share, by name: the scored images, and the protocol that scored them."""
    return {
        "dataset": record.dataset,
        "data fingerprint": record.data_fingerprint,
        "split": record.split,
        "limit": record.limit,
        "protocol": record.protocol,
        "absent": record.absent,
        **({} if record.precision == "fp32" else {"precision": record.precision}),
    }


def condition(record: Record, key: Callable[[Component], str] = component_key) -> tuple[object, ...]:
    """Return a key that is equal for records whose values may stand in one table.

    Args:
        record: the record.
        key: component -> its key; `ComponentKeys` computes each key once.
    """
    dataset, fingerprint, split, limit, protocol, *others = shared_parts(record).values()
    return (key(dataset), fingerprint, split, limit, key(protocol), *others)


def request(record: Record) -> tuple[object, ...]:
    """Return a key that is equal for records of one evaluation that was asked for twice.

    Its files, recipes, weights and software may have changed in between.
    """
    return (
        component_key(record.dataset),
        record.split,
        record.limit,
        component_key(record.protocol),
        *_network(record.target),
        *_network(record.source),
        component_key(record.attack),
        record.seed,
        record.oblivious,
        record.precision,
    )


def identity(component: Component) -> dict[str, Any]:
    """Return what two components share if they compute the same, as JSON holds it: name, version and options."""
    return component.model_dump(mode="json", include={"name", "version", "options"})


def _network(network: Network) -> tuple[object, ...]:
    return component_key(network.model), component_key(network.defense), network.seed
