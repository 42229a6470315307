from __future__ import annotations

from pathlib import Path

import timm
import torch
import torch.nn.functional as F

from segbench.model_zoo.convnext import ConvStem, ConvStemConvNeXt
from segbench.model_zoo.encoders import load_encoder


def test_the_stem_is_two_strided_convolutions_each_normalised_and_activated() -> None:
    torch.manual_seed(0)
    stem = ConvStem(8)
    images = torch.rand(2, 3, 13, 18)
    features = images
    for index in (0, 3):
        convolution, norm = stem.stem[index], stem.stem[index + 1]
        features = F.conv2d(features, convolution.weight, convolution.bias, 2, 1)
        centred = features - features.mean(1, keepdim=True)
        scaled = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
        features = F.gelu(scaled * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1))
    torch.testing.assert_close(stem(images), features)
    assert features.shape == (2, 8, 4, 5)


def test_files_of_robust_classifiers_are_loaded_and_the_stages_are_those_of_timm(tmp_path: Path) -> None:
    """The authors' files have the names of timm below `module.`, with `stem.stem` in place of its stem."""
    whole = timm.create_model("test_convnext").eval()
    stem = ConvStem(24)
    state = {key: value for key, value in whole.state_dict().items() if not key.startswith("stem.")}
    state |= {f"stem.{key}": value for key, value in stem.state_dict().items()}
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "robust.pt")
    encoder = ConvStemConvNeXt("test_convnext", drop_path=0.1).eval()
    load_encoder(encoder, tmp_path / "robust.pt")
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        maps = encoder(images)
        features = stem(images)
        for stage, found in zip(whole.stages, maps, strict=True):
            features = stage(features)
            torch.testing.assert_close(found, features)
    assert tuple(found.shape[1] for found in maps) == encoder.channels == (24, 32, 48, 64)
