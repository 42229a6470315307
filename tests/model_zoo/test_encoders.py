from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from segbench.model_zoo.base import ModelError
from segbench.model_zoo.deepstem import DeepStemResNet50
from segbench.model_zoo.encoders import get_encoder


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["tiny", "resnet18", "tu-resnet18", "mobilenet_v2", "tu-convnext_atto"])
def test_the_last_two_maps_are_as_the_encoder_says(name: str, output_stride: int) -> None:
    encoder = get_encoder(name, output_stride=output_stride)
    assert encoder.divisor == output_stride
    with torch.no_grad():
        *_, earlier, last = encoder.module.eval()(torch.rand(1, 3, 64, 96))
    assert last.shape == (1, encoder.channels, 64 // output_stride, 96 // output_stride)
    assert earlier.shape[1] == encoder.aux_channels


def random_weights(network: torch.nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        key: torch.rand(value.shape, generator=generator) if value.ndim else value
        for key, value in network.state_dict().items()
    }


def semseg_names(key: str) -> str:
    """The names of the deep stem in a backbone file of the semseg project."""
    part, place, rest = [*key.split(".", 2), ""][:3]
    if part != "layer0":
        return key
    return f"{'conv' if int(place) % 3 == 0 else 'bn'}{int(place) // 3 + 1}.{rest}"


def torchvision_file(file: Path) -> dict[str, Tensor]:
    """As torchvision saved its first ResNets: without counters of batches."""
    state = random_weights(torchvision.models.resnet18())
    torch.save({key: value for key, value in state.items() if "num_batches" not in key}, file)
    return state


def timm_file(file: Path) -> dict[str, Tensor]:
    state = random_weights(timm.create_model("resnet18"))
    save_file(state, file)
    return state


def convnext_file(file: Path) -> dict[str, Tensor]:
    state = random_weights(timm.create_model("convnext_atto"))
    save_file(state, file)
    return state


def semseg_file(file: Path) -> dict[str, Tensor]:
    state = {semseg_names(key): value for key, value in random_weights(DeepStemResNet50()).items()}
    assert {"conv1.weight", "bn3.running_var", "layer1.0.conv1.weight"} < state.keys()
    torch.save({**state, "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}, file)
    return state


@pytest.mark.parametrize(
    ("name", "save", "suffix"),
    [
        ("resnet18", torchvision_file, ".pth"),
        ("resnet18", timm_file, ".safetensors"),
        ("tu-resnet18", timm_file, ".safetensors"),
        ("tu-resnet18", torchvision_file, ".pth"),
        ("tu-convnext_atto", convnext_file, ".safetensors"),
        ("resnet50-deepstem", semseg_file, ".pth"),
    ],
)
def test_imagenet_weights_come_from_a_file(
    tmp_path: Path, name: str, save: Callable[[Path], dict[str, Tensor]], suffix: str
) -> None:
    file = tmp_path / f"weights{suffix}"
    saved = save(file)
    loaded = get_encoder(name, weights=str(file)).module.state_dict()
    ours = sorted((tuple(v.shape), float(v.double().sum())) for v in loaded.values() if v.ndim)
    theirs = sorted(
        (tuple(v.shape), float(v.double().sum()))
        for key, v in saved.items()
        if v.ndim and not key.startswith(("fc.", "head."))
    )
    assert ours == theirs
    if name == "resnet18":
        assert torch.equal(loaded["layer4.1.conv2.weight"], saved["layer4.1.conv2.weight"])


def test_an_encoder_with_torchvision_weights_computes_what_torchvision_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(replace_stride_with_dilation=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    ours = get_encoder("resnet18", output_stride=16, weights=str(tmp_path / "resnet18.pth")).module.eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        maps = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        third = theirs.layer3(theirs.layer2(theirs.layer1(maps)))
        torch.testing.assert_close(ours(images)[-2], third)


def test_weights_of_another_network_are_refused_with_the_keys_that_do_not_fit(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(ModelError, match=r"resnet34\.pth: .*unexpected: layer1\.2\."):
        get_encoder("resnet18", weights=str(tmp_path / "resnet34.pth"))


@pytest.mark.parametrize("name", ["resnet18", "tu-resnet18"])
def test_a_download_that_fails_says_what_else_to_do(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def unreachable(*arguments: object, **options: object) -> None:
        raise ConnectionError("name not known")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", unreachable)
    monkeypatch.setattr("timm.models._builder.load_pretrained", unreachable)
    with pytest.raises(ModelError, match=r"name not known.*set weights to the path of a file"):
        get_encoder(name, weights="imagenet")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet1", {}, "no encoder 'resnet1'; did you mean 'resnet18'"),
        ("tu-resnet1", {}, "did you mean 'tu-resnet1"),
        ("resnet18", {"output_stride": 4}, "output_stride must be 8 or 16, got 4"),
        ("resnet18", {"widths": (1, 2, 3, 4)}, "the option .widths. is for the encoder .tiny."),
        ("tiny", {"weights": "imagenet"}, "no ImageNet weights can be downloaded for tiny"),
        ("tu-vit_tiny_patch16_224", {}, "cannot be built"),
    ],
)
def test_what_cannot_be_built_is_said(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        get_encoder(name, **options)
