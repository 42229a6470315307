"""The order in memory of a network's weights and images."""

from __future__ import annotations

import torch
from torch import nn

NARROW = 16
"""Channels of a convolution whose gradient torch 2.14 writes behind its end; see `layout`."""


def layout(network: nn.Module, device: torch.device) -> torch.memory_format:
    """Return the memory format in which a network may take gradients of its weights: channels last where that is safe.

    On a processor, oneDNN's gradient of the weights of a narrow 1x1 convolution with a stride (fewer than 16 channels
    in, at most 16 out) writes behind its end in channels last, and the process dies sooner or later. A network with
    such a convolution gets the contiguous format.

    Args:
        network: the network.
        device: where it runs.
    """
    narrow = any(
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.in_channels < NARROW
        and module.out_channels <= NARROW
        for module in network.modules()
    )
    return torch.contiguous_format if narrow and device.type == "cpu" else torch.channels_last
