"""Disturbances of a whole image, such as weather: they are drawn before a protocol cuts the image into pieces.

A camera sees fog over a scene and not over each crop of it, and not over padding. Under a protocol that attacks the
image as one piece, nothing of this differs from an attack.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segbench.attacks.base import BoundAttack
from segbench.evaluation.batching import Pack
from segbench.protocols.base import EvaluationProtocol
from segbench.protocols.geometry import unit


def disturbed(
    attack: BoundAttack,
    network: nn.Module,
    pack: Pack,
    protocol: EvaluationProtocol,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Return the pieces of a pack, (K, 3, h, w), cut from images that were disturbed as a whole.

    Args:
        attack: an attack that uses nothing of the network.
        network: the network, which it is called with all the same.
        pack: the images.
        protocol: what cuts them.
        generators: one for each piece of the pack; an image takes that of its first piece.
    """
    made, first = [], 0
    for read in pack.reads:
        sample, own = read.sample, [generators[first]]
        whole = attack(network, unit(sample.image)[None], sample.mask.long()[None], generator=own)
        made.append(protocol.crops(whole[0], sample.mask).images)
        first += len(read.crops.images)
    return torch.cat(made).to(pack.images)
