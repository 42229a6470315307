"""Hashes of everything that a network from elsewhere is made of.

These are its parameters and buffers; its plain attributes, the values that its functions close over and the globals
that they name; the source of every module that it uses from outside the installed packages; and every file that was
read while it was built. An object that cannot be hashed is named, and results of such a network are not found again.
"""

from __future__ import annotations

import ast
import collections
import enum
import functools
import hashlib
import importlib
import io
import logging
import os
import re
import sys
import sysconfig
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segbench.datasets.tools.hashes import hash_files

PLACES = {"_name_or_path", "name_or_path", "_commit_hash"}
"""Attributes of library objects that say where something was loaded from, which does not change what it is."""
BOOKKEEPING = {
    *("training", "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "_is_full_backward_hook"),
    *("_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
    *("_forward_hooks_always_called", "_compiled_call_impl"),
}
"""Attributes of `nn.Module` that are hashed elsewhere, or do not change an output in eval mode."""

HOOKS = {
    *("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs"),
    *("_backward_hooks", "_backward_pre_hooks"),
}

MOST_OBJECTS = 1_000_000
GIVEN = "segbench_given_"
"""How the names of modules begin that are loaded from a file which the user named."""


Files = dict[Path, None]
"""Paths in the order in which they were read."""

_watches: list[tuple[int, Files]] = []
"""Who listens, by thread: other threads read images meanwhile."""
_read_at_import: dict[Path, Files] = {}
"""Files that were read while a module was imported, by its source: a module that is there is not imported again."""


@contextmanager
def watched() -> Iterator[Files]:
    """Collect the files outside the installed packages that this thread reads inside through Python's `open`."""
    _hook()
    files: Files = {}
    watch = (threading.get_ident(), files)
    _watches.append(watch)
    try:
        yield files
    finally:
        _watches[:] = [other for other in _watches if other is not watch]


@dataclass(frozen=True)
class Fingerprint:
    """What a network is made of.

    Attributes:
        hashes: hash of its state, its attributes, its code and the files that it was built from.
        uncovered: what could not be hashed, in words.
    """

    hashes: dict[str, str]
    uncovered: tuple[str, ...]


def fingerprint(
    network: nn.Module,
    modules: Iterable[types.ModuleType] = (),
    files: Iterable[Path] = (),
    roles: Mapping[Path, str] | None = None,
) -> Fingerprint:
    """Hash everything that a network is made of.

    Args:
        network: the network, wherever it comes from.
        modules: modules by which it was built.
        files: files that were read while it was built.
        roles: what files are for that the user named; they may have any name and place. Of others it counts where they
            lie among each other.
    """
    walk = Walk()
    try:
        walk.feed(network)
    except RecursionError:
        walk.uncovered.append("objects that are nested too deeply")
    read = dict.fromkeys(files)
    read.update(_used([*modules, *walk.modules]))
    hashes = {
        "state": state_sha256(network),
        "attributes": walk.digest.hexdigest(),
        "files": _of_files([path for path in read if path.is_file()], roles or {}),
    }
    return Fingerprint(hashes, tuple(dict.fromkeys(walk.uncovered)))


def state_sha256(network: Any) -> str:
    """Hash parameters and buffers by name, type, shape and value."""
    digest = hashlib.sha256()
    state = network.state_dict() if isinstance(network, nn.Module) else {}
    for name, value in sorted(state.items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(_bytes(value))
    return digest.hexdigest()


def networks_within(function: Callable[..., Any]) -> list[nn.Module]:
    """Return the networks that a function closes over, names as globals, or holds as attributes."""
    walk = Walk()
    walk.feed(function)
    inner = {id(own) for found in walk.networks for own in found.modules() if own is not found}
    return [found for found in walk.networks if id(found) not in inner]


class Walk:
    """A walk through an object and all that it refers to, which hashes what it meets."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.networks: list[nn.Module] = []
        self.modules: list[types.ModuleType] = []
        self.uncovered: list[str] = []
        self._met: dict[int, int] = {}
        self._held: list[Any] = []

    def feed(self, value: Any) -> None:
        """Hash a value and everything that it refers to."""
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | range):
            self._text(f"{type(value).__name__} {value!r}")
            return
        if len(self._met) > MOST_OBJECTS:
            self.uncovered.append(f"more than {MOST_OBJECTS:,} objects")
            return
        if id(value) in self._met:
            self._text(f"again {self._met[id(value)]}")
            return
        self._met[id(value)] = len(self._met)
        self._held.append(value)  # so that no other object gets its id
        for kinds, feed in self._kinds():
            if isinstance(value, kinds):
                feed(value)
                return
        self._object(value)

    def _kinds(self) -> Iterable[tuple[Any, Callable[[Any], None]]]:
        yield nn.Module, self._network
        yield Tensor, self._tensor
        yield (np.ndarray, np.generic), self._array
        yield (dict, types.MappingProxyType), self._mapping
        yield (list, tuple, collections.deque), self._sequence
        yield (set, frozenset), self._set
        yield enum.Enum, lambda value: self._text(f"{_name(type(value))}.{value.name}")
        yield PurePath, lambda value: self._text(f"path {value}")
        yield re.Pattern, lambda value: self._text(f"pattern {value.pattern!r} {value.flags}")
        yield (torch.dtype, torch.device, torch.memory_format, torch.layout), lambda value: self._text(str(value))
        yield torch.Generator, lambda value: self._tensor(value.get_state())
        yield types.FunctionType, self._function
        yield types.MethodType, lambda value: self._sequence((value.__func__, value.__self__))
        yield functools.partial, lambda value: self._sequence((value.func, value.args, value.keywords))
        yield (types.BuiltinFunctionType, types.MethodWrapperType), lambda value: self._text(value.__qualname__)
        yield types.ModuleType, self._module
        yield types.CodeType, self._code
        yield logging.Logger, lambda value: self._text(f"logger {value.name}")
        yield weakref.ReferenceType, lambda value: self.feed(value())
        yield type, self._class
        yield (staticmethod, classmethod), lambda value: self.feed(value.__func__)
        yield property, lambda value: self._sequence((value.fget, value.fset))

    def _text(self, text: str) -> None:
        self.digest.update(text.encode("utf-8", "surrogatepass") + b"\0")

    def _tensor(self, value: Tensor) -> None:
        self._text(f"tensor {value.dtype} {tuple(value.shape)}")
        self.digest.update(_bytes(value))

    def _array(self, value: Any) -> None:
        array = np.asarray(value)
        self._text(f"array {array.dtype} {array.shape}")
        if array.dtype.hasobject:
            self._sequence(array.ravel().tolist())
        else:
            self.digest.update(np.ascontiguousarray(array).tobytes())

    def _mapping(self, value: Mapping[Any, Any]) -> None:
        self._text(f"mapping {len(value)}")
        for key, item in value.items():
            if isinstance(key, str) and key in PLACES:
                continue
            self.feed(key)
            self.feed(item)

    def _sequence(self, value: Iterable[Any]) -> None:
        items = list(value)
        self._text(f"sequence {type(value).__name__} {len(items)}")
        for item in items:
            self.feed(item)

    def _set(self, value: Iterable[Any]) -> None:
        own = []
        for item in value:
            inner = Walk()
            inner.feed(item)
            own.append(inner.digest.hexdigest())
            self.uncovered += inner.uncovered
        self._text(f"set {sorted(own)}")

    def _network(self, network: nn.Module) -> None:
        self.networks.append(network)
        self._text(f"network {_name(type(network))}")
        if isinstance(network, torch.jit.ScriptModule):
            buffer = io.BytesIO()
            torch.jit.save(network, buffer)
            self.digest.update(buffer.getvalue())
            return
        if isinstance(network, torch.fx.GraphModule):
            self._text(network.code)
        else:
            self.feed(type(network))
        own = {name: value for name, value in vars(network).items() if name not in BOOKKEEPING}
        if isinstance(network, torch.fx.GraphModule):
            own = {name: value for name, value in own.items() if not name.startswith("_") and name != "graph"}
        for name in sorted(own):
            if name not in PLACES:
                self._text(name)
                # Hooks are numbered over all networks of the process.
                self.feed(list(own[name].values()) if name in HOOKS else own[name])
        for part in (network._parameters, network._buffers, network._modules):
            self._mapping(part)

    def _function(self, function: types.FunctionType) -> None:
        self._text(f"function {_name(function)}")
        self._from_module(function.__module__)
        if not _is_local(function):
            return
        self._code(function.__code__)
        self._sequence(_contents(cell) for cell in function.__closure__ or ())
        self._sequence((function.__defaults__, function.__kwdefaults__, vars(function)))
        names = sorted(_names(function.__code__) & set(function.__globals__) - {"__file__", "__name__"})
        self._mapping({name: function.__globals__[name] for name in names})

    def _code(self, code: types.CodeType) -> None:
        self._text(f"code {code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_flags}")
        self._sequence(code.co_consts)

    def _class(self, kind: type) -> None:
        self._text(f"class {_name(kind)}")
        self._from_module(kind.__module__)
        if not _is_local(kind):
            return
        for name, value in sorted(vars(kind).items()):
            if name != "_abc_impl" and (not (name.startswith("__") and name.endswith("__")) or callable(value)):
                self._text(name)
                self.feed(value)
        for base in kind.__bases__:
            self.feed(base)

    def _module(self, module: types.ModuleType) -> None:
        self._text(f"module {GIVEN if module.__name__.startswith(GIVEN) else module.__name__}")
        self._from_module(module.__name__)

    def _from_module(self, name: str | None) -> None:
        module = sys.modules.get(name or "")
        if module is not None:
            self.modules.append(module)

    def _object(self, value: Any) -> None:
        """Hash an object of another class by its class and attributes."""
        kind = type(value)
        self.feed(kind)
        slots = [name for base in kind.__mro__ for name in _slots(base) if hasattr(value, name)]
        attributes = {**{name: getattr(value, name) for name in slots}, **getattr(value, "__dict__", {})}
        attributes.pop("__weakref__", None)
        if attributes:
            self._mapping({name: attributes[name] for name in sorted(attributes)})
        elif kind is not object:
            self._opaque(value)

    def _opaque(self, value: Any) -> None:
        """Hash an object without attributes by its pickle-free text, or say that it cannot be covered."""
        kind = type(value)
        text = repr(value)
        if " at 0x" not in text and not text.startswith(f"<{_name(kind)} object"):
            self._text(f"{_name(kind)} {text}")
        elif kind.__dictoffset__ or _is_local(kind):
            self._text(f"an instance of {_name(kind)} without attributes")
        else:
            self.uncovered.append(f"an object of type {_name(kind)}")


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return "an empty cell"


def _names(code: types.CodeType) -> set[str]:
    """Return the global names that a function and the functions in it use."""
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return set(code.co_names).union(*(_names(one) for one in inner))


def _name(value: type | types.FunctionType) -> str:
    """Return the full name of a class or function; where a file lies that holds it does not count."""
    module = GIVEN if (value.__module__ or "").startswith(GIVEN) else value.__module__
    return f"{module}.{value.__qualname__}"


def _bytes(value: Tensor) -> bytes:
    plain = value.detach().cpu().resolve_conj().resolve_neg()
    if plain.layout != torch.strided or plain.is_quantized:
        plain = plain.to_dense() if plain.layout != torch.strided else plain.int_repr()
    return plain.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _of_files(paths: Sequence[Path], roles: Mapping[Path, str]) -> str:
    """Hash the contents of files, and what they are for or where they lie below the folder that holds them all."""
    others = [path.parent for path in paths if path not in roles]
    folder = os.path.commonpath(others) if others else ""
    names = [roles[path] if path in roles else os.path.relpath(path, folder) for path in paths]
    lines = sorted(f"{name} {content}" for name, content in zip(names, hash_files(paths), strict=True))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def files_of(module: types.ModuleType) -> Files:
    """Return the source of a module from outside the installed packages and what was read when it was imported."""
    source = local_source(module)
    return {} if source is None else {source: None, **_read_at_import.get(source, {})}


def forget(module: types.ModuleType) -> None:
    """Forget what was read when a module was imported, which is about to be imported anew."""
    _read_at_import.pop(local_source(module) or Path(), None)


def _used(start: Iterable[types.ModuleType]) -> Files:
    """Return the files of modules from outside the installed packages, and of all such modules that they use.

    What a source imports counts whether it was imported yet or not: functions may import when they are called.
    """
    found: Files = {}
    left = [(module.__name__, path) for module in start if (path := local_source(module)) is not None]
    while left:
        name, path = left.pop()
        if path in found:
            continue
        found.update({path: None, **_read_at_import.get(path, {})})
        module = sys.modules.get(name)
        own = module is not None and local_source(module) == path
        values = list(vars(module).values()) if own else []
        modules = [value.__name__ for value in values if isinstance(value, types.ModuleType)]
        owners = [owner for value in values if isinstance(owner := getattr(value, "__module__", None), str)]
        for other in (*_imported_names(name, path), *modules, *owners):
            source = _source(other, _root(name, path))
            if source is not None:
                left.append((other, source))
    return found


def _root(name: str, path: Path) -> Path:
    """Return the folder in which the top-level package of a module lies."""
    depth = 1 if name.startswith(GIVEN) else len(name.split(".")) + (path.stem == "__init__")
    return path.parents[min(depth, len(path.parents)) - 1]


def _source(name: str, root: Path) -> Path | None:
    """Return the file of a module from outside the installed packages, imported or not."""
    module = sys.modules.get(name)
    if module is not None:
        return local_source(module)
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    base = root.joinpath(*name.split("."))
    found = [path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()]
    return found[0].resolve() if found else None


def _imported_names(name: str, path: Path) -> Iterator[str]:
    """Yield the names of what a source imports, anywhere in it, whether a module or a member of one."""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    try:
        tree = ast.parse(path.read_bytes() if path.suffix == ".py" else b"")
    except (SyntaxError, ValueError):  # a file beside that nothing can import
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(filter(None, (above, node.module)))
            yield from _with_parents(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _is_local(value: Any) -> bool:
    """Whether a class or function comes from outside the installed packages."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    if module is None:
        return True
    if getattr(module, "__file__", None) is None:
        return module.__name__ == "__main__" or module.__spec__ is None
    return local_source(module) is not None


def local_source(module: types.ModuleType) -> Path | None:
    """Return the file of a module from outside the installed packages, or None."""
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if isinstance(file, str) and _outside(file) else None


def _outside(file: str) -> bool:
    """Whether a file lies outside of Python, its packages, segbench and the system's own folders."""
    path = os.path.realpath(file)
    return not any(path == root or path.startswith(root + os.sep) for root in _inside())


@functools.cache
def _inside() -> tuple[str, ...]:
    own = ("segbench", *(f"segbench.{name}" for name in ("attacks", "defenses", "model_zoo", "reports")))
    packages = [folder for name in own for folder in importlib.import_module(name).__path__]
    named = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    site = [entry for entry in sys.path if os.path.basename(entry) in ("site-packages", "dist-packages")]
    roots = [*packages, *named, *site, sys.prefix, "/proc", "/sys", "/dev"]
    return tuple(dict.fromkeys(os.path.realpath(root) for root in roots if root))


def _being_imported() -> list[Path] | None:
    """Return the sources of the modules from outside the installed packages whose import has not ended.

    None where what is read is no part of a network: installed packages read files when they are imported, once in a
    process, warnings quote lines of source files, and segbench hashes files itself.
    """
    found = []
    frame: types.FrameType | None = sys._getframe(2)
    while frame is not None:
        name, file = frame.f_globals.get("__name__"), frame.f_globals.get("__file__")
        if name in ("linecache", "segbench.files"):
            return None
        if frame.f_code.co_name == "<module>" and isinstance(file, str) and name != "__main__":
            if not _outside(file):
                return None
            found.append(Path(file).resolve())
        frame = frame.f_back
    return found


@functools.cache
def _hook() -> None:
    """Install the audit hook that tells watches of files; Python cannot remove one again."""

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if not _watches or event != "open":
            return
        name, _, flags = arguments
        if not isinstance(name, str | os.PathLike) or (isinstance(flags, int) and flags & os.O_ACCMODE != os.O_RDONLY):
            return
        path = os.fspath(name)
        if isinstance(path, str) and not path.endswith(".pyc") and _outside(path):
            mine = [files for thread, files in _watches if thread == threading.get_ident()]
            imports = _being_imported() if mine else None
            if imports is not None:
                for files in (*mine, *(_read_at_import.setdefault(source, {}) for source in imports)):
                    files[Path(os.path.realpath(path))] = None

    sys.addaudithook(heard)
