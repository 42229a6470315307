from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from segbench.model_zoo.base import ModelError
from segbench.model_zoo.published import mmseg
from segbench.model_zoo.weights import State

MEAN, STD = (torch.tensor(v).view(1, 3, 1, 1) for v in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
"""Normalisation of mmsegmentation, of values from 0 to 255."""

CONFIGS = {
    "pspnet": ("pspnet_r50-d8_4xb4-80k_ade20k-512x512", (1, 3, 48, 72)),
    "deeplabv3": ("deeplabv3_r50-d8_512x1024_80k_cityscapes", (1, 3, 48, 72)),
    "deeplabv3plus": ("deeplabv3plus_r50-d8_4xb4-20k_voc12aug-512x512", (1, 3, 48, 72)),
    "segformer": ("segformer_mit-b0_8xb2-160k_ade20k-512x512", (2, 3, 50, 71)),
    "upernet-convnext": ("convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512", (1, 3, 64, 100)),
    "upernet-swin": ("swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512", (1, 3, 70, 93)),
    "upernet-resnet": ("upernet_r50_4xb4-80k_ade20k-512x512", (1, 3, 64, 71)),
}

Formula = Callable[[nn.Module], dict[str, Tensor]]
References = dict[str, Callable[[int], nn.Module]]


SLOW = [name for name in CONFIGS if name != "segformer"]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in CONFIGS])
def test_logits_are_those_of_the_published_definition(name: str, references: References, with_formula: Formula) -> None:
    config, shape = CONFIGS[name]
    reference = references[name](mmseg.CLASSES[mmseg.parse(config).dataset])
    state = with_formula(reference)
    network, notes = mmseg.load(config, State(state, ()), where="weights.pth")
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(shape, generator=generator)
    with torch.no_grad():
        main, auxiliary = reference((images * 255 - MEAN) / STD)
        assert main.std() > 0.05
        torch.testing.assert_close(network(images), main, rtol=1e-4, atol=1e-4)
        if auxiliary is not None:
            features = network.features(images).auxiliary
            ours = network.classify(network.auxiliary, features, images)
            torch.testing.assert_close(ours, auxiliary, rtol=1e-4, atol=1e-4)
    left = [key for key in state if key.endswith("relative_position_index")]
    assert len(notes) == bool(left)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("segformer_mit-b5_8xb2-160k_ade20k-640x640", ("segformer", "mit_b5", "ade20k", (640, 640))),
        ("configs/segformer/segformer_mit-b0_8x1_1024x1024_160k_cityscapes.py",
         ("segformer", "mit_b0", "cityscapes", (1024, 1024))),
        ("pspnet_r101-d8_4xb2-80k_cityscapes-769x769", ("pspnet", "tu-resnet101c", "cityscapes", (769, 769))),
        ("deeplabv3plus_r50-d8_480x480_40k_pascal_context_59",
         ("deeplabv3plus", "tu-resnet50c", "pascal-context-59", (480, 480))),
        ("upernet_swin_small_patch4_window7_512x512_160k_ade20k_pretrain_224x224_1K",
         ("upernet", "swin-small", "ade20k", (512, 512))),
        ("upernet_swin-b_patch4_window7_512x512_160k_ade20k_in1K-224x224-pre-3rdparty",
         ("upernet", "swin-base", "ade20k", (512, 512))),
        ("swin-base-patch4-window7-in22k-pre_upernet_8xb2-160k_ade20k-512x512",
         ("upernet", "swin-base", "ade20k", (512, 512))),
        ("upernet_convnext_base_fp16_640x640_160k_ade20k", ("upernet", "tu-convnext_base", "ade20k", (640, 640))),
        ("upernet_r50_512x1024_40k_cityscapes", ("upernet", "tu-resnet50c", "cityscapes", (512, 1024))),
        ("deeplabv3_r50-d8_mydata-512x512", ("deeplabv3", "tu-resnet50c", None, (512, 512))),
    ],
)  # fmt: skip
def test_a_configuration_s_name_says_the_network(config: str, expected: tuple[object, ...]) -> None:
    assert tuple(mmseg.parse(config)) == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("mask2former_r50_8xb2-160k_ade20k-512x512", "no family that is loaded here"),
        ("pspnet_r18-d8_4xb2-80k_cityscapes-512x1024", "pspnet is loaded here with r50-d8 and r101-d8"),
        ("pspnet_r50b-d8_4xb2-80k_cityscapes-512x1024", "pspnet is loaded here with r50-d8 and r101-d8"),
        ("segformer_r50-d8_ade20k-512x512", "segformer is loaded here with mit-b0 to mit-b5"),
        ("swin-base-patch4-window12-in1k-384x384-pre_upernet_8xb2-160k_ade20k-512x512", "window7"),
    ],
)
def test_what_is_not_loaded_is_said(config: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        mmseg.parse(config)


PARAMETERS = {
    "segformer_mit-b0_8xb2-160k_ade20k-512x512": 3.75e6,
    "pspnet_r50-d8_4xb4-80k_ade20k-512x512": 49.0e6,
    "deeplabv3_r50-d8_4xb4-80k_ade20k-512x512": 68.2e6,
    "deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512": 43.7e6,
    "convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512": 60e6,
    "swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512": 60e6,
}
"""Parameters of the published networks, with auxiliary heads, as papers and model cards give them."""


@pytest.mark.slow
@pytest.mark.parametrize("config", PARAMETERS)
def test_networks_have_as_many_parameters_as_published(config: str) -> None:
    parsed = mmseg.parse(config)
    network, _ = mmseg.build(parsed, 150, auxiliary=parsed.family != "segformer")
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == pytest.approx(PARAMETERS[config], rel=0.015)


@pytest.fixture
def small(references: References, with_formula: Formula) -> dict[str, Tensor]:
    return with_formula(references["segformer"](4))


CONFIG = "segformer_mit-b0_8xb2-160k_mydata-512x512"


def test_old_files_without_counters_and_with_common_prefixes_load(small: dict[str, Tensor]) -> None:
    state = {f"module.{key}": value.half() for key, value in small.items() if not key.endswith("num_batches_tracked")}
    network, notes = mmseg.load(CONFIG, State(state, ()), where="weights.pth")
    assert network.num_classes == 4
    assert notes == ("removed the prefix 'module.'", "converted float16 to float32")


def test_other_classes_than_those_of_the_name_are_said(small: dict[str, Tensor]) -> None:
    _, notes = mmseg.load(CONFIG.replace("mydata", "ade20k"), State(small, ()), where="weights.pth")
    assert notes == ("it has 4 classes, and ade20k in the configuration's name 150",)


def test_what_does_not_fit_is_named_in_the_file_s_own_names(small: dict[str, Tensor]) -> None:
    def fails(changes: dict[str, Tensor | None]) -> str:
        state = {key: value for key, value in {**small, **changes}.items() if value is not None}
        with pytest.raises(ModelError) as caught:
            mmseg.load(CONFIG, State(state, ()), where="weights.pth")
        return str(caught.value)

    packed = "backbone.layers.1.1.0.attn.attn.in_proj_weight"
    assert f"1 missing: {packed}" in fails({packed: None})
    assert "1 unexpected: decode_head.more.weight" in fails({"decode_head.more.weight": torch.zeros(3)})
    assert f"1 misshapen: {packed} is (64, 64)" in fails({packed: torch.zeros(64, 64)})
    assert f"1 misshapen: {packed} is (1,)" in fails({packed: torch.zeros(1)})
    assert f"1 not finite: {packed}" in fails({packed: torch.full((192, 64), torch.nan)})
    assert "conv_seg.weight is missing, so these are no weights of this network" in fails(
        {"decode_head.conv_seg.weight": None}
    )
    half = {key: None for key in small if key.startswith("backbone.layers.3")}
    assert f"of {len(small) - len(half)} keys {len(half)} missing: backbone.layers.3" in fails(half)


def test_aligned_corners_of_crops_of_769_pixels() -> None:
    network, _ = mmseg.build(mmseg.parse("pspnet_r50-d8_4xb2-80k_cityscapes-769x769"), 19, auxiliary=False)
    assert network.align_corners
    assert network.trunk.context.align_corners
