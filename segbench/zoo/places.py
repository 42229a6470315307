"""The places of zoos: any fsspec URL. Downloads go through a cache, and each file is checked against its card.

    URL/<dataset>/<architecture>/<defense>/<seed>@<version>/  card.json  weights.safetensors
    URL/index.json    names; read from servers that cannot list folders
    URL/README.md     the page of a zoo on the Hugging Face Hub

A version never changes. Only these files are read, and none of them can run code, as a pickle file could.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from filelock import FileLock

from segbench.documents.strict_json import LARGEST_JSON, parse_json
from segbench.errors import describe
from segbench.files import acquire, cache_folder, file_sha256, write_bytes, write_json
from segbench.zoo.cards import LARGEST_CARD, Card, Name, ZooError, is_name, parse_card, parse_name
from segbench.zoo.hub import Place, commit, parse_place
from segbench.zoo.model_card import MARK, model_card

CARD, WEIGHTS, INDEX, PAGE = "card.json", "weights.safetensors", "index.json", "README.md"
CHUNK = 1 << 20
DOWNLOAD_PATIENCE = 600.0
"""Seconds to wait for another process that downloads the same network."""


class Zoo:
    """One zoo: a place that holds networks.

    Args:
        url: a folder, or any URL that fsspec opens: s3://, gs://, hf://, http://, ...

    Raises:
        ZooError: no installed package opens such a URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            self.files, self.root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise ZooError(f"zoo {url}: cannot be opened ({error})") from error
        protocols = {self.files.protocol} if isinstance(self.files.protocol, str) else {*self.files.protocol}
        self.local, self.http = "file" in protocols, bool({"http", "https"} & protocols)
        self.hub = parse_place(self.root) if "hf" in protocols else None

    def names(self) -> list[str]:
        """Return the names of all networks, sorted."""
        try:
            if self.http:
                found = parse_json(self._head(f"{self.root}/{INDEX}", LARGEST_JSON), INDEX)
            else:
                found = [self._name(path) for path in self.files.find(self.root) if path.endswith(f"/{CARD}")]
        except FileNotFoundError:
            return []
        except Exception as error:  # every kind of place has errors of its own
            raise ZooError(f"zoo {self.url}: cannot be listed ({describe(error)})") from error
        if not isinstance(found, list):
            raise ZooError(f"zoo {self.url}: {INDEX} is no list of names")
        return sorted({name for name in found if isinstance(name, str) and is_name(name)}, key=_order)

    def latest(self, stem: str) -> int | None:
        """Return the highest version of a network, or None if the zoo lacks it."""
        versions = [parse_name(name) for name in self.names()]
        return max((name.version or 0 for name in versions if name.stem == stem), default=None)

    def card(self, name: Name) -> Card | None:
        """Return the card of a network, or None if the zoo lacks it."""
        path = f"{self.root}/{name}/{CARD}"
        where = f"zoo {self.url}: {name}/{CARD}"
        try:
            content = parse_json(self._head(path, LARGEST_CARD), CARD, LARGEST_CARD)
        except FileNotFoundError:
            return None
        except Exception as error:  # every kind of place has errors of its own
            raise ZooError(f"{where}: cannot be read ({describe(error)})") from error
        if not isinstance(content, dict):
            raise ZooError(f"{where}: not a JSON object")
        return parse_card(content, name, where)

    def fetch(self, card: Card, target: Path) -> None:
        """Download the weights of a network; the file appears only when complete.

        An interrupted download is continued.

        Args:
            card: the network's card.
            target: the file to write.

        Raises:
            ZooError: the download is interrupted, or the file is not the one on the card.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        resumed = part.is_file()
        self._continue(card, part)
        if resumed and not intact(card, part):
            part.unlink()
            self._continue(card, part)
        if not intact(card, part):
            part.unlink()
            raise ZooError(f"zoo {self.url}: {card.name}/{WEIGHTS} is not the file that its card describes")
        os.replace(part, target)

    def put(self, card: Card, weights: Path) -> None:
        """Add a network. The card is written last, so that a reader who finds the card also finds the weights.

        Raises:
            ZooError: other weights have this name already, or the zoo cannot be written.
        """
        name = parse_name(card.name)
        there = self.card(name)
        if there is not None and there.sha256 != card.sha256:
            raise ZooError(f"zoo {self.url}: {name} exists with other weights; a version never changes")
        if not intact(card, weights):
            raise ZooError(f"{weights}: not the file that the card of {name} describes")
        folder = f"{self.root}/{name}"
        if self.hub is not None:
            self._publish(self.hub, card, weights, fresh=there is None)
            return
        try:
            self.files.makedirs(folder, exist_ok=True)
            if there is None:
                self._put(weights, f"{folder}/{WEIGHTS}")
            self._write(f"{folder}/{CARD}", card.model_dump(mode="json"))
            self._write(f"{self.root}/{INDEX}", self.names())
        except Exception as error:  # every kind of place has errors of its own
            raise ZooError(f"zoo {self.url}: {name} cannot be written ({describe(error)})") from error

    def _publish(self, place: Place, card: Card, weights: Path, *, fresh: bool) -> None:
        """Add a network to a repository on the Hub, and write the page of the zoo anew if it is not the owner's own."""
        names = sorted({*self.names(), card.name}, key=_order)
        cards = [card if name == card.name else self.card(parse_name(name)) for name in names]
        contents: dict[str, bytes | Path] = {
            **({f"{card.name}/{WEIGHTS}": weights} if fresh else {}),
            f"{card.name}/{CARD}": _as_json(card.model_dump(mode="json")),
            INDEX: _as_json(names),
        }
        try:
            if not place.folder and self._may_write_page():
                page = model_card([each for each in cards if each is not None], self.url)
                contents[PAGE] = page.encode()
            commit(self.files, place, contents, f"Add {card.name}")
        except Exception as error:  # the Hub has many errors of its own
            raise ZooError(f"zoo {self.url}: {card.name} cannot be written ({describe(error)})") from error

    def _may_write_page(self) -> bool:
        try:
            return MARK.encode() in self._head(f"{self.root}/{PAGE}", LARGEST_CARD)
        except FileNotFoundError:
            return True

    def weights(self, name: Name) -> Path:
        """Return the path of the weights of a network, in a zoo that is a folder."""
        return Path(self.root, str(name), WEIGHTS)

    def _name(self, path: str) -> str:
        return path.removesuffix(f"/{CARD}").removeprefix(self.root.rstrip("/")).strip("/")

    def _continue(self, card: Card, part: Path) -> None:
        """Append the missing rest of the weights to a partial file."""
        reason = "the connection was closed"
        try:
            source, start = self._open(
                f"{self.root}/{card.name}/{WEIGHTS}", part.stat().st_size if part.is_file() else 0
            )
            with source, part.open("ab" if start else "wb") as file:
                # One byte more than the card says is enough to know that it is another file.
                left = card.size + 1 - start
                while left > 0 and (chunk := source.read(min(CHUNK, left))):
                    file.write(chunk)
                    left -= len(chunk)
        except Exception as error:  # every kind of place has errors of its own
            reason = describe(error)
        kept = part.stat().st_size if part.is_file() else 0
        if kept < card.size:
            raise ZooError(
                f"zoo {self.url}: the download of {card.name} stopped at {kept:,} of {card.size:,} bytes "
                f"({reason}); try again to continue it"
            )

    def _open(self, path: str, start: int) -> tuple[BinaryIO, int]:
        """Open a file at a byte; at its beginning if the server cannot send a part of a file."""
        if start == 0:
            streamed = {"block_size": 0} if self.http else {}
            return self.files.open(path, "rb", **streamed), 0
        source = self.files.open(path, "rb")
        try:
            source.seek(start)
            source.read(1)
            source.seek(start)
        except ValueError:
            source.close()
            return self._open(path, 0)
        return source, start

    def _head(self, path: str, most: int) -> bytes:
        """Read a file; of one with more than so many bytes, one byte more than that."""
        # Without a size fsspec asks for it first, and takes every failure for a file that is not there.
        streamed = {"block_size": 0, "size": 1} if self.http else {}
        with self.files.open(path, "rb", **streamed) as source:
            parts, left = [], most + 1
            while left > 0 and (part := source.read(min(CHUNK, left))):
                parts.append(part)
                left -= len(part)
        return b"".join(parts)

    def _put(self, path: Path, remote: str) -> None:
        """Copy a file so that it appears only when complete; object stores do this by themselves."""
        if self.local:
            temporary = Path(f"{remote}.{os.getpid()}")
            shutil.copyfile(path, temporary)
            os.replace(temporary, remote)
        else:
            self.files.put_file(str(path), remote)

    def _write(self, remote: str, content: Any) -> None:
        data = _as_json(content)
        if self.local:
            write_bytes(Path(remote), data)
        else:
            self.files.pipe_file(remote, data)


