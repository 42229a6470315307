"""Generates docs/attacks.md from the catalog: run `python docs/generate_attacks.py` after changing an attack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import torch
from torch import nn

from segbench.attacks.base import Attack
from segbench.attacks.tools.passes import count_passes
from segbench.components import catalog, docstrings, specs

PAGE = Path(__file__).with_name("attacks.md")
STEPS = (4, 8)
"""Numbers of steps at which the cost is measured; their difference gives the cost of one step."""
HEAD = """# Attacks

Generated from the catalog by `python docs/generate_attacks.py`; do not edit.

Images, eps and alpha are in [0, 1] units; `eps: 8/255` in a matrix is exact. Void pixels enter no loss, no gradient and
no score. The evaluation checks every adversarial batch against its threat model in float64 before it scores it.

The table gives the maximum number of passes per image. apgd, sea, cw, deepfool, dag and square stop on an image as soon
as it is fooled, and pgd does not start it again.

A `target` is a class, or a label map for all images (Metzen et al. 2017 call it static). In a matrix, a label map is
the path of a PNG with one byte per pixel. In Python it may also be a tensor, with one map for all images or one per
image. The attack resizes the map to the size of the images by nearest neighbour, and ignores pixels with the void
label. The content of the file, not its path, is part of the identity of an evaluation. Scores always compare with the
true masks.

A network may draw random numbers in its forward pass. An attack seeds these from its own generator, so that the network
draws other numbers when the images are scored.

| attack | norm and eps | uses | cost in passes | what it does |
|---|---|---|---|---|
"""


class _Pixelwise(nn.Module):
    """A network that a few steps cannot fool at any pixel, so that no attack stops early."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([images.mean(1) + 9.0 * (k == 0) - 0.1 * k for k in range(4)], 1)


def page() -> str:
    """Return the page."""
    attacks = catalog.components("attack")
    rows = "".join(_row(name, component) for name, component in attacks.items())
    return HEAD + rows + "".join(_section(name, component) for name, component in attacks.items())


def _row(name: str, component: catalog.Component) -> str:
    attack: Attack[...] = component.object
    return f"| [{name}](#{name}) | {_bound(attack)} | {attack.access} | {cost(attack)} | {component.summary} |\n"


def _bound(attack: Attack[...]) -> str:
    threat = attack.bind().threat
    if threat.norm is not None:
        return f"{threat.norm} {threat.eps:g}"
    return f"least {attack.minimises}" if attack.minimises else "none"


def cost(attack: Attack[...]) -> str:
    """Measure the maximum number of forward and backward passes per image; return it as a formula of the options."""
    options = attack.bind().options
    if attack.access == "none":
        return "0"
    if attack.fit is not None:
        return "fitting: epochs x training images, both ways; then 0"
    unit = next((unit for unit in ("steps", "queries") if unit in options), None)
    if unit is None:
        return _formula(*_measured(attack, {}))
    small, large = (_measured(attack, {unit: count}) for count in STEPS)
    slopes = [(after - before) // (STEPS[1] - STEPS[0]) for before, after in zip(small, large, strict=True)]
    rests = [after - slope * STEPS[1] for after, slope in zip(large, slopes, strict=True)]
    formula = _formula(*(_linear(slope, unit, rest) for slope, rest in zip(slopes, rests, strict=True)))
    return f"{formula}; per restart, of several one forward more" if "restarts" in options else formula


def _measured(attack: Attack[...], options: Mapping[str, Any]) -> tuple[int, int]:
    model, images = _Pixelwise(), torch.full((1, 3, 8, 8), 0.5)
    masks = torch.zeros(1, 8, 8, dtype=torch.long)
    context = {"class_pixels": torch.ones(4)}
    bound = attack.bind(**options)
    with count_passes(model) as passes:
        (bound.parts if attack.ensemble else bound)(model, images, masks, **context)
    return passes.forward, passes.backward


def _linear(slope: int, unit: str, rest: int) -> str:
    times = {0: "", 1: unit}.get(slope, f"{slope} {unit}")
    if not times or not rest:
        return times or str(rest)
    return f"{times} {'+' if rest > 0 else '-'} {abs(rest)}"


def _formula(forward: int | str, backward: int | str) -> str:
    return f"{forward} forward, {backward} backward"


def _section(name: str, component: catalog.Component) -> str:
    body, arguments, source, departs = docstrings.split(component.doc)
    text = f"\n## {name}\n\n{body}\n"
    if component.options:
        text += "\n| option | default | values | meaning |\n|---|---|---|---|\n"
        for option, parameter in component.options.items():
            default = specs.text(parameter.default)
            text += f"| `{option}` | {default} | {_values(parameter.annotation)} | {_cell(arguments[option])} |\n"
    if component.object.nested:
        text += "\nNested: one run with the largest number of steps also gives the results for all smaller numbers.\n"
    text += f"\nSource: {source}\n" if source else ""
    return text + (f"\nDeparts from it in: {departs}\n" if departs else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


_WORDS = {type(None): "none", torch.Tensor: "map", Path: "file of one"}


def _values(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(str(value) for value in get_args(annotation))
    if get_args(annotation):
        return " or ".join(_WORDS.get(part, part.__name__) for part in get_args(annotation))
    return str(annotation.__name__)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
