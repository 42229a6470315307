"""Attack and predict images that the caller holds as tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from segbench.attacks.base import BoundAttack
from segbench.attacks.tools.budget import check_budget
from segbench.attacks.tools.guard import guarded, prepared
from segbench.attacks.tools.noise import Generators, per_image
from segbench.components import specs
from segbench.config.network import Convention
from segbench.datasets.base import VOID
from segbench.errors import SegbenchError, describe
from segbench.evaluation.training_data import context_of_call
from segbench.memory import in_parts, out_of_memory
from segbench.networks.adapter import Adapter
from segbench.protocols.base import EvaluationProtocol
from segbench.torch_settings import defaults


@defaults()
def attack(
    model: nn.Module | Callable[[Tensor], Any],
    images: Tensor,
    masks: Tensor,
    attack: str,
    *,
    ignore_index: int = 255,
    generator: torch.Generator | Generators | None = None,
    class_pixels: Tensor | None = None,
    perturbation: Tensor | None = None,
) -> Tensor:
    """Return adversarial images (N, 3, H, W), after checking that they keep their budget.

    Images are attacked together, or in parts where memory does not suffice.

    Args:
        model: network, images in [0, 1] -> logits, or what holds them; see `docs/your-model.md`.
        images: (N, 3, H, W) in [0, 1].
        masks: (N, H, W), whole numbers of any type.
        attack: the attack with its options, such as "segpgd(eps=4/255)".
        ignore_index: label of void pixels.
        generator: source of the attack's randomness: one generator, or one for each image.
        class_pixels: (C,) number of training pixels of each class, which "sea" and "standard" weigh classes by. None
            counts the masks, with a warning.
        perturbation: (3, H, W), what "universal" adds. None fits it on these images, with a warning.

    Raises:
        SegbenchError: the attack or an option is not known, or images or masks are not what is said here.
    """
    bound = specs.bound("attack", attack).attack()
    given = {"class_pixels": class_pixels, "perturbation": perturbation}
    with _told("attack"):
        network = Adapter(model, Convention(), None)
        _labels_fit(network, images, masks, ignore_index)
        context = context_of_call(bound, network, images, masks, batch=len(images), ignore_index=ignore_index, **given)
        generators = per_image(generator, len(images))

        def attacked(part: slice) -> Tensor:
            return _attacked(bound, network, images[part], masks[part], ignore_index, generators[part], context)

        return torch.cat(in_parts(len(images), len(images), attacked, images.device))


@contextlib.contextmanager
def _told(where: str) -> Iterator[None]:
    """Turn what an attack says of its input, and the end of memory, into a sentence for the user."""
    try:
        yield
    except ValueError as error:
        raise SegbenchError(f"{where}: {error}") from error
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise SegbenchError(
            f"{where}: one image takes more memory than there is ({describe(error)[:200]}); cut it, as "
            "segbench.predict does with protocol='whole-v1(window=[512, 512])'"
        ) from error


def _attacked(
    bound: BoundAttack,
    network: nn.Module,
    images: Tensor,
    masks: Tensor,
    ignore_index: int,
    generators: Generators,
    context: Mapping[str, Any],
) -> Tensor:
    """Return adversarial images that keep their budget, and move the generators on; where it fails, they stay."""
    copies = {id(one): one.clone_state() for one in generators}  # one generator may stand for several images
    used = [copies[id(one)] for one in generators]
    allowed = bound.allowed(images, masks, ignore_index=ignore_index, generator=used)
    adversarial = bound(network, images, masks, ignore_index=ignore_index, generator=used, **context)
    check_budget(adversarial, images, bound.threat, allowed=allowed)
    for one, own in zip(generators, used, strict=True):
        one.set_state(own.get_state())
    return adversarial


def _labels_fit(network: nn.Module, images: Tensor, masks: Tensor, ignore_index: int) -> None:
    """See that masks hold no label beyond the classes of a network, which losses would stumble over.

    Raises:
        ValueError: they do, images and masks are not what an attack takes, or the network answers with values that are
            not finite.
    """
    with prepared({"model": network, "images": images, "masks": masks, "ignore_index": ignore_index}):
        with torch.no_grad():
            logits = network(images[:1])
        if not logits.isfinite().all():
            raise ValueError(
                "the network answers with values that are not finite, which no attack can follow; give a class that it "
                "does not know a low logit, such as -1e4"
            )
        count = logits.shape[1]
        highest = int(masks.masked_fill(masks == ignore_index, 0).max())
    if highest >= count:
        raise ValueError(
            f"masks hold the label {highest}, but the network has {count} classes, counted from 0; void is "
            f"{ignore_index} (ignore_index)"
        )


@defaults()
def predict(
    model: nn.Module,
    image: Tensor,
    *,
    protocol: str | EvaluationProtocol = "whole-v1",
    masks: Tensor | None = None,
    attack: str | BoundAttack | None = None,
    seed: int = 0,
    batch: int = 4,
    class_pixels: Tensor | None = None,
    perturbation: Tensor | None = None,
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
        batch: number of crops that are attacked and predicted at once; halved where memory does not suffice.
        class_pixels: (C,) number of training pixels of each class, which "sea" and "standard" weigh classes by. None
            counts the masks, with a warning.
        perturbation: (3, H, W) of a crop, what "universal" adds. None fits it on the crops, with a warning.

    Raises:
        SegbenchError: a name or an option is not known, the image or the masks are not what is said here, or an attack
            is given without masks.
    """
    for name, value in (("image", image), ("masks", masks)):
        if not isinstance(value, Tensor | None):
            raise SegbenchError(f"predict: {name} is a tensor, got {type(value).__name__}")
    if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        raise SegbenchError(f"predict: image is (3, height, width), got {tuple(image.shape)}")
    if image.dtype != torch.uint8 and not (image.is_floating_point() and image.min() >= 0 and image.max() <= 1):
        raise SegbenchError(
            f"predict: image is uint8, or float in [0, 1], got {image.dtype} from {image.min():g} to {image.max():g}; "
            "divide 0-255 values by 255"
        )
    if masks is not None and masks.shape != image.shape[1:]:
        raise SegbenchError(f"predict: masks is {tuple(image.shape[1:])} as the image, got {tuple(masks.shape)}")
    if attack is not None and masks is None:
        raise SegbenchError("predict: an attack needs masks, the labels that it leads away from")
    procedure: EvaluationProtocol = specs.bound("protocol", protocol).make() if isinstance(protocol, str) else protocol
    made = specs.bound("attack", attack).attack() if isinstance(attack, str) else attack
    given = {"class_pixels": class_pixels, "perturbation": perturbation}
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    labels = torch.full(image.shape[1:], VOID) if masks is None else masks
    crops = procedure.crops(image.cpu(), labels.cpu())
    network = procedure.network(model)
    generators = per_image(torch.Generator().manual_seed(seed), len(crops.images))
    with guarded(network, device), _told("predict"):
        context: dict[str, Any] = {}
        if made is not None:
            context = context_of_call(
                made, network, crops.images.to(device), crops.masks.to(device), batch=batch, ignore_index=VOID, **given
            )

        def predicted(part: slice) -> Tensor:
            images, masks = (own[part].to(device) for own in (crops.images, crops.masks))
            if made is not None:
                images = _attacked(made, network, images, masks, VOID, generators[part], context)
            return procedure.scores(model, images, attacked=made is not None and made.threat.access != "none")

        scores = in_parts(len(crops.images), batch, predicted, device)
    return procedure.merge(torch.cat(scores), crops).cpu()
