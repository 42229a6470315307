"""The command line: a verb a file. Each verb parses, calls and prints; torch is imported by those that need it."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from segbench.cli.attacked_set import attacked_set_app
from segbench.cli.check import EXAMPLE as CHECK_EXAMPLE
from segbench.cli.check import check
from segbench.cli.compare import compare
from segbench.cli.data import data_app
from segbench.cli.doctor import doctor
from segbench.cli.eval import eval_
from segbench.cli.leaderboard import leaderboard_app
from segbench.cli.list import list_
from segbench.cli.plan import plan
from segbench.cli.report import report
from segbench.cli.run import run
from segbench.cli.schema import schema
from segbench.cli.show import show
from segbench.cli.status import status
from segbench.cli.store import store_app
from segbench.cli.view import view
from segbench.cli.zoo import zoo_app

app = typer.Typer(
    name="segbench",
    help="Robustness benchmarks for semantic segmentation: train, attack, tabulate, compare.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog="Example: segbench run camvid --data camvid=data/CamVid --workers 2 --set seeds=[0,1]")(run)
app.command(epilog="Example: segbench plan voc2012-paper --estimate")(plan)
app.command(epilog="Example: segbench status runs --watch")(status)
app.command(epilog="Example: segbench report quickstart --store runs --out report")(report)
app.command(epilog="Example: segbench compare runs-before runs-after --out changes.md")(compare)
app.command("list", epilog="Example: segbench list attacks")(list_)
app.command(epilog="Example: segbench show bim")(show)
app.command("eval", epilog="Example: segbench eval net.py:build -d camvid --data camvid=CamVid -a bim -a sea")(eval_)
app.command(epilog=CHECK_EXAMPLE)(check)
app.command(epilog="Example: segbench doctor --store /scratch/runs")(doctor)
app.command(epilog="Example: segbench schema > segbench.schema.json")(schema)
app.command(epilog="Example: segbench view runs --open")(view)
app.add_typer(data_app, name="data")
app.add_typer(zoo_app, name="zoo")
app.add_typer(leaderboard_app, name="leaderboard")
app.add_typer(attacked_set_app, name="attacked-set")
app.add_typer(store_app, name="store")


def main() -> None:
    """Run the command line; see `segbench.cli.endings` for what a mistake looks like."""
    try:
        app()
    except SystemExit as ended:
        code = ended.code
    except BaseException as error:
        from segbench.cli.endings import explained

        code = explained(error)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has enough; Python would complain when it closes it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"segbench {version('segbench')}")
        raise typer.Exit


@app.callback()
def _callback(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
