"""The options of `segbench run` that say what runs a matrix, and what is said of jobs that were submitted."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segbench.errors import SegbenchError

if TYPE_CHECKING:
    from rich.console import Console

EngineOption = Annotated[
    str | None, typer.Option(help="What runs cells: local, ray or slurm.", show_default="local", metavar="ENGINE")
]
AddressOption = Annotated[
    str | None,
    typer.Option(help="Ray cluster: auto or HOST:PORT.", show_default="start one on this machine", metavar="HOST:PORT"),
]
SlurmOption = Annotated[
    list[str] | None,
    typer.Option(help="Options of sbatch: partition=gpu,gres=gpu:1,time=4:00:00.", metavar="KEY=VALUE,..."),
]
DetachOption = Annotated[bool, typer.Option("--detach", help="Submit to SLURM and do not wait.")]


def engine_options(engine: str | None, address: str | None, slurm: list[str] | None) -> dict[str, Any]:
    """Return the options that say what runs a matrix, as they are laid over it.

    Raises:
        SegbenchError: an option belongs to another engine, or is no KEY=VALUE.
    """
    if address is not None and engine not in (None, "ray"):
        raise SegbenchError(f"--address {address}: is of a Ray cluster; use --engine ray with it")
    if slurm and engine not in (None, "slurm"):
        raise SegbenchError(f"--slurm {slurm[0]}: holds options of sbatch; use --engine slurm with it")
    return {"--engine": engine, "--address": address, "--slurm": slurm_options(slurm) if slurm else None}


def slurm_options(written: Sequence[str]) -> dict[str, str]:
    """Read --slurm: KEY=VALUE, separated by commas; what holds no "=" belongs to the value before it.

    Raises:
        SegbenchError: it begins without a KEY=.
    """
    found: dict[str, str] = {}
    for text in written:
        last = None
        for part in text.split(","):
            key, equals, value = part.partition("=")
            if equals:
                last = key.strip().replace("-", "_")
                found[last] = value
            elif last is None:
                raise SegbenchError(f"--slurm {text}: expected KEY=VALUE, for instance partition=gpu,time=4:00:00")
            else:
                found[last] += f",{part}"
    return found


def show_submitted(terminal: Console, numbers: Sequence[str], store: Path) -> None:
    """Say what was submitted, and how to see and to collect it."""
    if not numbers:
        terminal.print("nothing is left to do; the same command without --detach shows the results", soft_wrap=True)
        return
    again = shlex.join(["segbench", *(word for word in sys.argv[1:] if word != "--detach")])
    for line in (
        f"submitted to SLURM as {', '.join(numbers)}",
        f"to see how far it is: {shlex.join(['segbench', 'status', str(store)])}",
        f"to collect the results: {again}",
    ):
        terminal.print(line, markup=False, highlight=False, soft_wrap=True)