def zoos(urls: Sequence[str] = ()) -> list[Zoo]:
    """Return the zoos to search, in order: those given, else those of SEGBENCH_ZOO (commas between), else ./zoo."""
    named = [url.strip() for url in os.environ.get("SEGBENCH_ZOO", "").split(",") if url.strip()]
    return [Zoo(url) for url in (*urls,) or named or ["zoo"]]


def offline() -> bool:
    """Return whether SEGBENCH_OFFLINE forbids downloads."""
    return os.environ.get("SEGBENCH_OFFLINE", "").lower() in ("1", "true", "yes")


def resolve(name: str, urls: Sequence[str] = ()) -> tuple[Path, Card]:
    """Return the checked weights file and the card of a network, from the first zoo that has it.

    A file in a folder is used in place; any other file is downloaded once, into the cache. Offline, only folders and
    the cache are searched.

    Args:
        name: dataset/architecture/defense/seed, with @version or the latest one.
        urls: the zoos; by default those of SEGBENCH_ZOO.

    Raises:
        ZooError: no zoo has the network, or its file is not the one on its card.
    """
    wanted = parse_name(name)
    for zoo in zoos(urls):
        found = _local(zoo, wanted) if zoo.local else _cached(zoo, wanted)
        if found is not None:
            return found
    raise _missing(name, urls)


