"""`segbench show`: one component or matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from segbench.cli import output
from segbench.cli.output import JsonOption, verb
from segbench.errors import SegbenchError

if TYPE_CHECKING:
    from rich.console import Console

    from segbench.components.catalog import Definition


@verb(plugins=True)
def show(
    name: Annotated[str, typer.Argument(help="Name of a component or of a built-in matrix.")],
    json: JsonOption = False,
) -> None:
    """Show a component's description, options with defaults, and source; or a matrix file."""
    from importlib.resources import files

    from segbench.components import catalog
    from segbench.config.load import builtin_matrices

    found = [catalog.components(kind)[name] for kind in catalog.PACKAGES if name in catalog.components(kind)]
    matrix = (files("segbench") / "matrices" / f"{name}.yaml").read_text() if name in builtin_matrices() else None
    if not found and matrix is None:
        names = {n: None for kind in catalog.PACKAGES for n in catalog.components(kind)}
        raise SegbenchError(catalog.unknown("component", name, {**names, **builtin_matrices()}))
    described = [_described(component) for component in found]
    if json:
        output.print_json("show", {"matrix": matrix, "components": described})
        return
    console = output.console()
    if matrix is not None:
        from rich.syntax import Syntax

        console.print(Syntax(matrix, "yaml"))
    for component in described:
        _print(component, console)


def _described(component: Definition) -> dict[str, Any]:
    """Return what there is to know of a component, as data; the default of a required option is null."""
    import inspect

    from segbench.components import docstrings, specs

    parts = docstrings.split(component.doc)
    return {
        "kind": component.kind,
        "name": component.name,
        "version": component.version,
        "module": component.module,
        "description": parts.prose,
        "options": {
            name: {
                "default": None if p.default is inspect.Parameter.empty else specs.text(p.default),
                "required": p.default is inspect.Parameter.empty,
                "meaning": parts.arguments.get(name, ""),
            }
            for name, p in component.options.items()
        },
        "source": parts.source,
        "departs": parts.departs,
    }


def _print(component: dict[str, Any], console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    console.print(
        f"[bold]{component['kind']} {component['name']}[/] (version {component['version']}, {component['module']})"
    )
    console.print(component["description"], markup=False, highlight=False)
    table = Table("option", "default", "meaning", title_justify="left")
    for name, option in component["options"].items():
        default = "required" if option["required"] else option["default"]
        table.add_row(*map(escape, (name, default, option["meaning"])))
    if component["options"]:
        console.print(table)
    for heading, text in (("Source", component["source"]), ("Departs from it in", component["departs"])):
        if text:
            console.print(f"{heading}: {text}", markup=False, highlight=False)
