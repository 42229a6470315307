from __future__ import annotations

import typing
from pathlib import Path

import pytest
import segmentation_models_pytorch as library
import torch
import torchvision

from segbench.model_zoo.base import ModelError
from segbench.model_zoo.smp import Architecture, smp

ENCODERS = {
    "dpt": "tu-vit_tiny_patch16_224",
    "segformer": "mit_b0",
    "fpn": "tu-convnext_atto",
    "unet": "mobilenet_v2",
}
UNUSED = ("trunk.encoder.model.norm.",)
"""The library leaves a vision transformer's last normalisation unused."""


@pytest.mark.parametrize("architecture", typing.get_args(Architecture))
def test_every_architecture_takes_odd_sizes_and_trains_all_its_parameters(architecture: Architecture) -> None:
    torch.manual_seed(0)
    network = smp(5, architecture=architecture, encoder=ENCODERS.get(architecture, "resnet18"))
    images = torch.rand(2, 3, 45, 70)
    features = network.features(images)
    logits = network.classify(network.classifier, features.main, images)
    assert network.auxiliary is not None
    assert features.auxiliary is not None
    auxiliary = network.classify(network.auxiliary, features.auxiliary, images)
    assert logits.shape == auxiliary.shape == (2, 5, 45, 70)
    assert network.classify(network.make_classifier(2), features.main, images).shape == (2, 2, 45, 70)
    (logits.square().mean() + auxiliary.square().mean()).backward()
    assert [
        name for name, parameter in network.named_parameters() if parameter.grad is None and not name.startswith(UNUSED)
    ] == []


@pytest.mark.parametrize("architecture", ["unet", "fpn", "deeplabv3plus", "upernet"])
def test_logits_are_those_of_the_library(architecture: Architecture) -> None:
    theirs = library.create_model(architecture, "resnet18", encoder_weights=None, classes=3).eval()
    ours = smp(3, architecture=architecture, encoder="resnet18").eval()
    ours.trunk.encoder.load_state_dict(theirs.encoder.state_dict())
    ours.trunk.decoder.load_state_dict(theirs.decoder.state_dict())
    ours.classifier.load_state_dict(theirs.segmentation_head.state_dict())
    images = torch.rand(1, 3, 64, 96)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs((images - mean) / std))


def test_the_head_is_fresh_and_of_the_library_s_initialisation() -> None:
    network = smp(5, encoder="resnet18")
    first, second = network.make_classifier(5), network.make_classifier(5)
    assert not torch.equal(first[0].weight, second[0].weight)
    assert not first[0].bias.any()
    bound = (6 / (9 * (16 + 5))) ** 0.5  # Xavier, uniform
    assert 0.9 * bound < first[0].weight.abs().max() <= bound


def test_encoder_weights_come_from_a_file(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    ours = smp(5, encoder="resnet18", weights=str(tmp_path / "resnet18.pth")).trunk.encoder
    assert torch.equal(ours.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)


@pytest.mark.parametrize(
    ("architecture", "encoder", "message"),
    [
        ("unet", "resnet1", "did you mean 'resnet18'"),
        ("unetplusplus", "mit_b0", "unetplusplus on mit_b0 cannot be built"),
        ("dpt", "resnet18", "Only Timm encoders are supported for DPT"),
        ("dpt", "tu-vit_small_patch14_dinov2", "whose patch size is 14; choose an encoder with patch size 16"),
    ],
)
def test_what_does_not_go_together_is_said(architecture: Architecture, encoder: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        smp(5, architecture=architecture, encoder=encoder)


def test_an_encoder_of_one_size_names_it() -> None:
    network = smp(3, architecture="fpn", encoder="tu-maxvit_pico_rw_256").eval()
    with pytest.raises(ModelError, match=r"64x96.*resize the images"):
        network(torch.rand(1, 3, 64, 96))
