"""Where the words of a verb go, and the switches that every verb has for it.

With --json a verb prints one object to stdout, as `docs/json.md` describes it, and all else goes to stderr. With
--quiet there is no progress. With --debug a mistake is told with its traceback.
"""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from segbench.cli.progress import Bars, Lines, Quiet

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object; all else goes to stderr.")]

SWITCHES = {
    "quiet": Annotated[bool, typer.Option("--quiet", help="Show no progress.")],
    "debug": Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")],
}

PluginOption = Annotated[
    list[str] | None,
    typer.Option("--plugin", help="Python file or module with components of your own.", metavar="FILE|MODULE"),
]

switched: set[str] = set()
"""The switches that are on."""


def verb(*, plugins: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that lets a command take the switches, too.

    Args:
        plugins: it also takes --plugin, and what that names joins the catalog.
    """
    more = {**SWITCHES, **({"plugin": PluginOption} if plugins else {})}

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def called(**options: Any) -> None:
            switched.clear()
            switched.update(name for name in SWITCHES if options.pop(name))
            if plugins and (named := options.pop("plugin")):
                from segbench.components import catalog

                catalog.add_plugins(named)
            function(**options)

        signature = inspect.signature(function, eval_str=True)
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [
            *signature.parameters.values(),
            *(inspect.Parameter(name, keyword, default=None, annotation=kind) for name, kind in more.items()),
        ]
        called.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {each.name: each.annotation for each in parameters}
        return called

    return decorate


def console(*, stderr: bool = False) -> Console:
    """Return a console that leaves names as they are: rich takes `:boom` for a picture."""
    from rich.console import Console

    class Lasting(Console):
        def on_broken_pipe(self) -> None:
            """Say no more, and go on: whoever read has enough, and rich would end the command with exit code 1."""
            self.quiet = True

    return Lasting(stderr=stderr, emoji=False)


def note(text: str) -> None:
    """Print a line on stderr, as it is."""
    console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)


def display(shown: Console) -> Bars | Lines | Quiet:
    """Return bars for a terminal, lines for everything else, and only what must be said with --quiet."""
    from segbench.cli.progress import Bars, Lines, Quiet

    if "quiet" in switched:
        return Quiet(shown)
    return Bars(shown) if shown.is_terminal else Lines(shown)


def print_json(kind: str, content: Mapping[str, Any]) -> None:
    """Print the object of a verb to stdout.

    Args:
        kind: the object's kind, which is the verb.
        content: its other keys.
    """
    with contextlib.suppress(BrokenPipeError):  # whoever read has enough
        typer.echo(json.dumps({"kind": kind, "version": 1, **content}, indent=1, ensure_ascii=False, allow_nan=False))
