"""One image through a protocol, attacked or not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attacks.base import BoundAttack
from attacks.budget import check_budget
from attacks.guard import guarded
from segbench import specs
from segbench.errors import SegbenchError
from segbench.protocols.base import EvaluationProtocol
from segbench.protocols.geometry import VOID


def predict(
    model: nn.Module,
    image: Tensor,
    *,
    protocol: str | EvaluationProtocol = "whole-v1",
    masks: Tensor | None = None,
    attack: str | BoundAttack | None = None,
    seed: int = 0,
    batch: int = 4,
) -> Tensor:
    """Return the label map of one image under a protocol, after an attack if one is given.

    The model runs in eval mode where its parameters are, and is left as it was found. The label map has the image's
    size, unless the protocol scores at another: "sea-v2" at its crop, "ddcat-crop-v1" at a `size` of two numbers.

    Args:
        model: network, images (N, 3, H, W) in [0, 1] -> logits (N, C, H, W).
        image: (3, H, W), uint8 or float in [0, 1].
        protocol: a protocol, or its name with options such as "ddcat-crop-v1(crop=449)".
        masks: (H, W) labels, 255 where void; an attack needs them.
        attack: an attack with its options, or a short string such as "bim(steps=2)".
        seed: of the attack's randomness.
        batch: number of crops that are attacked and predicted at once.

    Raises:
        SegbenchError: a name or an option is not known, a shape is wrong, or an attack is given without masks.
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise SegbenchError(f"predict: image is (3, height, width), got {tuple(image.shape)}")
    if masks is not None and masks.shape != image.shape[1:]:
        raise SegbenchError(f"predict: masks is {tuple(image.shape[1:])} as the image, got {tuple(masks.shape)}")
    if attack is not None and masks is None:
        raise SegbenchError("predict: an attack needs masks, the labels that it leads away from")
    procedure: EvaluationProtocol = specs.bound("protocol", protocol).make() if isinstance(protocol, str) else protocol
    made = specs.bound("attack", attack).attack() if isinstance(attack, str) else attack
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    labels = torch.full(image.shape[1:], VOID) if masks is None else masks
    crops = procedure.crops(image.cpu(), labels.cpu())
    network = procedure.network(model)
    generator = torch.Generator().manual_seed(seed)
    scores = []
    with guarded(network, device):
        for start in range(0, len(crops.images), batch):
            images = crops.images[start : start + batch].to(device)
            if made is not None:
                own = crops.masks[start : start + batch].to(device)
                adversarial = made(network, images, own, generator=generator)
                check_budget(adversarial, images, made.threat)
                images = adversarial
            scores.append(procedure.scores(model, images, attacked=made is not None and made.threat.access != "none"))
    return procedure.merge(torch.cat(scores), crops).cpu()
