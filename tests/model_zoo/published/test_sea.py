from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.model_zoo.base import ModelError
from segbench.model_zoo.encoders import DEEPSTEM
from segbench.model_zoo.official import PLAIN
from segbench.model_zoo.pspnet import pspnet
from segbench.model_zoo.published import sea
from segbench.model_zoo.weights import State

Formula = Callable[[nn.Module], dict[str, Tensor]]
References = dict[str, Callable[[int], nn.Module]]


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.qkv, self.attn.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.attn.qkv(self.norm1(x)).unflatten(-1, (3, -1, 64)).permute(2, 0, 3, 1, 4)
        mixed = ((q @ k.transpose(-1, -2)) / math.sqrt(64)).softmax(-1) @ v
        x = x + self.attn.proj(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))


class Transformer(nn.Module):
    def __init__(self, places: int):
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, 384, 16, 16)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 384))
        self.pos_embed = nn.Parameter(torch.zeros(1, places + 1, 384))
        self.blocks = nn.ModuleList(Block(384) for _ in range(12))
        self.norm = nn.LayerNorm(384)
        self.head = nn.Linear(384, 1000)


class Masks(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        self.cls_emb = nn.Parameter(torch.zeros(1, classes, 384))
        self.proj_dec = nn.Linear(384, 384)
        self.proj_patch = nn.Parameter(torch.zeros(384, 384))
        self.proj_classes = nn.Parameter(torch.zeros(384, 384))
        self.blocks = nn.ModuleList(Block(384) for _ in range(2))
        self.decoder_norm, self.mask_norm = nn.LayerNorm(384), nn.LayerNorm(classes)


class SlowSegmenter(nn.Module):
    """Segmenter-ViT-S/16 as its authors define it."""

    def __init__(self, classes: int, size: int):
        super().__init__()
        self.encoder, self.decoder = Transformer((size // 16) ** 2), Masks(classes)

    def forward(self, images: Tensor) -> Tensor:
        encoder, decoder = self.encoder, self.decoder
        grid = encoder.patch_embed.proj(images)
        x = torch.cat([encoder.cls_token.expand(len(images), -1, -1), grid.flatten(2).transpose(1, 2)], 1)
        x = x + encoder.pos_embed
        for block in encoder.blocks:
            x = block(x)
        x = decoder.proj_dec(encoder.norm(x)[:, 1:])
        count = x.shape[1]
        x = torch.cat([x, decoder.cls_emb.expand(len(images), -1, -1)], 1)
        for block in decoder.blocks:
            x = block(x)
        x = decoder.decoder_norm(x)
        patches, classes = x[:, :count] @ decoder.proj_patch, x[:, count:] @ decoder.proj_classes
        patches = patches / patches.norm(dim=-1, keepdim=True)
        classes = classes / classes.norm(dim=-1, keepdim=True)
        masks = decoder.mask_norm(patches @ classes.transpose(1, 2))
        masks = masks.transpose(1, 2).unflatten(2, grid.shape[-2:])
        return F.interpolate(masks, images.shape[-2:], mode="bilinear")


@pytest.mark.slow
def test_upernet_is_that_of_the_authors_without_normalisation(references: References, with_formula: Formula) -> None:
    reference = references["sea-upernet"](21)
    state = with_formula(reference)
    assert state["backbone.downsample_layers.0.stem.3.weight"].shape == (96, 48, 3, 3)
    network, notes = sea.load("upernet-convnext-t-voc", State(state, ()), where="best_model_ckpt.pth")
    assert notes == ()
    images = torch.rand(1, 3, 73, 101, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, auxiliary = reference(images)
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)
        features = network.features(images).auxiliary
        torch.testing.assert_close(
            network.classify(network.auxiliary, features, images), auxiliary, rtol=1e-4, atol=1e-4
        )
    with pytest.raises(ModelError, match=r"missing: backbone\.stages\.2\.9\.gamma"):
        sea.load("upernet-convnext-s-voc", State(state, ()), where="best_model_ckpt.pth")


def test_segmenter_is_that_of_its_authors(with_formula: Formula) -> None:
    reference = SlowSegmenter(151, 64)
    state = with_formula(reference)
    network, notes = sea.load("segmenter-vit-s-ade20k", State(state, ()), where="segmenter.pth")
    assert notes == ("left out 2 keys that no prediction depends on: encoder.head.bias, encoder.head.weight",)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference(images)
        assert expected.std() > 0.05
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)
    assert network(torch.rand(1, 3, 70, 85)).shape == (1, 151, 70, 85)


def test_pspnet_has_the_names_of_semseg_and_no_normalisation() -> None:
    torch.manual_seed(0)
    ours = pspnet(21, encoder=DEEPSTEM).eval()
    names = {"trunk.encoder.": "", "trunk.context.branches.": "ppm.features.", **PLAIN}
    state = {}
    for key, value in ours.state_dict().items():
        prefix = next(prefix for prefix in names if key.startswith(prefix))
        state[f"module.{names[prefix]}{key.removeprefix(prefix)}"] = value
    network, notes = sea.load("pspnet-voc", State(state, ()), where="pspnet.pth")
    assert notes == ("removed the prefix 'module.'",)
    images = torch.rand(1, 3, 49, 57)
    with torch.no_grad():
        torch.testing.assert_close(network(images), ours(images * ours.std + ours.mean))
    with pytest.raises(ModelError, match="weights of pspnet, not of deeplabv3"):
        sea.load("deeplabv3-voc", State(state, ()), where="pspnet.pth")


def test_a_normalisation_in_the_file_is_taken(with_formula: Formula) -> None:
    reference = SlowSegmenter(5, 32)
    state = with_formula(reference)
    wrapped = {f"model.{key}": value for key, value in state.items()}
    wrapped["normalize.mean"], wrapped["normalize.std"] = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.2, 0.3])
    network, notes = sea.load("segmenter-vit-s-ade20k", State(wrapped, ()), where="segmenter.pth")
    assert notes[:3] == (
        "removed the prefix 'model.'",
        "took the normalisation from the file",
        "it has 5 classes, and the authors' 151",
    )
    images = torch.rand(1, 3, 32, 32)
    mean, std = (wrapped[f"normalize.{part}"].view(1, 3, 1, 1) for part in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(network(images), reference((images - mean) / std), rtol=1e-4, atol=1e-4)


def test_other_files_are_told_apart() -> None:
    with pytest.raises(ModelError, match=r"decode_head.classifier.weight is missing.*it holds conv.weight"):
        sea.load("upernet-convnext-t-voc", State({"conv.weight": torch.zeros(3)}, ()), where="other.pth")
