"""Tiny networks of every family of transformers, with random weights, in folders as `save_pretrained` writes them.

`python tiny_transformers.py` writes one folder for each family, for the classes of the digits scenes. They stand for
published checkpoints, which have the same files and are loaded in the same way: `segbench eval hf:mask2former ...`.
"""

import json
from pathlib import Path
from typing import Any

import torch
import transformers

FAMILIES = (
    *("segformer", "upernet-swin", "upernet-convnext", "upernet-beit", "beit", "data2vec", "dpt"),
    *("dpt-hybrid", "mobilenet_v2", "mobilevit", "maskformer", "mask2former", "oneformer", "eomt"),
)
NAMES = ("background", *"01234")
CLASSES = len(NAMES)
VIT = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 32, "patch_size": 8}
STAGES = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
HEAD = {"use_auxiliary_head": False, "num_labels": CLASSES}
MASKS = {
    **{"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 16},
    **{"dim_feedforward": 16, "encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "num_queries": 6},
}
WORDS = ("the", "task", "is", "semantic")


def _upernet(backbone: Any) -> Any:
    config = transformers.UperNetConfig(backbone_config=backbone, hidden_size=8, pool_scales=[1, 2], **HEAD)
    return transformers.UperNetForSemanticSegmentation(config)


def _swin() -> Any:
    sizes = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4, "image_size": 32}
    return transformers.SwinConfig(**sizes, **STAGES)


def _beit(**changes: Any) -> Any:
    return transformers.BeitConfig(**VIT, num_hidden_layers=4, out_indices=[1, 2, 3, 4], pool_scales=[1, 2], **changes)


def _network(family: str) -> Any:
    if family == "segformer":
        sizes = {"hidden_sizes": [8] * 4, "depths": [1] * 4, "num_attention_heads": [1] * 4, "decoder_hidden_size": 8}
        return transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(num_labels=CLASSES, **sizes))
    if family == "upernet-swin":
        return _upernet(_swin())
    if family == "upernet-convnext":
        return _upernet(transformers.ConvNextConfig(hidden_sizes=[8] * 4, depths=[1] * 4, **STAGES))
    if family == "upernet-beit":
        return _upernet(_beit(add_fpn=True, reshape_hidden_states=True))
    if family == "beit":
        return transformers.BeitForSemanticSegmentation(_beit(use_relative_position_bias=True, **HEAD))
    if family == "data2vec":
        config = transformers.Data2VecVisionConfig(
            **VIT, num_hidden_layers=4, out_indices=[1, 2, 3, 4], use_relative_position_bias=True, **HEAD
        )
        return transformers.Data2VecVisionForSemanticSegmentation(config)
    if family == "dpt":
        sizes = {"backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8}
        return transformers.DPTForSemanticSegmentation(
            transformers.DPTConfig(**VIT, num_hidden_layers=4, **sizes, **HEAD)
        )
    if family == "dpt-hybrid":
        stages = {"hidden_sizes": [8, 16, 32], "depths": [1, 1, 1], "out_features": ["stage1", "stage2", "stage3"]}
        backbone = transformers.BitConfig(embedding_size=8, num_groups=4, global_padding="same", **stages)
        sizes = {"neck_hidden_sizes": [8, 16, 8, 8], "fusion_hidden_size": 8, "backbone_featmap_shape": [1, 32, 2, 2]}
        joined = {"is_hybrid": True, "backbone_config": backbone, "neck_ignore_stages": [0, 1]}
        joined |= {"num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3]}
        config = transformers.DPTConfig(**{**VIT, "patch_size": 16}, **joined, **sizes, **HEAD)
        return transformers.DPTForSemanticSegmentation(config)
    if family == "mobilenet_v2":
        sizes = {"depth_multiplier": 0.25, "depth_divisible_by": 4, "min_depth": 4}
        return transformers.MobileNetV2ForSemanticSegmentation(
            transformers.MobileNetV2Config(num_labels=CLASSES, **sizes)
        )
    if family == "mobilevit":
        sizes = {
            "hidden_sizes": [8] * 3,
            "neck_hidden_sizes": [8] * 7,
            "num_attention_heads": 2,
            "aspp_out_channels": 8,
        }
        return transformers.MobileViTForSemanticSegmentation(transformers.MobileViTConfig(num_labels=CLASSES, **sizes))
    if family == "maskformer":
        decoder = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_queries": 6}
        decoder |= {"decoder_attention_heads": 2, "decoder_ffn_dim": 16}
        config = transformers.MaskFormerConfig(
            backbone_config=_swin(),
            decoder_config=transformers.DetrConfig(**decoder),
            fpn_feature_size=32,
            mask_feature_size=32,
            num_labels=CLASSES,
        )
        return transformers.MaskFormerForInstanceSegmentation(config)
    if family == "mask2former":
        config = transformers.Mask2FormerConfig(backbone_config=_swin(), num_labels=CLASSES, **MASKS)
        return transformers.Mask2FormerForUniversalSegmentation(config)
    if family == "oneformer":
        sizes = {key: value for key, value in MASKS.items() if "feature_size" not in key}
        text = {"text_encoder_width": 16, "text_encoder_num_layers": 1, "text_encoder_vocab_size": 64}
        config = transformers.OneFormerConfig(
            backbone_config=_swin(), num_labels=CLASSES, conv_dim=32, mask_dim=32, **sizes, **text
        )
        return transformers.OneFormerForUniversalSegmentation(config)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3, "num_blocks": 1, "num_queries": 6}
    config = transformers.EomtConfig(image_size=32, patch_size=8, num_upscale_blocks=1, num_labels=CLASSES, **sizes)
    return transformers.EomtForUniversalSegmentation(config)


def _processor(family: str) -> dict[str, Any]:
    """What its preprocessor_config.json says, as published checkpoints say it."""
    normalised = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_std": [0.25, 0.3, 0.2]}
    normalised["image_mean"] = [0.5, 0.4, 0.3]
    square = {"do_resize": True, "size": {"height": 32, "width": 32}, "resample": 2}
    kinds: dict[str, dict[str, Any]] = {
        "beit": {"image_processor_type": "BeitImageProcessor", "do_center_crop": False, "do_reduce_labels": True},
        "dpt": {"image_processor_type": "DPTImageProcessor", "ensure_multiple_of": 1, "keep_aspect_ratio": False},
        "mobilenet_v2": {
            **{"image_processor_type": "MobileNetV2ImageProcessor", "do_center_crop": True},
            "crop_size": {"height": 24, "width": 24},
        },
        "maskformer": {"image_processor_type": "MaskFormerImageProcessor", "size_divisor": 32, "ignore_index": 255},
        "mask2former": {"image_processor_type": "Mask2FormerImageProcessor", "size_divisor": 32, "ignore_index": 255},
        "oneformer": {"image_processor_type": "OneFormerImageProcessor"},
        "eomt": {
            **{"image_processor_type": "EomtImageProcessor", "do_split_image": True},
            "size": {"shortest_edge": 32, "longest_edge": None},
        },
    }
    if family == "mobilevit":
        return {"image_processor_type": "MobileViTImageProcessor", "do_flip_channel_order": True, **square}
    family = {"data2vec": "beit", "dpt-hybrid": "dpt"}.get(family, family)
    own = kinds.get(family, {"image_processor_type": "SegformerImageProcessor"})
    return {**normalised, **square, **own}


def _tokenizer(folder: Path) -> None:
    """Write a tokenizer of CLIP's form that knows the words of OneFormer's task."""
    symbols = ["<|startoftext|>", "<|endoftext|>", *sorted(set("".join(WORDS))), *(f"{c}</w>" for c in "ekcs")]
    merges = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merges.append(f"{parts[0]} {parts[1]}")
            parts = [parts[0] + parts[1], *parts[2:]]
            symbols.append(parts[0])
    (folder / "vocab.json").write_text(json.dumps({key: place for place, key in enumerate(dict.fromkeys(symbols))}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges)]) + "\n")


def write_family(family: str, folder: Path) -> Path:
    """Write a tiny network of a family with random weights, as its library saves it."""
    with torch.random.fork_rng():
        torch.manual_seed(len(family))
        network = _network(family)
        with torch.no_grad():
            for parameter in network.parameters():  # as large as signals need to pass through many layers
                deviation = (2 * len(parameter) / parameter.numel()) ** 0.5 if parameter.ndim > 1 else 0.1
                parameter.add_(torch.randn_like(parameter), alpha=deviation)
            norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
            for norm in norms:
                norm.momentum = None
            if norms:
                side = 32 if family in ("data2vec", "dpt-hybrid") else 64
                network.train()(torch.rand(4, 3, side, side))
    network.config.id2label = dict(enumerate(NAMES))
    network.config.label2id = {name: place for place, name in enumerate(NAMES)}
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_processor(family)))
    if family == "oneformer":
        _tokenizer(folder)
    return folder


if __name__ == "__main__":
    for family in FAMILIES:
        write_family(family, Path(family))
