"""Where memory ends: how errors say it, how it is freed, and how work goes on with less at once."""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")

SIGNS = (
    "out of memory", "allocate memory", "not enough memory", "alloc_failed", "bad allocation", "resource_exhausted",
    "unable to find an engine", "unable to find a valid cudnn algorithm",
)  # fmt: skip
"""Parts of the messages of torch, cuBLAS, cuDNN, ONNX Runtime, XLA and the allocator of the CPU."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, of a GPU or of this machine."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    foreign = type(error).__module__.partition(".")[0] == "onnxruntime"
    return (foreign or isinstance(error, RuntimeError)) and any(sign in str(error).lower() for sign in SIGNS)


def in_parts(
    total: int,
    most: int,
    work: Callable[[slice], T],
    device: torch.device,
    learnt: Callable[[int], None] = lambda most: None,
) -> list[T]:
    """Do some work on as many things at once as fit, and return what it gave, in order.

    Args:
        total: number of things.
        most: number to begin with; halved where memory does not suffice.
        work: does the things of a slice; it is called again with fewer where memory did not suffice.
        device: whose memory it takes.
        learnt: hears of every smaller number.

    Raises:
        Exception: what `work` raised for one thing alone, or not for want of memory.
    """
    done: list[T] = []
    first = 0
    while first < total:
        part = slice(first, min(first + most, total))
        try:
            done.append(work(part))
            first = part.stop
            continue
        except Exception as error:  # torch, its libraries and networks of others say it in many ways
            count = part.stop - part.start
            if count == 1 or not out_of_memory(error):
                raise
            reason = error
        # Here, because while an error is handled, its traceback keeps the tensors that took the memory.
        release(reason, device)
        most = count // 2
        learnt(most)
    return done


def release(error: BaseException, device: torch.device) -> None:
    """Free what a lack of memory left behind: an error's tracebacks keep frames, and these keep tensors."""
    left, seen = [error], set[int]()
    while left:
        own = left.pop()
        seen.add(id(own))
        own.__traceback__ = None
        left += [other for other in (own.__cause__, own.__context__) if other is not None and id(other) not in seen]
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
