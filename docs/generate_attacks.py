"""Generates docs/attacks.md from the catalog: run `python docs/generate_attacks.py` after changing an attack."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import torch
from torch import nn

from segbench.attacks.base import Attack, BoundAttack
from segbench.attacks.tools.passes import count_passes
from segbench.components import catalog, docstrings, specs

PAGE = Path(__file__).with_name("attacks.md")
STEPS = (4, 8)
"""Numbers of steps at which the cost is measured; their difference gives the cost of one step."""
HEAD = """# Attacks

`python docs/generate_attacks.py` makes this page from the catalog; do not edit it by hand.

**Units.** Images lie in [0, 1]. eps and alpha use the same units, and `eps: 8/255` in a matrix is exact.

**Void.** Void pixels have no influence on losses, gradients and scores.

**Budget.** The evaluator checks every adversarial batch against its threat model in float64, before it scores the
batch.

**Cost.** The table counts passes for one image: the largest number that the options allow. apgd, sea, cw, deepfool, dag
and square stop working on an image that is fully fooled, and pgd does not restart on it.

**Targets.** The option `target` is a class, or a map of labels that is the same for every image (Metzen et al. 2017
call it static). In a matrix, write the path of a PNG with one byte a pixel. From Python, give a tensor, of one map or
of one map an image. segbench resizes the map to the attacked image by nearest neighbour. The attack ignores pixels
where the map holds the void label. The identity of an evaluation contains the content of the file, not its path. Scores
always compare with the true masks.

**Regions.** `patch` and `universal-patch` change no pixel outside of their patch, and `hide` none outside of its
`region`. The evaluator works out the region by itself and compares every other pixel bit for bit. See
[Patches and hidden objects](threats.md).

**Random networks.** A network may draw random numbers in its forward pass. An attack seeds these from its own
generator, so that the network draws other numbers when the images are scored.

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


def _row(name: str, component: catalog.Definition) -> str:
    attack: Attack[...] = component.object
    return f"| [{name}](#{name}) | {bound(attack)} | {attack.access} | {cost(attack)} | {component.summary} |\n"


def bound(attack: Attack[...]) -> str:
    """Return the norm and the radius that an attack keeps by default, or the norm that it minimises."""
    threat = attack.bind().threat
    if threat.area is not None:
        return f"none in {100 * threat.area:g} % of the image, 0 elsewhere"
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
    if "passes" in options:
        return "passes forward, at most as many backward; an image that is finished takes fewer"
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
    masks[:, :, -1] = 1  # something that surrounds an object
    context = {"class_pixels": torch.ones(4)}
    made = attack.bind(**options)
    with count_passes(model) as passes:
        (made.parts if attack.ensemble else made)(model, images, masks, **context)
    return passes.forward, passes.backward


def _linear(slope: int, unit: str, rest: int) -> str:
    times = {0: "", 1: unit}.get(slope, f"{slope} {unit}")
    if not times or not rest:
        return times or str(rest)
    return f"{times} {'+' if rest > 0 else '-'} {abs(rest)}"


def _formula(forward: int | str, backward: int | str) -> str:
    return f"{forward} forward, {backward} backward"


def _section(name: str, component: catalog.Definition) -> str:
    return f"\n## {name}\n\n{details(component)}"


def details(component: catalog.Definition) -> str:
    """Return what a component's docstring and signature say: prose, options and source."""
    body, arguments, source, departs = docstrings.split(component.doc)
    text = f"{body}\n"
    if component.options:
        text += "\n| option | default | values | meaning |\n|---|---|---|---|\n"
        for option, parameter in component.options.items():
            required = parameter.default is inspect.Parameter.empty
            default = "required" if required else specs.text(parameter.default)
            text += f"| `{option}` | {default} | {_values(parameter.annotation)} | {_cell(arguments[option])} |\n"
    if getattr(component.object, "nested", False):
        text += "\nNested: one run of the largest number of steps gives the results of all smaller ones.\n"
    text += f"\nSource: {source}\n" if source else ""
    return text + (f"\nDeparts from it in: {departs}\n" if departs else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


_WORDS = {type(None): "none", torch.Tensor: "map", Path: "file of one", BoundAttack: "attack"}


def _values(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(str(value) for value in parts)
    if origin in (tuple, Sequence):
        return f"list of {_values(parts[0])}"
    if parts:
        return " or ".join(_values(part) for part in parts)
    return _WORDS.get(annotation, annotation.__name__)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
