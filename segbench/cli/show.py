"""`segbench show`: one component or matrix."""

from __future__ import annotations

from typing import Annotated

import typer

from segbench.errors import SegbenchError


def show(name: Annotated[str, typer.Argument(help="Name of a component or of a built-in matrix.")]) -> None:
    """Show a component's description, options with defaults, and source; or a matrix file."""
    import inspect
    from importlib.resources import files

    from rich.console import Console
    from rich.markup import escape
    from rich.syntax import Syntax
    from rich.table import Table

    from segbench.components import catalog, docstrings, specs
    from segbench.config.load import builtin_matrices

    console = Console()
    found = [catalog.components(kind)[name] for kind in catalog.PACKAGES if name in catalog.components(kind)]
    if name in builtin_matrices():
        console.print(Syntax((files("segbench") / "matrices" / f"{name}.yaml").read_text(), "yaml"))
    elif not found:
        names = {n: None for kind in catalog.PACKAGES for n in catalog.components(kind)}
        raise SegbenchError(catalog.unknown("component", name, {**names, **builtin_matrices()}))
    for component in found:
        console.print(f"[bold]{component.kind} {component.name}[/] (version {component.version}, {component.module})")
        parts = docstrings.split(component.doc)
        console.print(parts.prose, markup=False, highlight=False)
        table = Table("option", "default", "meaning", title_justify="left")
        for option, parameter in component.options.items():
            required = parameter.default is inspect.Parameter.empty
            default = "required" if required else specs.text(parameter.default)
            table.add_row(*map(escape, (option, default, parts.arguments.get(option, ""))))
        if component.options:
            console.print(table)
        for heading, text in (("Source", parts.source), ("Departs from it in", parts.departs)):
            if text:
                console.print(f"{heading}: {text}", markup=False, highlight=False)
