"""Pages of the documentation site that are made when it is built: a hook of mkdocs, named in mkdocs.yml.

The site's first page is the README. Every attack and every defense has a page from the catalog, every public module a
page of its docstrings, and the notebook a page with its outputs. None of these pages is committed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from generate_attacks import bound, cost, details
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from segbench.components import catalog, specs
from segbench.components.catalog import Definition
from segbench.execution.pass_counts import scoring_passes, training_passes
from segbench.plan.traits import defense_needs, defense_traits

ROOT = Path(__file__).resolve().parents[1]
COPIED = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files beside docs/ that become pages."""
ALONE = "---\nhide: [navigation]\n---\n"
"""Head of the first page, whose section has no other page."""
LINKS = {"](docs/": "](", "](CONTRIBUTING.md)": "](contributing.md)", "](examples)": "](examples.md)"}
"""How their links read on the site."""
FURTHER = ("CITATION.cff", "LICENSE")
"""Files beside docs/ that pages link to."""

REFERENCE: dict[str, tuple[str, ...]] = {
    "segbench": ("segbench.api", "segbench.tensors", "segbench.result"),
    "Matrices": ("segbench.config.matrix", "segbench.config.load", "segbench.config.network"),
    "Errors": ("segbench.errors",),
    "Write an attack": (
        "segbench.attacks.base",
        "segbench.attacks.tools.budget",
        "segbench.attacks.tools.losses",
        "segbench.attacks.tools.projections",
        "segbench.attacks.tools.ascent",
        "segbench.attacks.tools.noise",
        "segbench.attacks.tools.targets",
        "segbench.attacks.tools.passes",
    ),
    "Write a defense": ("segbench.defenses.base", "segbench.defenses.tools.adversarial"),
    "Write a network": ("segbench.model_zoo.base", "segbench.model_zoo.encoders", "segbench.model_zoo.heads"),
    "Write a dataset": ("segbench.datasets.base", "segbench.datasets.tools.pairs", "segbench.datasets.tools.hashes"),
    "Write a protocol": ("segbench.protocols.base", "segbench.protocols.geometry"),
    "Records and reports": (
        "segbench.reports.records",
        "segbench.reports.render",
        "segbench.reports.evidence",
        "segbench.reports.statistics",
        "segbench.reports.compare",
    ),
}
"""Pages of the reference, with the modules on each."""
ELSEWHERE = {"segbench.api": ("Result", "attack", "predict"), "segbench.attacks.base": ("ThreatModel",)}
"""Names that a module passes on, and that the page of their own module describes."""

PAGE = "../defenses.md"
KINDS = {
    "wrapped": "The deployed network wraps the plain one. The evaluation attacks the deployed network, and separately "
    f"the plain network inside; see [two attackers]({PAGE}#inference-time-defenses-two-attackers).",
    "certified": f"The deployed network certifies its labels; see [certificates]({PAGE}#certificates).",
    "dynamic": f"The deployed network learns while it predicts; see [dynamic defenses]({PAGE}#dynamic-defenses).",
}
NEEDS = {"clips": "clips of video", "depth": "the depth of the images"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the generated pages to the navigation."""
    for section in config.nav or []:
        (title, entries) = next(iter(section.items()))
        if title in ("Attacks", "Defenses"):
            kind = title[:-1].lower()
            entries.extend({name: f"{title.lower()}/{name}.md"} for name in catalog.components(kind))
        elif title == "Reference":
            entries.extend({name: f"reference/{_slug(name)}.md"} for name in REFERENCE)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for source, target in COPIED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        for before, after in LINKS.items():
            text = text.replace(before, after)
        head = ALONE if target == "index.md" else ""
        files.append(File.generated(config, target, content=head + text))
    for name in FURTHER:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    files.append(File.generated(config, "quickstart.md", content=_notebook(ROOT / "examples" / "quickstart.ipynb")))
    files.append(File.generated(config, "examples.md", content=_examples()))
    for name, component in catalog.components("attack").items():
        files.append(File.generated(config, f"attacks/{name}.md", content=_attack(component)))
    for name, component in catalog.components("defense").items():
        files.append(File.generated(config, f"defenses/{name}.md", content=_defense(component)))
    for name, modules in REFERENCE.items():
        text = f"# {name}\n" + "".join(map(_module, modules))
        files.append(File.generated(config, f"reference/{_slug(name)}.md", content=text))
    return files


def _notebook(path: Path) -> str:
    return "\n\n".join(part for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] for part in _cell(cell))


def _cell(cell: Mapping[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    yield source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if "image/png" in data:
            yield f"![Figure of the notebook](data:image/png;base64,{''.join(data['image/png']).strip()})"
        elif "text/html" in data:
            # Without the style of the notebook: the site has its own.
            html = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
            yield re.sub(r"<table[^>]*>", "<table>", html)
        else:
            yield f"```text\n{''.join(output['text']).strip()}\n```"


def _examples() -> str:
    text = (
        "# Examples\n\nThe folder `examples/` of the repository has these programs. Each runs from an empty folder.\n"
    )
    for path in sorted((ROOT / "examples").glob("*.py")):
        text += f'\n## {path.name}\n\n```python title="examples/{path.name}"\n{path.read_text(encoding="utf-8")}```\n'
    return text


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-")


def _module(module: str) -> str:
    hidden = "".join(f', "!^{name}$"' for name in ELSEWHERE.get(module, ()))
    return f'\n::: {module}\n    options:\n      filters: ["!^_[^_]"{hidden}]\n'


def _attack(component: Definition) -> str:
    attack = component.object
    facts = {
        "Norm and eps": bound(attack),
        "Uses of the network": attack.access,
        "Passes for one image": cost(attack),
        "Version": attack.version,
        "Module": f"`{component.module}`",
    }
    use = f"```yaml\nattacks: [clean, {component.name}]\n```\n"
    return f"# {component.name}\n\n{details(component)}\n{_table(facts)}\n## In a matrix\n\n{use}"


def _defense(component: Definition) -> str:
    facts: dict[str, object] = {}
    remarks: list[str] = []
    if all(option.default is not option.empty for option in component.options.values()):
        defense = specs.bound("defense", component.name)
        training, scoring = training_passes(defense), scoring_passes(defense)
        facts["Training, passes for one image"] = f"{training.forward} forward, {training.backward} backward"
        facts["Prediction, passes for one image"] = f"{scoring.forward} forward"
        remarks = [KINDS[trait] for trait in defense_traits(defense)]
        facts["Learns from"] = " and ".join(["images and masks", *(NEEDS[need] for need in defense_needs(defense))])
    facts |= {"Version": component.version, "Module": f"`{component.module}`"}
    use = f"```yaml\ndefenses: [none, {component.name}]\n```\n"
    text = "".join(f"\n{remark}\n" for remark in remarks)
    return f"# {component.name}\n\n{details(component)}{text}\n{_table(facts)}\n## In a matrix\n\n{use}"


def _table(facts: dict[str, object]) -> str:
    return "\n| property | value |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in facts.items())
