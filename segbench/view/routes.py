"""What the page asks for, and the answers. No answer depends on anything but the stores and the address."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from segbench.errors import StoreError
from segbench.files import sha256
from segbench.reports.names import is_name
from segbench.reports.visible import visible
from segbench.view import matrices
from segbench.view.pictures import KINDS, png
from segbench.view.shown import Shown

Query = Mapping[str, str]

STATIC = {
    "/": ("index.html", "text/html; charset=utf-8"),
    **{
        f"/static/{name}": (name, "text/javascript; charset=utf-8")
        for name in ("view.js", "dom.js", "matrix.js", "curves.js", "images.js")
    },
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
    "/static/view.css": ("view.css", "text/css; charset=utf-8"),
}
"""Files of the page: address -> name in the package and type."""
LARGEST = 4096
"""Pixels of the longer side of a picture, at most."""


class Answer(NamedTuple):
    """An answer to a request.

    Attributes:
        body: its content.
        kind: its content type.
        status: of HTTP.
        tag: changes when the content does.
    """

    body: bytes
    kind: str
    status: int = 200
    tag: str = ""


class _NotFoundError(Exception):
    """There is nothing of this name."""


class Site:
    """The page over some stores.

    Args:
        stores: their folders.
    """

    def __init__(self, stores: list[Path]) -> None:
        found = [Shown(root) for root in stores]
        self.stores = {shown.key: shown for shown in found}
        self.routes: dict[str, Callable[[Query], Any]] = {
            "/api/stores": self._stores,
            "/api/matrix": self._matrix,
            "/api/training": self._training,
            "/api/images": self._images,
        }

    def answer(self, path: str, query: Query) -> Answer:
        """Answer a request.

        Args:
            path: of the address.
            query: the values behind it; of a key that stands twice the last one.
        """
        try:
            if path in STATIC:
                name, kind = STATIC[path]
                body = (files("segbench.view") / "static" / name).read_bytes()
                return Answer(body, kind, tag=sha256(body)[:16])
            if path == "/image":
                return self._picture(query)
            if path in self.routes:
                return as_json(self.routes[path](query))
        except _NotFoundError:
            pass
        except StoreError as error:
            return as_json({"error": visible(str(error))}, 500)
        return as_json({"error": "there is nothing here"}, 404)

    def _stores(self, query: Query) -> Any:
        found = []
        for shown in self.stores.values():
            try:
                found.append(matrices.overview(shown))
            except StoreError as error:
                found.append({"store": shown.key, "path": visible(str(shown.store.root)), "error": visible(str(error))})
        return {"stores": found}

    def _matrix(self, query: Query) -> Any:
        shown = self._shown(query)
        manifest = shown.manifest(query.get("matrix", ""))
        if manifest is None:
            raise _NotFoundError
        return matrices.matrix(shown, manifest)

    def _training(self, query: Query) -> Any:
        return self._shown(query).training(_digest(query))

    def _images(self, query: Query) -> Any:
        return self._shown(query).image_rows(_digest(query))

    def _picture(self, query: Query) -> Answer:
        shown, digest, kind = self._shown(query), _digest(query), query.get("kind", "")
        index = int(_number(query, "index", 0.0, 999_999.0))
        if kind not in KINDS:
            raise _NotFoundError
        kept = shown.kept(digest, index)
        if kept is None:
            raise _NotFoundError
        side = int(_number(query, "side", LARGEST, LARGEST))
        piece, factor = int(_number(query, "piece", 0.0, 9999.0)), _number(query, "factor", 10.0, 255.0)
        body = png(kept, kind, piece, factor, max(1, side))
        return Answer(body, "image/png", tag=sha256(body)[:16])

    def _shown(self, query: Query) -> Shown:
        try:
            return self.stores[query.get("store", "")]
        except KeyError:
            raise _NotFoundError from None


def as_json(content: Any, status: int = 200) -> Answer:
    """Return data as an answer."""
    body = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return Answer(body, "application/json; charset=utf-8", status, sha256(body)[:16])


def _digest(query: Query) -> str:
    """Return the digest that a request names; what cannot be one names nothing, and no file is looked for."""
    digest = query.get("digest", "")
    if not is_name(digest):
        raise _NotFoundError
    return digest


def _number(query: Query, key: str, default: float, most: float) -> float:
    """Return a number from 0 to `most` that a request names."""
    try:
        value = float(query.get(key, default))
    except ValueError:
        raise _NotFoundError from None
    if not math.isfinite(value):
        raise _NotFoundError
    return max(0.0, min(value, most))
