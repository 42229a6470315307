"""Networks of semantic segmentation of transformers: those that classify pixels, and those that classify masks."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segbench.errors import SegbenchError, failing
from segbench.files import is_file
from segbench.model_zoo.base import ModelError
from segbench.model_zoo.weights import read_state
from segbench.networks.families import MASKS, refuse_others
from segbench.networks.libraries import IMAGENET
from segbench.networks.loaded import Loaded, with_weights
from segbench.networks.mask_classes import SCORES, MaskClassifier
from segbench.networks.processors import Processor, read_processor

MASK2FORMER_SIZE = (384, 384)
"""Size to which the library resizes mask logits of Mask2Former, whatever the image's size is."""
SAID = ("model_type", "id2label", "label2id", "architectures", "transformers_version")
"""What a configuration says that its origin says elsewhere."""
PLACES = ("_name_or_path", "auto_map", "dtype", "torch_dtype")
"""What it says, in any of its parts, of where and how it was loaded."""
PRETRAINED = "use_pretrained_backbone"
"""The option that has weights of a backbone fetched from a hub."""
SILENT = ("auxiliary_head.", "neck.fusion_stage.layers.0.residual_layer1.")
"""Parts that have no say in the answer, and that published checkpoints may lack: the second is DPT's."""
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""Files that say how images become input."""
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
    folder = Path(rest)
    if folder.is_file() or (not folder.is_dir() and len(folder.parts) > 2):
        raise SegbenchError(f"hf:{rest}: there is no such folder; give the folder that holds config.json, or ORG/NAME")
    if folder.is_dir() and not is_file(folder / "config.json"):
        raise SegbenchError(f"hf:{rest}: holds no config.json; give a folder that save_pretrained has written")
    notes: tuple[str, ...] = ()
    with failing(f"hf:{rest} cannot be loaded"):
        stated, _ = transformers.PretrainedConfig.get_config_dict(rest)
        refuse_others(f"hf:{rest}", stated)
        kind = _auto_class(str(stated["model_type"]))
        if weights is None:
            network, notes = _with_own_weights(kind, rest, incomplete)
        else:
            network = kind.from_config(transformers.AutoConfig.from_pretrained(rest))
    labels = getattr(network.config, "id2label", None) or {}
    names = tuple(str(labels[key]) for key in sorted(labels))
    loaded = Loaded(
        network,
        IMAGENET,
        {"hf": type(network).__name__},
        notes=notes,
        class_names=names,
        architecture=f"hf:{network.config.model_type}",
        config=_described(network.config),
    )
    return _as_it_is_fed(rest, _with_weights(loaded, weights))


def _auto_class(model_type: str) -> Any:
    """Return what loads and builds networks of a type."""
    import transformers

    if model_type in MASKS:
        return transformers.AutoModelForUniversalSegmentation
    return transformers.AutoModelForSemanticSegmentation


def _with_own_weights(kind: Any, rest: str, incomplete: bool) -> tuple[Any, tuple[str, ...]]:
    """Return a network with the weights of its folder, and what is to be said of them.

    Raises:
        SegbenchError: a part is missing or of another shape and `incomplete` is not given, or the file holds code.
    """
    try:
        network, told = kind.from_pretrained(
            rest, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except pickle.UnpicklingError as error:
        raise SegbenchError(
            f"hf:{rest}: its weights are a pickle that holds more than tensors, and may run code; ask for safetensors"
        ) from error
    notes = []
    lacking = sorted(key for key in told["missing_keys"] if not key.startswith(SILENT))
    lacking += [f"{key} is {_by(found)}, not {_by(own)}" for key, found, own in sorted(told["mismatched_keys"])]
    if lacking:
        text = f"the weights lack {len(lacking)} of its tensors: {', '.join(lacking[:4])}"
        if not incomplete:
            raise SegbenchError(
                f"hf:{rest}: {text}; they would be random numbers: give a checkpoint of the whole network, or "
                "pass --incomplete (in a matrix: incomplete: true) if that is meant"
            )
        notes.append(f"{text}; they are random numbers")
    if surplus := sorted(told["unexpected_keys"]):
        notes.append(f"the weights hold {len(surplus)} tensors that it does not have: {', '.join(surplus[:4])}")
    return network, tuple(notes)


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


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

    with failing(f"hf:{kind} cannot be built"):
        config = transformers.AutoConfig.for_model(kind, **options)
        network: Any = _auto_class(kind).from_config(config, trust_remote_code=False)
    loaded = _with_weights(Loaded(network, IMAGENET, {"hf": type(network).__name__}), weights)
    return loaded._replace(network=_of_masks(loaded.network, task, window)) if kind in MASKS else loaded


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


def _as_it_is_fed(rest: str, loaded: Loaded) -> Loaded:
    """Add what the processor and the configuration say of the input, and make a mask classifier one of pixels."""
    notes = list(loaded.notes)
    told = _processor(rest)
    if told is None:
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


def _processor(rest: str) -> Processor | None:
    """Return what the image processor says; None where there is none.

    Raises:
        SegbenchError: its description is damaged.
    """
    with failing(f"hf:{rest}: the description of its input cannot be read"):
        try:
            return read_processor(rest)
        except OSError:
            if any(is_file(Path(rest) / name) for name in PROCESSORS):
                raise
            return None


def _of_masks(network: Any, task: Tensor | None, window: int | None) -> MaskClassifier:
    """Make a network that classifies masks one that classifies pixels."""
    config = network.config
    if config.model_type in ("maskformer", "mask2former"):  # else the library asks for states that it does not keep
        config.use_auxiliary_loss = config.model_type == "mask2former"
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
    divisor = told.divisor if kind in MASKS else 1
    return {"multiple": 1 if kind.startswith("eomt") else math.lcm(divisor, _patch(config))}


def _patch(config: Any) -> int:
    """Return the side of the patches of a plain ViT, which leaves out what is no whole patch; 1 for other networks."""
    parts: list[Any] = [config, getattr(config, "backbone_config", None)]
    for one in parts:
        if hasattr(one, "patch_size") and hasattr(one, "num_hidden_layers") and not hasattr(one, "depths"):
            return int(one.patch_size if isinstance(one.patch_size, int) else one.patch_size[0])
    return 1


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
