"""A walk through an object and all that it refers to, which hashes what it meets."""

from __future__ import annotations

import collections
import enum
import functools
import hashlib
import io
import logging
import re
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segbench.components.imports import GIVEN, local_source

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
        self.digest.update(tensor_bytes(value))

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


def tensor_bytes(value: Tensor) -> bytes:
    """Return the values of a tensor as bytes, row by row."""
    plain = value.detach().cpu().resolve_conj().resolve_neg()
    if plain.layout != torch.strided or plain.is_quantized:
        plain = plain.to_dense() if plain.layout != torch.strided else plain.int_repr()
    return plain.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _is_local(value: Any) -> bool:
    """Whether a class or function comes from outside the installed packages."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    if module is None:
        return True
    if getattr(module, "__file__", None) is None:
        return module.__name__ == "__main__" or module.__spec__ is None
    return local_source(module) is not None
