"""The authors' network, written a second time as functions of a state dict, is the truth that ours is compared to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.attacks.base import attack
from segbench.defenses.ddcat import Branches, ddcat
from segbench.model_zoo.base import ModelError, Segmenter
from segbench.model_zoo.official import from_official_state, load_official, load_official_training

BLOCKS = (3, 4, 6, 3)
KINDS = ("pspnet", "deeplabv3", "pspnet_ddcat", "deeplabv3_ddcat")
State = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


def official_shapes(kind: str, classes: int = 21) -> Shapes:
    """Keys and shapes of the authors' state dicts, from the facts about their networks."""
    shapes: Shapes = {}

    def conv(name: str, channels: int, inputs: int, kernel: int) -> None:
        shapes[f"{name}.weight"] = (channels, inputs, kernel, kernel)

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    def classifier(name: str, inputs: int, width: int, kernel: int, outputs: int) -> None:
        conv(f"{name}.0", width, inputs, kernel)
        norm(f"{name}.1", width)
        conv(f"{name}.4", outputs, width, 1)
        shapes[f"{name}.4.bias"] = (outputs,)

    for place, (channels, inputs) in zip((0, 3, 6), ((64, 3), (64, 64), (128, 64)), strict=True):
        conv(f"layer0.{place}", channels, inputs, 3)
        norm(f"layer0.{place + 1}", channels)
    inputs = 128
    for stage, blocks in enumerate(BLOCKS, 1):
        planes = 32 * 2**stage
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            for part, (channels, into, kernel) in enumerate(
                ((planes, inputs, 1), (planes, planes, 3), (4 * planes, planes, 1)), 1
            ):
                conv(f"{name}.conv{part}", channels, into, kernel)
                norm(f"{name}.bn{part}", channels)
            if block == 0:
                conv(f"{name}.downsample.0", 4 * planes, inputs, 1)
                norm(f"{name}.downsample.1", 4 * planes)
            inputs = 4 * planes
    if kind.startswith("pspnet"):
        for place in range(4):
            conv(f"ppm.features.{place}.1", 512, 2048, 1)
            norm(f"ppm.features.{place}.2", 512)
        head = (4096, 512, 3)
    else:
        for place, kernel in enumerate((1, 3, 3, 3)):
            conv(f"aspp.convs.{place}.0", 256, 2048, kernel)
            norm(f"aspp.convs.{place}.1", 256)
        conv("aspp.convs.4.1", 256, 2048, 1)
        norm("aspp.convs.4.2", 256)
        head = (1280, 256, 1)
    divided = kind.endswith("ddcat")
    classifier("cls1" if divided else "cls", *head, classes)
    if divided:
        classifier("cls2", *head, classes)
        classifier("mask1", *head, 2)
    classifier("aux_cls1" if divided else "aux", 1024, 256, head[2], classes)
    return shapes


