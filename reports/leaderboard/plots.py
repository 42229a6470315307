"""The charts of a site: clean against robust mIoU of a board, and mIoU of a network by steps and by eps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from segbench.reports.labels import canonical
from segbench.reports.leaderboard.boards import Group
from segbench.reports.leaderboard.card import result_label
from segbench.reports.leaderboard.charts import Chart, Point, Series, axis, draw
from segbench.reports.leaderboard.entries import Entry, EntryResult, threat_name
from segbench.reports.numbers import number

NUMBERED = 10
"""Number of ranks that are written beside their marks; more would overlap."""


def scatter(group: Group, links: Mapping[str, str]) -> Chart | None:
    """Return a chart of clean against worst-case mIoU of a group of entries; None for fewer than two entries.

    Args:
        group: the entries.
        links: path of an entry -> path of its page.
    """
    series: dict[str, list[Point]] = defaultdict(list)
    for standing in (*group.ranked, *group.unranked):
        entry = standing.entry
        if entry.clean is not None and entry.worst is not None:
            rank = f"rank {standing.rank}, " if standing.rank else "not ranked, "
            text = f"{entry.model.name}, {rank}clean {entry.clean.mean:.1f}, worst case {entry.worst.mean:.1f}"
            series[entry.model.defense.name].append(
                Point(
                    entry.clean.mean,
                    entry.worst.mean,
                    text,
                    links[entry.path],
                    str(standing.rank) if standing.rank is not None and standing.rank <= NUMBERED else "",
                    hollow=standing.rank is None,
                )
            )
    points = [point for own in series.values() for point in own]
    if len(points) < 2:
        return None
    hollow = " Hollow marks are not ranked: a stronger attack may lower them." if any(p.hollow for p in points) else ""
    clean, worst = [point.at for point in points], [point.value for point in points]
    room = 0.05 * (max(clean) - min(clean)) + 0.5
    return draw(
        f"Clean against robust mIoU{f', {group.scored}' if group.scored else ''}",
        f"Up and to the right is better.{hollow} Numbers are the first ranks, and every mark is a link.",
        [Series(name, tuple(series[name])) for name in sorted(series)],
        axis("clean mIoU, %", [min(clean) - room, max(clean) + room], zero=False),
        axis("mIoU in the worst case, %", [1.05 * max(worst)]),
        lines=False,
    )


def model_key(entry: Entry) -> str:
    """Return a key that is equal for entries of one network that were scored alike and differ only in eps."""
    plain = entry.model_dump(mode="json", include={"model", "data", "protocol"})
    return canonical([plain, entry.threat.setting, entry.threat.norm])


def curves(entry: Entry, same: Sequence[Entry]) -> list[Chart]:
    """Return charts of a network's mIoU by number of steps and by eps, each if there are several values.

    Args:
        entry: the entry of the network.
        same: all entries with the same `model_key`, including this one.
    """
    steps = _families([(entry, result) for result in entry.attacked], "steps")
    bounds = _families([(other, result) for other in same for result in other.attacked], "eps")
    worst = {
        other.threat.eps: (other.worst, f", {result_label(other.worst)}")
        for other in same
        if other.threat.eps is not None and other.worst is not None
    }
    if len(worst) > 1:
        means = {eps: result.mean for eps, (result, _) in worst.items()}
        others = {name: own for name, own in bounds.items() if {eps: r.mean for eps, (r, _) in own.items()} != means}
        bounds = {"worst case": worst, **others}
    charts = []
    if steps:
        charts.append(
            _chart(
                entry,
                steps,
                "mIoU against the number of steps",
                "Zero is the clean image. A line that still falls at its right end has not met its worst attack.",
                "number of steps",
            )
        )
    if bounds:
        charts.append(
            _chart(
                entry,
                bounds,
                "mIoU against eps",
                "From this network's entries on other boards. The worst case is that of each board's own attacks.",
                f"eps ({entry.threat.norm}), in 255ths",
                255.0,
            )
        )
    return charts


Values = dict[float, tuple[EntryResult, str]]


def _families(results: Sequence[tuple[Entry, EntryResult]], option: str) -> dict[str, Values]:
    """Group attacks that differ only in one option: name -> value of the option -> result."""
    found: dict[str, Values] = defaultdict(dict)
    names: dict[str, str] = {}
    for entry, result in results:
        attack = result.attack
        value = attack.options.get(option) if attack is not None else None
        if attack is None or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        rest = {key: own for key, own in attack.options.items() if key != option}
        key = canonical([attack.name, attack.version, rest, result.source])
        fixed = [f"{k}={number(rest[k])}" for k in ("eps", "alpha", "steps") if isinstance(rest.get(k), int | float)]
        source = f" on {result.source}" if result.source else ""
        names[key] = f"{attack.name} ({', '.join(fixed)}){source}" if fixed else f"{attack.name}{source}"
        found[key][float(value)] = (result, f", {threat_name(entry.threat)}" if option == "eps" else "")
    many = {key: values for key, values in found.items() if len(values) > 1}
    twins = [names[key] for key in many]
    return {
        names[key] if twins.count(names[key]) == 1 else f"{names[key]} [{place + 1}]": values
        for place, (key, values) in enumerate(many.items())
    }


def _chart(
    entry: Entry, families: dict[str, Values], title: str, caption: str, across: str, factor: float = 1.0
) -> Chart:
    series = []
    for name, values in families.items():
        points = [
            Point(
                factor * value,
                values[value][0].mean,
                f"{values[value][0].mean:.1f} at {number(value)}{values[value][1]}",
            )
            for value in sorted(values)
        ]
        if entry.clean is not None:
            points.insert(0, Point(0.0, entry.clean.mean, f"{entry.clean.mean:.1f} clean"))
        series.append(Series(name, tuple(points)))
    every = [point for one in series for point in one.points]
    return draw(
        title,
        caption,
        series,
        axis(across, [point.at for point in every]),
        axis("mIoU, %", [point.value for point in every]),
        lines=True,
    )
