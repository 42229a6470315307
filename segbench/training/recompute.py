"""Activation checkpointing: less memory in training for more time, and the same weights bit for bit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from segbench.model_zoo.base import Segmenter


def recompute_blocks(network: nn.Module) -> int:
    """Let every block of a network's encoders keep its input only, and compute the rest again when needed.

    The blocks are those of each stage of an encoder, or the stage itself where it has none. Batch normalisation sees
    every batch twice then, but moves its running statistics once.

    Args:
        network: the training network of a defense; changed in place, its state dict is not.

    Returns:
        The number of blocks.
    """
    encoders: list[Any] = [m.trunk.encoder for m in network.modules() if isinstance(m, Segmenter)]
    blocks: list[nn.Module] = []
    for stage in (child for encoder in encoders for child in encoder.children()):
        inner = [block for block in stage.children() if any(block.children())]
        if isinstance(stage, nn.Sequential):
            blocks += inner
        elif any(stage.children()):
            blocks.append(stage)
    for block in blocks:
        block.forward = partial(_recomputed, block, block.forward)
    return len(blocks)


def _recomputed(block: nn.Module, forward: Any, features: Tensor) -> Any:
    contexts = partial(_contexts, block)
    return checkpoint(forward, features, use_reentrant=False, context_fn=contexts)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return contextlib.nullcontext(), _statistics_kept(block)


@contextlib.contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Run batch normalisation as before, without moving its running statistics again."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
