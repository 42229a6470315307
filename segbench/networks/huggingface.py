"""Networks of semantic segmentation of transformers: those that classify pixels, and those that classify masks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from segbench.errors import SegbenchError, failing
from segbench.model_zoo.base import ModelError
from segbench.model_zoo.weights import read_state
from segbench.networks.libraries import IMAGENET
from segbench.networks.loaded import Loaded, with_weights
from segbench.networks.mask_classes import SCORES, MaskClassifier
from segbench.networks.processors import Processor, read_processor

MASKS = ("maskformer", "mask2former", "oneformer", "eomt", "eomt_dinov3")
"""Types of networks that classify masks."""
PROMPTED = (
    *("sam", "sam2", "sam3", "sam3_tracker", "sam3_lite_text", "sam_hq", "edgetam", "clipseg", "seggpt"),
    *("groupvit", "owlvit", "owlv2", "grounding-dino", "mm-grounding-dino", "omdet-turbo"),
)
"""Types of networks that are told what to look for."""
VIDEO = ("timesformer", "vivit", "vjepa2")
"""Types of networks of video whose name does not say it."""
MASK2FORMER_SIZE = (384, 384)
"""Size to which the library resizes mask logits of Mask2Former, whatever the image's size is."""
SAID = ("model_type", "id2label", "label2id", "architectures", "transformers_version")
"""What a configuration says that its origin says elsewhere."""
PLACES = ("_name_or_path", "auto_map", "dtype", "torch_dtype")
"""What it says, in any of its parts, of where and how it was loaded."""
PRETRAINED = "use_pretrained_backbone"
"""The option that has weights of a backbone fetched from a hub."""
TASK = "the task is semantic"
"""What OneFormer is told."""


def from_hf(rest: str, weights: str | None, num_classes: int | None, incomplete: bool) -> Loaded:
    """Load a network of transformers from ORG/NAME or a folder; `incomplete` accepts weights that lack a part.

    Raises:
        SegbenchError: it cannot be loaded, lacks weights, or is no network of semantic segmentation.
    """
    try:
        import transformers
    except ImportError as error:
        raise SegbenchError("hf: networks need transformers: pip install 'segbench[hf]'") from error
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # It warns of missing keys, which are an error here.
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    notes: list[str] = []
    with failing(f"hf:{rest} cannot be loaded"):
        stated, _ = transformers.PretrainedConfig.get_config_dict(rest)
        _refuse_others(rest, stated)
        masks = stated.get("model_type") in MASKS
        kind = (
            transformers.AutoModelForUniversalSegmentation if masks else transformers.AutoModelForSemanticSegmentation
        )
        if weights is None:
            network, told = kind.from_pretrained(rest, dtype=torch.float32, output_loading_info=True)
            lacking = [*told["missing_keys"], *(str(key[0]) for key in told.get("mismatched_keys", ()))]
            if lacking:
                text = f"the weights lack {len(lacking)} of its tensors: {', '.join(sorted(lacking)[:4])}"
                if not incomplete:
                    raise SegbenchError(
                        f"hf:{rest}: {text}; they would be random numbers: give a checkpoint of the whole network, or "
                        "pass --incomplete (in a matrix: incomplete: true) if that is meant"
                    )
                notes.append(f"{text}; they are random numbers")
        else:
            config = transformers.AutoConfig.from_pretrained(rest)
            network = kind.from_config(config)  # type: ignore[no-untyped-call]
    labels = getattr(network.config, "id2label", None) or {}
    names = tuple(str(labels[key]) for key in sorted(labels))
    loaded = Loaded(
        network,
        IMAGENET,
        {"hf": type(network).__name__},
        notes=tuple(notes),
        class_names=names,
        architecture=f"hf:{network.config.model_type}",
        config=_described(network.config),
    )
    return _as_it_is_fed(rest, _with_weights(loaded, weights))


def from_config(
    kind: str, options: Mapping[str, Any], weights: str | None, task: Tensor | None, window: int | None
) -> Loaded:
    """Build a network of transformers from the options of its configuration; nothing is fetched from a hub.

    Args:
        kind: the type of the network, such as "segformer".
        options: what a `Loaded` of this kind has as its `config`.
        weights: file of weights; None for random ones.
        task: tokens (1, L) of the task that it is told; None for a network that is told none.
        window: side of the windows that it is shown images in; None for whole images.

    Raises:
        SegbenchError: there is no such network, it cannot be built, or the weights do not fit.
    """
    import transformers

    masks = kind in MASKS
    with failing(f"hf:{kind} cannot be built"):
        config = transformers.AutoConfig.for_model(kind, **options)
        family = (
            transformers.AutoModelForUniversalSegmentation if masks else transformers.AutoModelForSemanticSegmentation
        )
        network: Any = family.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
    loaded = _with_weights(Loaded(network, IMAGENET, {"hf": type(network).__name__}), weights)
    return loaded._replace(network=_of_masks(loaded.network, task, window)) if masks else loaded