def random_state(kind: str, classes: int = 21, seed: int = 0) -> State:
    """Weights that keep the size of activations, and statistics far from those of a new network."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for key, shape in official_shapes(kind, classes).items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
        elif len(shape) == 4:
            fan_in = shape[1] * shape[2] * shape[3]
            gain = 0.3 if "conv3" in key else 1.0  # or the sum over blocks would grow with each
            state[key] = torch.randn(shape, generator=generator) * gain * (2 / fan_in) ** 0.5
        elif key.endswith("running_var") or (key.endswith("weight") and len(shape) == 1):
            state[key] = 0.5 + torch.rand(shape, generator=generator)
        else:
            state[key] = torch.randn(shape, generator=generator) * 0.2
    return state


def reference(state: State, images: Tensor) -> dict[str, Tensor]:
    """Logits of every classifier for images in [0, 1] whose sizes are multiples of 8 plus 1."""
    scale = torch.tensor(255.0, dtype=images.dtype)
    mean = (torch.tensor([0.485, 0.456, 0.406], dtype=images.dtype) * scale).view(1, 3, 1, 1)
    std = (torch.tensor([0.229, 0.224, 0.225], dtype=images.dtype) * scale).view(1, 3, 1, 1)
    maps = (images * scale - mean) / std

    def conv(name: str, maps: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        padding = dilation * (weight.shape[-1] // 2)
        return F.conv2d(maps, weight, state.get(f"{name}.bias"), stride, padding, dilation)

    def norm(name: str, maps: Tensor) -> Tensor:
        weight, bias, centre, spread = (
            state[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (maps - centre) / (spread + 1e-5).sqrt() * weight + bias

    def up(maps: Tensor, size: torch.Size) -> Tensor:
        return F.interpolate(maps, size, mode="bilinear", align_corners=True)

    for place, stride in ((0, 2), (3, 1), (6, 1)):
        maps = norm(f"layer0.{place + 1}", conv(f"layer0.{place}", maps, stride)).relu()
    maps = F.max_pool2d(maps, 3, 2, 1)
    stages = {}
    for stage, (stride, dilation) in enumerate(((1, 1), (2, 1), (1, 2), (1, 4)), 1):
        for block in range(BLOCKS[stage - 1]):
            name, step = f"layer{stage}.{block}", stride if block == 0 else 1
            inner = norm(f"{name}.bn1", conv(f"{name}.conv1", maps)).relu()
            inner = norm(f"{name}.bn2", conv(f"{name}.conv2", inner, step, dilation)).relu()
            inner = norm(f"{name}.bn3", conv(f"{name}.conv3", inner))
            if block == 0:
                maps = norm(f"{name}.downsample.1", conv(f"{name}.downsample.0", maps, step))
            maps = (inner + maps).relu()
        stages[stage] = maps

    if "ppm.features.0.1.weight" in state:
        parts = [maps]
        for place, size in enumerate((1, 2, 3, 6)):
            pooled = conv(f"ppm.features.{place}.1", F.adaptive_avg_pool2d(maps, size))
            parts.append(up(norm(f"ppm.features.{place}.2", pooled).relu(), maps.shape[2:]))
    else:
        parts = [
            norm(f"aspp.convs.{place}.1", conv(f"aspp.convs.{place}.0", maps, 1, rate)).relu()
            for place, rate in enumerate((1, 6, 12, 18))
        ]
        pooled = conv("aspp.convs.4.1", maps.mean((2, 3), keepdim=True))
        parts.append(up(norm("aspp.convs.4.2", pooled).relu(), maps.shape[2:]))
    context = torch.cat(parts, 1)

    logits = {}
    for head in ("cls", "cls1", "cls2", "mask1", "aux", "aux_cls1"):
        if f"{head}.0.weight" in state:
            seen = stages[3] if head.startswith("aux") else context
            hidden = norm(f"{head}.1", conv(f"{head}.0", seen)).relu()
            logits[head] = up(conv(f"{head}.4", hidden), images.shape[2:])
    return logits


def merged(logits: dict[str, Tensor]) -> Tensor:
    """The authors' merged logits: the second classifier where the mask says 1, the first elsewhere."""
    gate = logits["mask1"].argmax(1, keepdim=True).to(logits["cls1"])
    return gate * logits["cls2"] + (1 - gate) * logits["cls1"]


