"""Threat models in words."""

from __future__ import annotations

from segbench.reports.display import norm_label
from segbench.reports.numbers import number
from segbench.reports.records import RecordedThreat

_WHERE = {
    "all": "anywhere",
    "object": "on the objects",
    "surroundings": "around the objects",
    "map": "where a map allows it",
}


def bound_in_words(threat: RecordedThreat) -> str:
    """Return how far an attack may change an image and where, such as "L-inf, eps = 0.03"."""
    if threat.region == "patch":
        share = "a part" if threat.area is None else f"{100 * threat.area:g} %"
        return f"any colours in {share} of the image, nothing elsewhere"
    bound = "no bound" if threat.eps is None else f"{norm_label(threat.norm)}, eps = {number(threat.eps)}"
    return bound if threat.region in (None, "all") else f"{bound} {region_in_words(threat)}"


def region_in_words(threat: RecordedThreat) -> str:
    """Return where an attack may change an image: "a patch", "on the objects"."""
    return "a patch" if threat.region == "patch" else _WHERE.get(threat.region or "all", str(threat.region))