def find_card(name: str, urls: Sequence[str] = ()) -> Card:
    """Return the card of a network from the first zoo that has it, without a download of its weights."""
    wanted = parse_name(name)
    for zoo in zoos(urls):
        place = cache_of(zoo) if offline() and not zoo.local else zoo
        version = wanted.version or place.latest(wanted.stem)
        card = place.card(Name(wanted.stem, version)) if version else None
        if card is not None:
            return card
    raise _missing(name, urls)


def export(weights: Path, card: Card, folder: Path) -> Path:
    """Copy the two files of a network into a folder, and return the path of the weights there."""
    target = folder / WEIGHTS
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{WEIGHTS}.{os.getpid()}"
    shutil.copyfile(weights, temporary)
    os.replace(temporary, target)
    write_json(folder / CARD, card.model_dump(mode="json"))
    return target


def intact(card: Card, weights: Path) -> bool:
    """Return whether a weights file is the one on a card."""
    return weights.is_file() and weights.stat().st_size == card.size and file_sha256(weights) == card.sha256


def cache_of(zoo: Zoo) -> Zoo:
    """Return the cache of a zoo: a folder of downloaded networks, which is itself a zoo."""
    return Zoo(str(cache_folder() / "zoo" / re.sub(r"[^A-Za-z0-9.-]+", "_", zoo.url)))


def _missing(name: str, urls: Sequence[str]) -> ZooError:
    places = ", ".join(zoo.url for zoo in zoos(urls))
    if offline():
        return ZooError(f"{name}: neither in a folder nor in the cache of {places}, and SEGBENCH_OFFLINE is set")
    return ZooError(f"{name}: not in {places}; `segbench zoo list` shows what is, SEGBENCH_ZOO names other zoos")


def _local(zoo: Zoo, wanted: Name) -> tuple[Path, Card] | None:
    name = Name(wanted.stem, wanted.version or zoo.latest(wanted.stem))
    card = zoo.card(name) if name.version else None
    if card is None:
        return None
    weights = zoo.weights(name)
    if not intact(card, weights):
        raise ZooError(f"{weights}: not the file that its card describes; delete its folder and add it again")
    return weights, card


def _cached(zoo: Zoo, wanted: Name) -> tuple[Path, Card] | None:
    """Return a network from the cache of a zoo; download it first if it is missing and the network may be used."""
    cache = cache_of(zoo)
    if offline():
        return _local(cache, wanted)
    version = wanted.version or zoo.latest(wanted.stem)
    name = Name(wanted.stem, version)
    if version is None:
        return None
    weights = cache.weights(name)
    weights.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(weights.parent / ".lock")
    acquire(lock, f"download of {name}", DOWNLOAD_PATIENCE)
    try:
        card = cache.card(name)
        if card is not None and intact(card, weights):
            return weights, card
        card = zoo.card(name)
        if card is None:
            return None
        zoo.fetch(card, weights)
        write_json(weights.with_name(CARD), card.model_dump(mode="json"))
    finally:
        lock.release()
    return weights, card


def _as_json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def _order(name: str) -> tuple[str, int]:
    parsed = parse_name(name)
    return parsed.stem, parsed.version or 0
