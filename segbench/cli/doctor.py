"""`segbench doctor`: what this machine has, and what is missing."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from segbench.cli import output
from segbench.cli.output import JsonOption, verb

DEVELOPMENT = ("dev", "docs")
"""Extras that nobody needs who only uses segbench."""


class Finding(NamedTuple):
    """What was looked at.

    Attributes:
        what: its name.
        found: what is there.
        advice: what to do about it; empty where it is well.
        needed: nothing works without it.
    """

    what: str
    found: str
    advice: str = ""
    needed: bool = False


@verb(plugins=True)
def doctor(
    store: Annotated[Path, typer.Option(help="Folder of checkpoints, records and reports.")] = Path("runs"),
    json: JsonOption = False,
) -> None:
    """Say what this machine has and what is missing; exit code 1 where nothing works without it."""
    found = [*_software(), *_plugins(), *_machine(store)]
    if json:
        output.print_json("doctor", {"findings": [finding._asdict() for finding in found]})
    else:
        _print(found)
    if any(finding.needed and finding.advice for finding in found):
        raise typer.Exit(1)


def _software() -> list[Finding]:
    """Look at Python, the packages that are always there, the GPU, and the extras."""
    found = [
        Finding("segbench", version("segbench")),
        Finding("Python", f"{platform.python_version()}, {sys.executable}"),
    ]
    try:
        import torch
        import torchvision
    except Exception as error:  # whatever a broken installation raises
        advice = "install torch and torchvision that belong together, see https://pytorch.org/get-started"
        return [*found, Finding("torch", f"cannot be imported: {error}", advice, needed=True)]
    found.append(Finding("torch", f"{torch.__version__}, torchvision {torchvision.__version__}"))
    found.append(_cuda(torch))
    for extra, names in _extras().items():
        missing = [name for name in names if not _installed(name)]
        there = ", ".join(f"{name} {version(name)}" for name in names if name not in missing)
        lacking = f"without {', '.join(missing)}" if missing else ""
        advice = f"pip install 'segbench[{extra}]', if you need it" if missing else ""
        found.append(Finding(f"extra {extra}", ", ".join(filter(None, (there, lacking))), advice))
    return found


def _cuda(torch: Any) -> Finding:
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        cards = [torch.cuda.get_device_properties(index) for index in range(count)]
        named = ", ".join(f"{card.name} ({card.total_memory / 2**30:.0f} GiB)" for card in cards)
        return Finding("CUDA", f"{torch.version.cuda}, {named}")
    driver = shutil.which("nvidia-smi") is not None
    if driver:
        advice = "there is a driver, but torch cannot use it: install a build of torch for your CUDA version"
        return Finding("CUDA", "torch finds no card", advice)
    return Finding("CUDA", "no card, no driver: everything runs on the processor")


def _extras() -> dict[str, list[str]]:
    """Return the packages of every extra, without what is for developers."""
    found: dict[str, list[str]] = {}
    for line in requires("segbench") or ():
        written, _, marker = line.partition(";")
        name = written.strip()
        for sign in "[<>=!~ ":
            name = name.partition(sign)[0]
        extra = marker.partition("extra ==")[2].strip().strip("\"'")
        if extra and extra not in DEVELOPMENT and name != "segbench":
            found.setdefault(extra, []).append(name)
    return found


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _plugins() -> list[Finding]:
    from segbench.components import catalog

    try:
        return [Finding("plugin", sentence, "correct it, or leave it out") for sentence in catalog.refused()]
    except ImportError:  # torch is not there, which has been said
        return []


def _machine(store: Path) -> list[Finding]:
    """Look at processors, memory, and the disk under the store."""
    from segbench.processors import usable

    found = [Finding("processors", f"{usable()} of {platform.machine()} can be used")]
    total, free = _memory()
    if total:
        advice = "less than 4 GiB are free: use --workers 1 and small images" if free < 4 * 2**30 else ""
        found.append(Finding("memory", f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free", advice))
    place = store.resolve()
    while not place.exists():
        place = place.parent
    left = shutil.disk_usage(place).free
    advice = "less than 5 GiB: checkpoints may not fit" if left < 5 * 2**30 else ""
    found.append(Finding("disk", f"{left / 2**30:.0f} GiB free at {place}", advice))
    try:
        with tempfile.NamedTemporaryFile(dir=place):
            pass
        found.append(Finding("store", f"{store} can be written"))
    except OSError as error:
        where = f"{store}: {(error.strerror or str(error)).lower()}"
        found.append(Finding("store", where, "name another folder with --store", needed=True))
    return found


def _memory() -> tuple[int, int]:
    """Return the machine's memory in bytes, and what of it is free; zeros where that is not known."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0, 0
    sizes = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
    return sizes.get("MemTotal", 0), sizes.get("MemAvailable", 0)


def _print(found: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for finding in found:
        sign, colour = ("!", "red" if finding.needed else "yellow") if finding.advice else ("✓", "green")
        told = Text(finding.found)
        if finding.advice:
            told.append(f"\n{finding.advice}", style=colour)
        table.add_row(Text(sign, style=colour), finding.what, told)
    output.console().print(table)
