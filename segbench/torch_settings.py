"""What a program has set in torch for itself is put aside while segbench works, and given back."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator
from typing import Any

import torch

from segbench.attacks.tools.guard import seeded

SWITCHES = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")
"""Parts of `torch.backends` that say, from torch 2.9 on, whether float32 products are rounded."""


@contextlib.contextmanager
def put_aside() -> Iterator[None]:
    """Work as in a new process: with torch's own defaults, and without the program's autocast and rounding.

    Global generators of random numbers, too, are as they were when it ends.
    """
    with contextlib.ExitStack() as stack:
        gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
        stack.enter_context(torch.random.fork_rng(gpus))
        stack.enter_context(seeded(None, torch.device("cpu")))
        stack.enter_context(defaults())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(rounded(matrices=False, convolutions=True))
        yield


@contextlib.contextmanager
def defaults() -> Iterator[None]:
    """Take gradients, and make new tensors of float32 on the CPU, whatever the program has set or sets inside."""
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            if device.type == "cpu" and torch.get_default_device() != device:
                torch.set_default_device(None)


@contextlib.contextmanager
def rounded(*, matrices: bool, convolutions: bool) -> Iterator[None]:
    """Let a GPU round the factors of float32 products to TF32, or keep all their bits.

    torch has two ways to say it, an older one and one by `SWITCHES`. It refuses to read the older one once the two
    disagree, so that both are set, and both are given back.

    Args:
        matrices: of products of matrices.
        convolutions: of convolutions, which torch rounds by itself.
    """
    cudnn, switches = torch.backends.cudnn, _switches()
    before = {name: switch.fp32_precision for name, switch in switches.items()}
    in_matrices, in_convolutions = "highest", True
    with contextlib.suppress(RuntimeError):
        in_matrices = torch.get_float32_matmul_precision()
    with contextlib.suppress(RuntimeError):
        in_convolutions = cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if matrices else "highest")
    cudnn.allow_tf32 = convolutions
    for name, switch in switches.items():
        rounds = convolutions if name.startswith("cudnn") else matrices and name.endswith("matmul")
        switch.fp32_precision = "tf32" if rounds else "ieee"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(in_matrices)
        cudnn.allow_tf32 = in_convolutions
        for name, switch in switches.items():
            switch.fp32_precision = before[name]


def _switches() -> dict[str, Any]:
    """Return those of `SWITCHES` that this torch has."""
    found = {}
    for name in SWITCHES:
        with contextlib.suppress(AttributeError):
            switch: Any = operator.attrgetter(name)(torch.backends)
            if hasattr(switch, "fp32_precision"):
                found[name] = switch
    return found