def _with_weights(loaded: Loaded, weights: str | None) -> Loaded:
    """Load weights into a network; their keys are its own, or those under which its library saves it."""
    try:
        return with_weights(loaded, weights)
    except ModelError:
        network: Any = loaded.network
        state = read_state(str(weights)).tensors
        made, told = type(network).from_pretrained(
            None,
            config=network.config,
            state_dict=state,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        if any(told[f"{what}_keys"] for what in ("missing", "unexpected", "mismatched")):
            raise
        return loaded._replace(network=made.eval(), file=weights)


def _described(config: Any) -> dict[str, Any]:
    """Return the options of a configuration that make the same network again, without names and places."""
    stated = json.loads(json.dumps(config.to_diff_dict()))
    options = {key: value for key, value in stated.items() if key not in SAID}
    described: dict[str, Any] = _without_places({**options, "num_labels": config.num_labels})
    return described


def _without_places(value: Any) -> Any:
    """Return options without places, and with backbones whose weights would not be loaded."""
    if isinstance(value, Mapping):
        own = {key: inner for key, inner in value.items() if key not in PLACES}
        return {key: False if key == PRETRAINED else _without_places(inner) for key, inner in own.items()}
    return [_without_places(inner) for inner in value] if isinstance(value, list) else value


def _refuse_others(rest: str, stated: Mapping[str, Any]) -> None:
    """Raise an error if a configuration is of a network that does not give one class to every pixel of an image.

    Raises:
        SegbenchError: it is one of video, one that is told what to look for, or of another task.
    """
    from transformers.models.auto import modeling_auto

    kind = str(stated.get("model_type", ""))
    names = [str(name) for name in stated.get("architectures") or ()]
    pixels = modeling_auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES
    what = f"hf:{rest}: {names[0] if names else kind} is"
    other = f"segbench evaluates networks that give each pixel of an image a class ({', '.join((*pixels, *MASKS))})"
    if kind in VIDEO or any("vid" in name.lower() for name in (kind, *names)):
        raise SegbenchError(f"{what} a network of video; {other}")
    if kind.replace("_video", "") in PROMPTED:
        raise SegbenchError(f"{what} told by a prompt what to look for; {other}")
    if kind and kind not in (*pixels, *MASKS):
        raise SegbenchError(f"{what} no network of semantic segmentation; {other}")


def _as_it_is_fed(rest: str, loaded: Loaded) -> Loaded:
    """Add what the processor and the configuration say of the input, and make a mask classifier one of pixels."""
    notes = list(loaded.notes)
    try:
        told = read_processor(rest)
    except (OSError, ValueError):
        notes.append(f"it has no description of its input; {IMAGENET.text} is taken")
        told = Processor(IMAGENET)
    if told.reduced:
        notes.append("it learned with label 0 of the masks left out: its first channel is label 1")
    network: Any = loaded.network
    config = network.config
    changes = _sizes(config, told)
    convention = told.convention.model_copy(update=changes)
    masks = config.model_type in MASKS
    window = _side(config) if config.model_type.startswith("eomt") and told.split else None
    if window is not None:
        notes.append(f"images are resized to a short side of {window} and shown in windows, as its processor says")
    elif convention.size is not None:
        height, width = convention.size
        notes.append(f"images are resized to {height}x{width} and logits back, because it takes no other size")
    elif told.resizing is not None:
        notes.append(
            f"its processor takes images and {told.resizing}; segbench shows them at their own size, unless the "
            "convention states another one, such as size: [512, 512]"
        )
    if not masks:
        return loaded._replace(convention=convention, notes=tuple(notes))
    notes.append(
        "it classifies masks: the score of a class at a pixel is the sum over queries of class times mask probability, "
        "and the score's logarithm is taken as the logit"
    )
    task = _task_tokens(rest, config) if config.model_type == "oneformer" else None
    pixels = _of_masks(network, task, window)
    identity = {**loaded.identity, "scores": SCORES}
    return loaded._replace(network=pixels, convention=convention, identity=identity, notes=tuple(notes))


def _of_masks(network: Any, task: Tensor | None, window: int | None) -> MaskClassifier:
    """Make a network that classifies masks one that classifies pixels."""
    config = network.config
    if config.model_type == "maskformer":  # else the library asks for states of the decoder that it does not keep
        config.use_auxiliary_loss = False
    size = MASK2FORMER_SIZE if config.model_type == "mask2former" else None
    if config.model_type.startswith("eomt"):
        size = (_side(config),) * 2
    return MaskClassifier(network, masks_size=size, task=task, window=window)


def _sizes(config: Any, told: Processor) -> dict[str, Any]:
    """Return what a convention says of sizes: the one that a network can only take, or what sizes are multiples of."""
    kind = config.model_type
    if kind == "data2vec-vision" or (kind.startswith("eomt") and not told.split):
        return {"size": (_side(config),) * 2}
    if kind == "dpt":
        stated = told.size or {}
        return {"size": (stated["height"], stated["width"]) if "height" in stated else (_side(config),) * 2}
    beits: list[Any] = [config, getattr(config, "backbone_config", None)]
    for one in beits:
        if getattr(one, "model_type", None) == "beit":
            return {"multiple": int(one.patch_size)}  # it would leave out what remains
    return {"multiple": told.divisor} if kind in MASKS else {}


def _side(config: Any) -> int:
    size = config.image_size
    return int(size if isinstance(size, int) else size[0])


def _task_tokens(rest: str, config: Any) -> Tensor:
    """Return the tokens (1, L) that tell OneFormer its task, 0 where the text has ended.

    Raises:
        SegbenchError: there is no tokenizer beside the weights.
    """
    import transformers

    with failing(f"hf:{rest}: its tokenizer cannot be read"):
        tokenizer = transformers.CLIPTokenizer.from_pretrained(rest)
        length = config.task_seq_len
        told = tokenizer([TASK], padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    tokens: Tensor = told["input_ids"] * told["attention_mask"]
    if tokenizer.decode(told["input_ids"][0], skip_special_tokens=True).strip() != TASK:
        raise SegbenchError(
            f"hf:{rest}: OneFormer is told its task as words, and there is no tokenizer beside its weights that knows "
            f"those of {TASK!r}; add its vocab.json and merges.txt"
        )
    return tokens.float()
