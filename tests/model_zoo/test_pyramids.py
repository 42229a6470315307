from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segbench.model_zoo.base import ModelError
from segbench.model_zoo.pyramids import get_pyramid
from segbench.model_zoo.segformer import segformer
from segbench.model_zoo.smp import smp
from segbench.model_zoo.upernet import upernet


@pytest.mark.parametrize("name", ["test_convnext-cvst", "tu-test_convnext", "resnet18", "mit_b0"])
def test_four_maps_halve_from_a_quarter_to_a_thirty_second(name: str) -> None:
    pyramid = get_pyramid(name)
    maps = pyramid.module(torch.rand(1, 3, 64, 96))[-4:]
    assert [tuple(features.shape) for features in maps] == [
        (1, channels, 64 >> shift, 96 >> shift) for shift, channels in zip((2, 3, 4, 5), pyramid.channels, strict=True)
    ]
    normed = [isinstance(norm, torch.nn.LayerNorm) for norm in pyramid.norms()]
    assert normed == ["convnext" in name] * 4


def test_only_convnexts_and_swins_of_some_names_and_encoders_of_four_maps() -> None:
    for name, message in (
        ("tu-vit_tiny_patch16_224", "tu-vit_tiny_patch16_224"),
        ("resnet50-cvst", "there is no encoder 'resnet50-cvst'; 'convnext_tiny-cvst' is one"),
        ("resnet1", "did you mean 'resnet18'"),
    ):
        with pytest.raises(ModelError, match=message):
            get_pyramid(name)
    with pytest.raises(ModelError, match="no ImageNet weights can be downloaded for swin-tiny"):
        get_pyramid("swin-tiny", weights="imagenet")


def test_weights_of_the_encoder_come_from_a_file(tmp_path: Path) -> None:
    state = get_pyramid("test_convnext-cvst").module.state_dict()
    torch.save(state, tmp_path / "robust.pt")
    network = upernet(3, encoder="test_convnext-cvst", channels=16, weights=str(tmp_path / "robust.pt"))
    assert all(torch.equal(value, state[key]) for key, value in network.trunk.encoder.state_dict().items())


def test_mix_transformers_are_built_where_tensors_have_no_memory() -> None:
    with torch.device("meta"):
        assert segformer(3).num_classes == smp(3, architecture="segformer", encoder="mit_b0").num_classes == 3
