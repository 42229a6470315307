"""Names of keys in checkpoints of mmsegmentation, for each family.

Source: the modules of https://github.com/open-mmlab/mmsegmentation (mmseg/models), of mmpretrain (ConvNeXt) and of mmcv
(ConvModule: `conv`, `bn`).
"""

from __future__ import annotations

from torch import Tensor

from segbench.model_zoo.published.keys import Rule, conv_bn

IGNORED = r".*\.relative_position_index|.*\.num_batches_tracked|decode_head\.loss.*\.class_weight"
"""Keys that no prediction depends on: tables that follow from the size of a window, counters, weights of the loss."""


def _query(packed: Tensor) -> Tensor:
    """Return the first third of packed projections: that of the query."""
    return packed.chunk(3)[0]


def _key_value(packed: Tensor) -> Tensor:
    """Return the last two thirds of packed projections: those of key and value."""
    return packed[len(packed) // 3 :]


def _linear(convolution: Tensor) -> Tensor:
    """Return the weights of a 1x1 convolution as those of a linear layer."""
    return convolution.flatten(1) if convolution.shape[2:] == (1, 1) else convolution


def _by_place(merged: Tensor) -> Tensor:
    """Reorder features of 2x2 places: from channel, row, column to column, row, channel."""
    parts = merged.reshape(*merged.shape[:-1], -1, 2, 2)
    return parts.transpose(-1, -3).flatten(-3)


def _image_last(weight: Tensor) -> Tensor:
    """Move the input channels of the pooled image from the first place among five branches to the last."""
    width = weight.shape[1] // 5
    return weight.roll(-width, 1)


LAST = (Rule(r"classifier\.1\.(\w+)", r"decode_head.conv_seg.\1"),)
AUXILIARY = (
    *conv_bn(r"auxiliary", r"auxiliary_head.convs.0"),
    Rule(r"auxiliary\.4\.(\w+)", r"auxiliary_head.conv_seg.\1"),
)

RESNET = (
    Rule(r"trunk\.encoder\.model\.conv1\.(.+)", r"backbone.stem.\1"),
    Rule(r"trunk\.encoder\.model\.bn1\.(.+)", r"backbone.stem.7.\1"),
    Rule(r"trunk\.encoder\.model\.(layer.+)", r"backbone.\1"),
)

PSPNET = (
    *RESNET,
    *conv_bn(r"trunk\.context\.branches\.(\d)", r"decode_head.psp_modules.\1.1", first=1),
    *conv_bn(r"classifier", r"decode_head.bottleneck"),
    Rule(r"classifier\.4\.(\w+)", r"decode_head.conv_seg.\1"),
    *AUXILIARY,
)

DEEPLABV3 = (
    *RESNET,
    *conv_bn(r"trunk\.context\.branches\.4", r"decode_head.image_pool.1", first=1),
    *conv_bn(r"trunk\.context\.branches\.(\d)", r"decode_head.aspp_modules.\1"),
    Rule(r"classifier\.0\.weight", r"decode_head.bottleneck.conv.weight", _image_last),
    *conv_bn(r"classifier", r"decode_head.bottleneck"),
    Rule(r"classifier\.4\.(\w+)", r"decode_head.conv_seg.\1"),
    *AUXILIARY,
)

DEEPLABV3PLUS = (
    *RESNET,
    *conv_bn(r"trunk\.context\.image", r"decode_head.image_pool.1", first=1),
    *conv_bn(r"trunk\.context\.point", r"decode_head.aspp_modules.0"),
    *(
        rule
        for index in range(3)
        for part, first in (("depthwise_conv", 0), ("pointwise_conv", 3))
        for rule in conv_bn(
            rf"trunk\.context\.atrous\.{index}", rf"decode_head.aspp_modules.{index + 1}.{part}", first=first
        )
    ),
    *conv_bn(r"trunk\.context\.bottleneck", r"decode_head.bottleneck"),
    *conv_bn(r"trunk\.context\.early", r"decode_head.c1_bottleneck"),
    *conv_bn(r"trunk\.context\.refine\.(\d)", r"decode_head.sep_bottleneck.\1.depthwise_conv"),
    *conv_bn(r"trunk\.context\.refine\.(\d)", r"decode_head.sep_bottleneck.\1.pointwise_conv", first=3),
    *LAST,
    *AUXILIARY,
)


def _segformer() -> tuple[Rule, ...]:
    """Return the rules of SegFormer; stages and blocks count from 1 here and from 0 there."""
    rules: list[Rule] = []
    for stage in range(4):
        block, theirs = rf"trunk\.encoder\.block{stage + 1}\.(\d+)", rf"backbone.layers.{stage}.1.\1"
        rules += [
            Rule(rf"trunk\.encoder\.patch_embed{stage + 1}\.proj\.(\w+)", rf"backbone.layers.{stage}.0.projection.\1"),
            Rule(rf"trunk\.encoder\.patch_embed{stage + 1}\.norm\.(\w+)", rf"backbone.layers.{stage}.0.norm.\1"),
            Rule(rf"trunk\.encoder\.norm{stage + 1}\.(\w+)", rf"backbone.layers.{stage}.2.\1"),
            Rule(rf"{block}\.attn\.q\.(weight|bias)", rf"{theirs}.attn.attn.in_proj_\2", _query),
            Rule(rf"{block}\.attn\.kv\.(weight|bias)", rf"{theirs}.attn.attn.in_proj_\2", _key_value),
            Rule(rf"{block}\.attn\.proj\.(\w+)", rf"{theirs}.attn.attn.out_proj.\2"),
            Rule(rf"{block}\.attn\.(sr|norm)\.(\w+)", rf"{theirs}.attn.\2.\3"),
            Rule(rf"{block}\.(norm[12])\.(\w+)", rf"{theirs}.\2.\3"),
            Rule(rf"{block}\.mlp\.fc1\.(\w+)", rf"{theirs}.ffn.layers.0.\2", _linear),
            Rule(rf"{block}\.mlp\.dwconv\.dwconv\.(\w+)", rf"{theirs}.ffn.layers.1.\2"),
            Rule(rf"{block}\.mlp\.fc2\.(\w+)", rf"{theirs}.ffn.layers.4.\2", _linear),
        ]
    return tuple(rules)


SEGFORMER = (
    *_segformer(),
    *conv_bn(r"trunk\.context\.projections\.(\d)", r"decode_head.convs.\1"),
    *conv_bn(r"trunk\.context\.fusion", r"decode_head.fusion_conv"),
    *LAST,
    *AUXILIARY,
)


def convnext(encoder: str, depthwise: str, pointwise: str) -> tuple[Rule, ...]:
    """Return the rules of a ConvNeXt in the layout of its authors.

    Args:
        encoder: regular expression of the encoder's stages here, without the number of the stage.
        depthwise: name of the depthwise convolution of a block there.
        pointwise: name of its linear layers, without their number.
    """
    block = rf"{encoder}(\d)\.blocks\.(\d+)"
    return (
        Rule(rf"{encoder}(\d)\.downsample\.(.+)", r"backbone.downsample_layers.\1.\2"),
        Rule(rf"{block}\.conv_dw\.(\w+)", rf"backbone.stages.\1.\2.{depthwise}.\3"),
        Rule(rf"{block}\.mlp\.fc([12])\.(\w+)", rf"backbone.stages.\1.\2.{pointwise}\3.\4"),
        Rule(rf"{block}\.(norm\.\w+|gamma)", r"backbone.stages.\1.\2.\3"),
    )


def _swin() -> tuple[Rule, ...]:
    """Return the rules of Swin; patches are merged at the end of a stage there, and before the next one here."""
    rules = [
        Rule(r"trunk\.encoder\.patch_embed\.proj\.(\w+)", r"backbone.patch_embed.projection.\1"),
        Rule(r"trunk\.encoder\.patch_embed\.norm\.(\w+)", r"backbone.patch_embed.norm.\1"),
    ]
    for stage in range(1, 4):
        merging = rf"trunk\.encoder\.layers\.{stage}\.downsample\.(.+)"
        rules.append(Rule(merging, rf"backbone.stages.{stage - 1}.downsample.\1", _by_place))
    block, theirs = r"trunk\.encoder\.layers\.(\d)\.blocks\.(\d+)", r"backbone.stages.\1.blocks.\2"
    return (
        *rules,
        Rule(rf"{block}\.attn\.(.+)", rf"{theirs}.attn.w_msa.\3"),
        Rule(rf"{block}\.mlp\.fc1\.(\w+)", rf"{theirs}.ffn.layers.0.0.\3"),
        Rule(rf"{block}\.mlp\.fc2\.(\w+)", rf"{theirs}.ffn.layers.1.\3"),
        Rule(rf"{block}\.(norm[12]\.\w+)", rf"{theirs}.\3"),
    )


def pyramid(norm: str) -> tuple[Rule, ...]:
    """Return the rules of UPerNet's feature pyramid and of the normalisation of its maps.

    Args:
        norm: name of batch normalisation in the file.
    """
    context = r"trunk\.context"
    return (
        Rule(rf"{context}\.norms\.(\d)\.(\w+)", r"backbone.norm\1.\2"),
        *conv_bn(rf"{context}\.pooling\.branches\.(\d)", r"decode_head.psp_modules.\1.1", first=1, norm=norm),
        *conv_bn(rf"{context}\.bottleneck", r"decode_head.bottleneck", norm=norm),
        *conv_bn(rf"{context}\.laterals\.(\d)", r"decode_head.lateral_convs.\1", norm=norm),
        *conv_bn(rf"{context}\.outputs\.(\d)", r"decode_head.fpn_convs.\1", norm=norm),
        *conv_bn(rf"{context}\.fusion", r"decode_head.fpn_bottleneck", norm=norm),
        *conv_bn(r"auxiliary", r"auxiliary_head.convs.0", norm=norm),
    )


UPERNET = (
    *RESNET,
    Rule(r"trunk\.encoder\.model\.stem_(\d)\.(\w+)", r"backbone.downsample_layers.0.\1.\2"),
    *convnext(r"trunk\.encoder\.model\.stages_", "depthwise_conv", "pointwise_conv"),
    *_swin(),
    *pyramid("bn"),
    *LAST,
    *AUXILIARY,
)
