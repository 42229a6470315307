"""What a record says of a network is enough to build it anew, and nothing that it says runs code or asks a hub."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from segbench.config.network import ExternalNetwork
from segbench.errors import SegbenchError
from segbench.networks.fingerprint import state_sha256
from segbench.networks.load import _adapted, _read
from segbench.networks.rebuilt import rebuilt
from segbench.reports.origins import described
from segbench.reports.records import Origin

NAMES = tuple("abcdef")
TINY = "smp:fpn?encoder_name=tu-mobilenetv3_small_050&decoder_pyramid_channels=8&decoder_segmentation_channels=32"


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def noted(load: str, **more: Any) -> tuple[Any, Origin]:
    """The adapter of a network, and what a record says of it, as JSON holds it."""
    external = ExternalNetwork(load=load, name="net", **more)
    found = _adapted(_read(external, len(NAMES)), external, len(NAMES))
    return found.adapter, Origin.model_validate_json(found.origin.model_dump_json())


def saved(network: torch.nn.Module, path: Path) -> Path:
    save_file({name: value.contiguous().clone() for name, value in network.state_dict().items()}, path)
    return path


def same(adapter: Any, other: Any) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(adapter(images), other(images))
    assert state_sha256(adapter.network) == state_sha256(other.network)


@pytest.mark.parametrize(
    "load", [TINY, "smp:fpn?encoder_name=mit_b0", "torchvision:lraspp_mobilenet_v3_large", "pspnet(encoder=tiny)"]
)
def test_networks_of_libraries_and_our_own(load: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    adapter, origin = noted(load, convention={"range": "0-255"}, classes={n: (5 - i,) for i, n in enumerate(NAMES)})
    assert origin.parameters == sum(p.numel() for p in adapter.network.parameters())
    told = dict(described(origin))
    assert told["channels of the classes"] == "a 5, b 4, c 3, d 2, e 1, f 0"
    assert "values 0-255" in told["input"]
    same(adapter, rebuilt(origin, NAMES, saved(adapter.network, tmp_path / "w.safetensors")))


@pytest.mark.parametrize("family", ["segformer", "maskformer", "oneformer", "eomt"])
def test_networks_of_transformers(family: str, family_folder: Callable[[str], Path]) -> None:
    folder = family_folder(family)
    adapter, origin = noted(f"hf:{folder}")
    assert origin.load == f"hf:{folder.name}"
    same(adapter, rebuilt(origin, NAMES, folder / "model.safetensors"))


def test_what_save_pretrained_of_smp_wrote(tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    network = smp.create_model("fpn", encoder_name="tu-mobilenetv3_small_050", encoder_weights=None, classes=6)
    network.save_pretrained(tmp_path / "mine")
    adapter, origin = noted(f"smp:{tmp_path / 'mine'}")
    assert (origin.load, origin.architecture.partition("?")[0]) == ("smp:mine", "smp:fpn")
    assert origin.file_sha256 is not None
    same(adapter, rebuilt(origin, NAMES, tmp_path / "mine" / "model.safetensors"))


def test_a_file_of_the_user_s_is_named_and_hashed_and_not_built(tmp_path: Path) -> None:
    text = "import torch\ndef build():\n    return torch.nn.Conv2d(3, 6, 1)\n"
    (tmp_path / "net.py").write_text(text)
    _, origin = noted(f"{tmp_path / 'net.py'}:build")
    (tmp_path / "net.py").write_text(text + "# more\n")
    _, other = noted(f"{tmp_path / 'net.py'}:build")
    assert (origin.load, origin.architecture, origin.parameters, origin.size) == ("net.py:build", "", 24, 96)
    assert None is not origin.source_sha256 != other.source_sha256


@pytest.mark.parametrize(
    ("architecture", "config", "text"),
    [
        ("evil.py:build", {}, "are not built anew"),
        ("memory:net", {}, "are not built anew"),
        ("net.onnx", {}, "are not built anew"),
        ("pspnet(encoder=tiny, weights=/etc/passwd)", {}, "would load other weights"),
        ("smp:someone/net", {}, "is no name of a part"),
        ("smp:unet?encoder_name=tu-hf_hub:someone/net", {}, "is no name of a part"),
        ("smp:unet?encoder_name=resnet18&encoder_weights=imagenet", {}, "would load other weights"),
        ("torchvision:fcn_resnet50?weights_backbone=DEFAULT", {}, "would load other weights"),
        ("hf:segformer", {"auto_map": {"AutoConfig": "someone/net--code.Config"}}, "is no name of a part"),
        ("hf:someone/net", {}, "is no name of a part"),
        ("hf:upernet", {"backbone": "resnet50"}, "looked for on a hub"),
        (
            "hf:dpt",
            {"backbone_config": {"model_type": "timm_backbone", "use_pretrained_backbone": True}},
            "other weights",
        ),
        ("hf:eomt", {"image_size": 1 << 20, "patch_size": 1 << 20}, "more than 8192 pixels"),
        ("smp:fpn?encoder_name=resnet18&decoder_pyramid_channels=900000", {}, "far larger than these weights"),
        ("hf:segformer", {"num_encoder_blocks": 1, "depths": [20_000]}, "far larger than these weights"),
        ("hf:segformer", {"hidden_sizes": [8, 8, 8, 1 << 40]}, "far larger than these weights"),
    ],
)
def test_a_record_that_would_run_code_ask_a_hub_or_take_all_memory(
    architecture: str, config: dict[str, Any], text: str, tmp_path: Path
) -> None:
    weights = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(4)}, weights)
    origin = Origin(load="net", architecture=architecture, config=config, parameters=1, size=1)
    with pytest.raises(SegbenchError, match=text):
        rebuilt(origin, NAMES, weights)


def test_an_input_that_would_take_all_memory(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(4)}, tmp_path / "w.safetensors")
    for convention in ({"multiple": 1 << 30}, {"size": [8, 1 << 30]}):
        origin = Origin(load="net", architecture="pspnet(encoder=tiny)", convention=convention, parameters=1, size=1)
        with pytest.raises(SegbenchError, match="more than 8192 pixels"):
            rebuilt(origin, NAMES, tmp_path / "w.safetensors")