@attack("contrast", access="none")
def contrast(model: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
    """In place of an attack: the same for an image whatever its batch."""
    return (1.4 * images - 0.2).clamp(0, 1)


def hollow_state(kind: str, classes: int = 21) -> State:
    """A state dict of the right shapes whose file is small."""
    return {
        key: torch.tensor(0.5 if shape else 7, dtype=torch.float32 if shape else torch.int64).expand(shape)
        for key, shape in official_shapes(kind, classes).items()
    }


def checkpoint(path: Path, state: State, prefix: str = "module.") -> Path:
    """Save a state dict the authors' way."""
    wrapped = {f"{prefix}{key}": value for key, value in state.items()}
    optimizer: dict[str, Any] = {"state": {}, "param_groups": [{"lr": 0.01, "params": [0, 1]}]}
    torch.save({"epoch": 50, "state_dict": wrapped, "optimizer": optimizer}, path)
    return path


def close(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= 1e-4 * theirs.abs().max())


def classified(segmenter: Segmenter, images: Tensor, **heads: Any) -> dict[str, Tensor]:
    features = segmenter.features(images)
    logits = {name: segmenter.classify(head, features.main, images) for name, head in heads.items()}
    assert features.auxiliary is not None
    assert segmenter.auxiliary is not None
    return logits | {"aux": segmenter.classify(segmenter.auxiliary, features.auxiliary, images)}


@pytest.mark.parametrize("kind", ["pspnet", pytest.param("deeplabv3", marks=pytest.mark.slow)])
def test_logits_equal_those_of_the_authors_network(kind: str) -> None:
    state = random_state(kind)
    images = torch.rand(2, 3, 73, 57, generator=torch.Generator().manual_seed(1))
    official = from_official_state(state, where=kind)
    assert official.architecture == kind
    assert official.auxiliary_branch is None
    assert official.mask_branch is None
    with torch.no_grad():
        truth = reference(state, images)
        ours = classified(official.segmenter, images, cls=official.segmenter.classifier)
        assert close(official.segmenter(images), truth["cls"])
    assert truth.keys() == ours.keys()
    assert all(close(ours[head], truth[head]) for head in truth)

    # Another size is padded with the mean colour to the next that fits.
    canvas = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 65, 57).clone()
    canvas[..., :60, :52] = images[:1, :, :60, :52]
    with torch.no_grad():
        assert close(official.segmenter(images[:1, :, :60, :52]), reference(state, canvas)["cls"][..., :60, :52])


@pytest.mark.parametrize("kind", [pytest.param("pspnet_ddcat", marks=pytest.mark.slow), "deeplabv3_ddcat"])
def test_branches_and_merged_logits_equal_those_of_the_authors_network(kind: str) -> None:
    state = random_state(kind, classes=5)
    images = torch.rand(2, 3, 57, 65, generator=torch.Generator().manual_seed(1))
    mask = reference(state, images)["mask1"]
    state["mask1.4.bias"][1] += (mask[:, 0] - mask[:, 1]).median()  # so that both branches are asked for
    official = from_official_state(state, where=kind)
    segmenter = official.segmenter
    assert segmenter.num_classes == 5
    with torch.no_grad():
        truth = reference(state, images)
        assert close(segmenter(images), truth["cls1"])
        ours = classified(
            segmenter, images, cls1=segmenter.classifier, cls2=official.auxiliary_branch, mask1=official.mask_branch
        )
    ours["aux_cls1"] = ours.pop("aux")
    assert truth.keys() == ours.keys()
    assert all(close(ours[head], truth[head]) for head in truth)

    gate = truth["mask1"].argmax(1, keepdim=True)
    assert 0 < gate.float().mean() < 1
    assert close(Branches(ours["cls1"], ours["cls2"], ours["mask1"]).merged(), merged(truth))


