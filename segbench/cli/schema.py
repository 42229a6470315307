"""`segbench schema`: a JSON schema of matrix files for editors."""

from __future__ import annotations

import json

import typer

from segbench.cli.output import verb


@verb(plugins=True)
def schema() -> None:
    """Print a JSON schema of matrix files, with which an editor completes and checks them."""
    from segbench.config.json_schema import matrix_schema

    typer.echo(json.dumps(matrix_schema(), indent=1))
