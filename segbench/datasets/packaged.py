"""The data sets that segbench describes in `descriptions`, each a component of the file's name."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Literal

from segbench.datasets.base import Size
from segbench.datasets.tools.described import Described, Wording
from segbench.datasets.tools.description import Description, packaged, packaged_names
from segbench.datasets.tools.pairs import checked_size
from segbench.model_zoo.base import Tag

ROOT = "the folder of the data set, or the one that the archive was unpacked in."
SIZE = "height and width that images (antialiased) and masks (nearest) are resized to; null keeps the files'."


class Packaged:
    """A description as a component: with a folder and options it gives the dataset.

    Args:
        name: name of the data set.
        description: what is described.
    """

    def __init__(self, name: str, description: Description) -> None:
        self.tag = Tag("dataset", name, 1)
        self.description = description
        self.classes = description.classes
        self.lengths = description.lengths
        self.__doc__ = _docstring(description)
        self.__signature__ = _signature(description)

    def __call__(self, root: Path, *, size: Size | None = None, **options: str | None) -> Described:
        """Return the dataset in a folder.

        Args:
            root: the folder.
            size: height and width that images and masks are resized to.
            **options: the description's options; None for all.
        """
        name, get = self.tag.name, self.description.get or "see docs/data.md"
        return Described(
            self.description,
            Path(root),
            tag=self.tag,
            wording=Wording(name, "has", get, get),
            size=checked_size(size, name),
            options=options,
            official=True,
        )


def _signature(description: Description) -> inspect.Signature:
    keyword, positional = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    root = inspect.Parameter("root", positional, annotation=Path)
    size = inspect.Parameter("size", keyword, default=None, annotation=Size | None)
    chosen = [
        inspect.Parameter(name, keyword, default=None, annotation=Literal[values] | None)
        for name, values in description.options.items()
    ]
    return inspect.Signature([root, size, *chosen], return_annotation=Described)


def _docstring(description: Description) -> str:
    options = [f"    {name}: {', '.join(values)}, or null for all." for name, values in description.options.items()]
    source = [f"Source: {description.source}"] if description.source else []
    arguments = ["Args:", f"    root: {ROOT}", f"    size: {SIZE}", *options]
    return "\n".join([description.summary or "", "", *arguments, "", *source])


def _components() -> dict[str, Any]:
    return {name: Packaged(name, description) for name in packaged_names() if (description := packaged(name)).images}


globals().update(_components())
