"""Fixtures that every package's tests share, and a GPU that is pretended."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

GPU = torch.device("cuda", 0)
aten = torch.ops.aten
MOVING = (aten._to_copy, aten.copy_, aten.lift_fresh)
INDEXING = (aten.index, aten.index_put, aten.index_put_)
WAITING = (aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.bincount, aten._unique2)
"""What a GPU has to be done for, because the size or the value of the result goes to the host."""

torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed torch before a test and its fixtures: a check may refuse one network of random weights and not another."""
    torch.manual_seed(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images that lies beside the repository, or where SEGBENCH_TEST_DATA says."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SEGBENCH_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set SEGBENCH_TEST_DATA to their folder")
    return folder


class OnGpu(Tensor):
    """A tensor that says that it is on a GPU; its values lie in `host`, and to torch's own code it has none."""

    host: Tensor
    device, is_cuda, is_meta = (property(lambda own, said=said: said) for said in (GPU, True, False))
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, host: Tensor) -> OnGpu:
        shape = torch.empty_strided(host.shape, host.stride(), dtype=host.dtype, device="meta")
        own: OnGpu = Tensor._make_subclass(cls, shape, False)
        own.host = host
        return own

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with PretendedGpu():
            return func(*args, **(kwargs or {}))

    def __deepcopy__(self, memo: dict[int, Any]) -> OnGpu:
        own = OnGpu(self.host.clone()).requires_grad_(self.requires_grad)
        own.__dict__.update(_is_param=getattr(self, "_is_param", False))
        memo[id(self)] = own
        return own

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(_moved(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_moved(index), value)

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def tolist(self) -> Any:
        return self.cpu().tolist()


def _moved(index: Any) -> Any:
    """Return an index whose lists are tensors on the GPU, as torch makes them."""
    if isinstance(index, tuple):
        return tuple(map(_moved, index))
    return torch.tensor(index).to(GPU) if isinstance(index, list) else index


class PretendedGpu(TorchDispatchMode):
    """Computes on the CPU what is asked of a GPU, refuses tensors of both, and counts what waits for the GPU.

    Attributes:
        waits: how often each operation would have waited until the GPU is done.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        asked, kind = kwargs.get("device"), func.overloadpacket
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        ours = [own for own in tensors if isinstance(own, OnGpu)]
        decisive = tensors[:1] if kind is aten.copy_ else tensors
        there = any(isinstance(own, OnGpu) for own in decisive)
        if asked is not None:
            kwargs["device"], there = torch.device("cpu"), torch.device(asked).type != "cpu"
        beside = [tuple(own.shape) for own in tensors if own.dim() and not isinstance(own, OnGpu)]
        indexed = kind is aten.index and isinstance(args[0], OnGpu)
        if kind in MOVING:
            self.waits["copy"] += len({isinstance(own, OnGpu) for own in tensors} | {there}) > 1 and not (
                kwargs.get("non_blocking") or (kind is aten.copy_ and args[2:] == (True,))
            )
        elif ours and beside and not indexed:
            raise RuntimeError(f"{func}: tensors are on {GPU} and, of {beside}, on the cpu")
        elif ours:
            masks = kind in INDEXING and any(own is not None and own.dtype == torch.bool for own in args[1])
            filled = masks and kind is not aten.index and args[2].numel() == 1
            self.waits[str(kind)] += kind in WAITING or (masks and not filled)
        args_there, kwargs_there = tree_map_only(OnGpu, lambda own: own.host, (args, kwargs))
        found = func(*args_there, **kwargs_there)
        known = {id(own.host): own for own in ours}
        if not there or id(found) in known:  # an operation in place
            return known.get(id(found), found)
        return tree_map_only(Tensor, lambda own: known.get(id(own)) or OnGpu(own), found)


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGpu]:
    """A GPU that computes on the CPU, as long as it is entered: networks and tensors go to "cuda:0"."""
    moved, generator = nn.Module.to, torch.Generator()
    there: dict[str, Any] = {
        "_lazy_init": None,
        "set_rng_state": None,
        "empty_cache": None,
        "reset_peak_memory_stats": None,
        "get_rng_state": generator.get_state(),
        "current_device": 0,
        "mem_get_info": (1 << 30, 1 << 30),
        "memory_reserved": 0,
        "memory_allocated": 0,
        "max_memory_allocated": 1 << 20,
        "get_device_name": "a pretended GPU",
    }
    for name, answer in there.items():
        monkeypatch.setattr(torch.cuda, name, lambda *args, answer=answer: answer)
    monkeypatch.setattr(torch.cuda, "default_generators", (generator,))
    monkeypatch.setattr(Tensor, "pin_memory", lambda own: own)

    def to(network: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        if not any(own == GPU for own in args):
            return moved(network, *args, **kwargs)
        moved(network, **kwargs)
        for module in network.modules():
            for name, own in module._parameters.items():
                if own is not None:
                    module._parameters[name] = nn.Parameter(OnGpu(own.detach()), requires_grad=own.requires_grad)
            module._buffers.update({name: OnGpu(own) for name, own in module._buffers.items() if own is not None})
        return network

    monkeypatch.setattr(nn.Module, "to", to)
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor makes a tensor on the host, and copies it
    yield PretendedGpu()
    torch._C._set_only_lift_cpu_tensors(before)