@pytest.mark.parametrize("kind", [pytest.param("pspnet_ddcat", marks=pytest.mark.slow), "deeplabv3_ddcat"])
def test_ddcat_s_loss_terms_equal_the_authors(kind: str) -> None:
    state = random_state(kind, classes=5)
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(4, 3, 41, 41, generator=generator)
    masks = torch.randint(5, (4, 41, 41), generator=generator)
    masks[:, :, :6] = 255
    with torch.no_grad():
        mask = reference(state, images)["mask1"]
        state["mask1.4.bias"][1] += (mask[:, 0] - mask[:, 1]).median()
        official = from_official_state(state, where=kind)
        network = ddcat(official.segmenter, attack=contrast.bind())
        network.auxiliary_branch, network.mask_branch = official.auxiliary_branch, official.mask_branch
        losses = network.eval().loss(images, masks, generator)

        attacked = contrast(nn.Identity(), images, masks)
        flips = merged(reference(state, images)).argmax(1) != merged(reference(state, attacked)).argmax(1)
        flips[2:] = False
        assert flips.any()
        truth = reference(state, torch.cat([images[:2], attacked[2:]]))
        terms = {
            "merged": F.cross_entropy(merged(truth), masks, ignore_index=255),
            "mask": F.cross_entropy(truth["mask1"], flips.long()),
            "auxiliary": F.cross_entropy(truth["aux_cls1"], masks, ignore_index=255),
        }
    for name, term in terms.items():
        torch.testing.assert_close(losses.terms[name], term, rtol=1e-4, atol=0)
    total = terms["merged"] + terms["mask"] + 0.4 * terms["auxiliary"]
    torch.testing.assert_close(losses.total, total, rtol=1e-4, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pspnet", "deeplabv3"])
def test_the_network_equals_the_authors_to_rounding_in_float64_where_no_dilation_leaves_the_image(kind: str) -> None:
    state = random_state(kind, seed=3)
    images = torch.rand(1, 3, 241, 217, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    segmenter = from_official_state(state, where=kind).segmenter.double()
    with torch.no_grad():
        truth = reference({key: value.double() for key, value in state.items()}, images)["cls"]
        # Not closer, because ours holds the mean colour in float32.
        torch.testing.assert_close(segmenter(images), truth, rtol=1e-6, atol=1e-6 * truth.abs().max().item())


@pytest.mark.parametrize(("kind", "prefix"), [*((kind, "module.") for kind in KINDS), ("deeplabv3_ddcat", "")])
def test_a_file_of_each_kind_loads_with_and_without_prefix(tmp_path: Path, kind: str, prefix: str) -> None:
    path = checkpoint(tmp_path / "train_epoch_50.pth", hollow_state(kind), prefix)
    official = load_official_training(path)
    assert official.architecture == kind.removesuffix("_ddcat")
    assert official.segmenter.num_classes == 21
    assert not official.segmenter.training
    assert (official.mask_branch is not None) == kind.endswith("_ddcat")
    millions = sum(p.numel() for p in official.segmenter.parameters()) / 1e6
    assert round(millions, 2) == {"pspnet": 49.08, "deeplabv3": 39.44}[official.architecture]
    values = {*official.segmenter.state_dict().values()}
    assert all((value == (0.5 if value.ndim else 7)).all() for value in values)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("pspnet", "layer4.0.downsample.1.num_batches_tracked"),
        ("deeplabv3", "layer3.2.bn2.running_var"),
        ("deeplabv3_ddcat", "cls2.0.weight"),
    ],
)
def test_a_missing_a_renamed_and_a_misshapen_key_are_each_named(kind: str, key: str) -> None:
    state = hollow_state(kind)
    missing = {name: value for name, value in state.items() if name != key}
    with pytest.raises(ModelError, match=f"file.pth: .*missing: {key}$"):
        from_official_state(missing, where="file.pth")
    with pytest.raises(ModelError, match=f"missing: {key}; unexpected: {key}_old$"):
        from_official_state({**missing, f"{key}_old": state[key]}, where="file.pth")
    with pytest.raises(ModelError, match=rf"misshapen: {key} is \(5,\) instead of"):
        from_official_state({**missing, key: torch.zeros(5)}, where="file.pth")


@pytest.mark.parametrize("key", ["cls.4.weight", "ppm.features.2.1.weight", "aux.0.weight"])
def test_a_missing_key_of_a_head_is_named(key: str) -> None:
    state = hollow_state("pspnet")
    del state[key]
    with pytest.raises(ModelError, match=f"missing: {key}$"):
        from_official_state(state, where="file.pth")


def test_heads_of_two_kinds_in_one_file_are_an_error() -> None:
    state = hollow_state("pspnet_ddcat") | hollow_state("pspnet")
    with pytest.raises(ModelError, match=r"unexpected: aux\.0\.weight"):
        from_official_state(state, where="file.pth")


def test_a_backbone_file_is_told_from_a_network() -> None:
    state = {key: value for key, value in hollow_state("pspnet").items() if key.startswith("layer")}
    with pytest.raises(ModelError, match="not a checkpoint of the DDC-AT authors"):
        from_official_state(state, where="resnet50_v2.pth")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("went-off"),)


def test_a_file_with_code_in_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": hollow_state("pspnet"), "args": Bomb()}, "bomb.pth")
    with pytest.raises(ModelError, match=r"bomb\.pth: refused"):
        load_official("bomb.pth")
    assert not Path("went-off").exists()
