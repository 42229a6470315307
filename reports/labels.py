"""Labels of components and networks: the shortest names under which no two different ones share a label.

A report shows display names: those that a matrix gives, else the published spelling. Without display names the labels
are the names by which the catalog and matrix files know the components.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from segbench.reports.display import RESERVED, SPELLED, Parts, options_of, parts, with_defense
from segbench.reports.records import Component, Network, Record

NetworkKey = tuple[str, str, str, str]


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str)


def canonical(value: Any) -> str:
    """Return data as JSON; equal data give equal text."""
    return _ENCODER.encode(value)


def component_key(component: Component) -> str:
    """Return a text that is equal for two components only if their names, versions and options are equal."""
    return f"{component.name}\0{component.version}\0{canonical(dict(component.options))}"


class ComponentKeys:
    """`component_key`, computed once for each object: many records share a few."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Component, str]] = {}  # by id, which stays unique because the component is held

    def __call__(self, component: Component) -> str:
        """Return `component_key` of a component."""
        known = self._known.get(id(component))
        if known is None:
            known = self._known[id(component)] = component, component_key(component)
        return known[1]


class Labels:
    """The labels of all components and networks of a set of records.

    Args:
        records: the records.
        names: display names by component: "bim" for every component of this name, "bim(steps=6)" for this one, "bim()"
            for the one with its defaults. Further components get their published spelling. None: no display names.
    """

    def __init__(self, records: Iterable[Record], names: Mapping[str, str] | None = None) -> None:
        self._names = names
        self.component_key = ComponentKeys()
        self._network_keys: dict[int, tuple[Network, tuple[str, str, str]]] = {}
        self._network_labels: dict[int, str] = {}
        kinds: dict[str, dict[str, Component]] = defaultdict(dict)
        networks: dict[tuple[str, str, str], dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        self._recipes: dict[str, Mapping[str, Any]] = {}
        self._seeds: set[int] = set()
        for record in records:
            kinds["dataset"][self.component_key(record.dataset)] = record.dataset
            kinds["protocol"][self.component_key(record.protocol)] = record.protocol
            kinds["attack"][self.component_key(record.attack)] = record.attack
            for network in (record.target,) if record.source is record.target else (record.target, record.source):
                self._seeds.add(network.seed)
                key = self._plain_key(network)
                kinds["model"][key[0]] = network.model
                kinds["defense"][key[1]] = network.defense
                networks[key][network.seed].add(f"{network.digest} {record.dataset.short} {record.data_fingerprint}")
        plain = {kind: _component_labels(found) for kind, found in kinds.items()}
        self._components = plain
        if names is not None:
            self._components = {kind: _displayed(found, plain[kind], names) for kind, found in kinds.items()}
        self._ambiguous = {key for key, seeds in networks.items() if any(_collide(found) for found in seeds.values())}
        self._variants: dict[tuple[str, str], list[str]] = defaultdict(list)
        for model, defense, recipe in networks:
            self._variants[model, defense].append(recipe)
        called = {(key[0], key[1]) for key in networks}
        if len({self._called(*key) for key in called}) < len(called):
            self._components = {**self._components, "model": plain["model"], "defense": plain["defense"]}

    def component(self, kind: str, component: Component) -> str:
        """Return the label of a component: its name, its short string, or its short string with version and options.

        The first of the three that no other component of the kind has is taken.
        """
        return self._components[kind][self.component_key(component)]

    def parts(self, component: Component) -> Parts | None:
        """Return the label of an attack in parts, or None where it has a display name of its own."""
        if self._names is None or _spelling(component, self._names) is None:
            return Parts(component.name, component.name, tuple(options_of(component.short, component.name)))
        return None if _exact(component, self._names) else _parts(component, self._names)

    def name(self, name: str) -> str:
        """Return the display name of every component of a name: "BIM" for "bim"."""
        return name if self._names is None else self._names.get(name) or SPELLED.get(name, name)

    def key(self, network: Network) -> NetworkKey:
        """Return a key that is equal for networks that differ only in their seed; only those share a mean."""
        key = self._plain_key(network)
        return (*key, network.digest if key in self._ambiguous else "")

    def defense(self, network: Network) -> str:
        """Return the label of a network's defense.

        Where two networks differ only in their recipe, the label names the difference: "sat [lr=0.1]". Where they
        differ only in their digest, it names that.
        """
        model, defense, recipe, digest = self.key(network)
        label = self._components["defense"][defense]
        variants = self._variants[model, defense]
        if len(variants) > 1:
            mine = self._recipes[recipe]
            others = [self._recipes[other] for other in variants]
            differing = sorted(k for k in set().union(*others) if len({canonical(o.get(k)) for o in others}) > 1)
            label += f" [{', '.join(f'{k}={mine.get(k)}' for k in differing)}]"
        return f"{label} [{digest[:8]}]" if digest else label

    def model(self, network: Network) -> str:
        """Return the label of a network's architecture."""
        return self._components["model"][self._plain_key(network)[0]]

    def network(self, network: Network) -> str:
        """Return a network's label: "PSPNet with SAT", "PSPNet without defense"."""
        known = self._network_labels.get(id(network))
        if known is None:
            known = self._network_labels[id(network)] = with_defense(self.model(network), self.defense(network))
        return known

    def _called(self, model: str, defense: str) -> str:
        """Return the label of a network without its recipe."""
        return with_defense(self._components["model"][model], self._components["defense"][defense])

    def run(self, network: Network) -> str:
        """Return a network's label, with its seed where there are several: "pspnet with sat, seed 1"."""
        return f"{self.network(network)}, seed {network.seed}" if len(self._seeds) > 1 else self.network(network)

    def _plain_key(self, network: Network) -> tuple[str, str, str]:
        known = self._network_keys.get(id(network))
        if known is None:
            recipe = canonical(dict(network.recipe))
            self._recipes.setdefault(recipe, network.recipe)
            key = self.component_key(network.model), self.component_key(network.defense), recipe
            known = self._network_keys[id(network)] = network, key
        return known[1]


def _collide(found: set[str]) -> bool:
    """Return whether two networks of one seed were trained on the same data and still differ."""
    data = [entry.split(" ", 1)[1] for entry in found]
    return len(set(data)) < len(data)


def _component_labels(components: Mapping[str, Component]) -> dict[str, str]:
    by_name, by_short = defaultdict(list), defaultdict(list)
    for key, component in components.items():
        by_name[component.name].append(key)
        by_short[component.short].append(key)
    labels = {}
    for key, component in components.items():
        if len(by_name[component.name]) == 1:
            labels[key] = component.name
        elif len(by_short[component.short]) == 1:
            labels[key] = component.short
        else:
            twins = [components[twin] for twin in by_short[component.short]]
            labels[key] = f"{component.short} [{_what_differs(component, twins)}]"
    return labels


def _displayed(
    components: Mapping[str, Component], plain: Mapping[str, str], names: Mapping[str, str]
) -> dict[str, str]:
    """Return the display label of each component; of those that would share one, the plain label."""
    by_name, by_short = defaultdict(list), defaultdict(list)
    for key, component in components.items():
        by_name[component.name].append(key)
        by_short[component.short].append(key)
    labels = dict(plain)
    for key, component in components.items():
        spelled, exact = _spelling(component, names), _exact(component, names)
        alone, several = len(by_name[component.name]) == 1, len(by_short[component.short]) > 1
        if spelled is None:
            continue
        if exact is not None or alone:
            own = _parts(component, names)
            labels[key] = exact or (own.name if component.name in names else own.counted)
        else:
            labels[key] = _parts(component, names).whole
        if several:
            twins = [components[twin] for twin in by_short[component.short]]
            labels[key] += f" [{_what_differs(component, twins)}]"
    while clashing := _clashing(components, labels, plain):
        labels.update({key: plain[key] for key in clashing})
    return labels


def _clashing(components: Mapping[str, Component], labels: Mapping[str, str], plain: Mapping[str, str]) -> list[str]:
    """Return the keys of components whose display label is also another's, or means something else."""
    times = Counter(labels.values())
    return [
        key
        for key, label in labels.items()
        if label != plain[key] and (times[label] > 1 or (label in RESERVED and components[key].name != label))
    ]


def _exact(component: Component, names: Mapping[str, str]) -> str | None:
    """Return the display name of this very component, or None."""
    short = component.short if component.short != component.name else f"{component.name}()"
    return names.get(short)


def _spelling(component: Component, names: Mapping[str, str]) -> str | None:
    """Return the display name of a component's name, or None where only the component knows how it is spelled."""
    return _exact(component, names) or names.get(component.name) or SPELLED.get(component.name)


def _parts(component: Component, names: Mapping[str, str]) -> Parts:
    shown = names.get(component.name) or SPELLED.get(component.name, component.name)
    return parts(component.name, component.short, component.options, shown)


def _what_differs(component: Component, others: list[Component]) -> str:
    if len({other.version for other in others}) == len(others):
        return f"version {component.version}"
    return f"version {component.version}, {canonical(dict(component.options))}"
