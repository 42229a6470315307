"""ONNX files as networks: their numbers are those of the network that was exported."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import segbench
from segbench.config.network import external_network
from segbench.errors import CellError, SegbenchError
from segbench.model_zoo.pspnet import pspnet
from segbench.networks import loaders
from segbench.networks.adapter import Adapter
from segbench.networks.load import open_adapter

onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.conv(images)
        return logits


class Labels(Small):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images).argmax(1)


class Several(Small):
    def forward(self, images: torch.Tensor) -> Any:
        logits = super().forward(images)
        return logits.mean(1), logits


class Rounded(Small):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images.float())


def seeded(kind: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind().eval()


def exported(network: nn.Module, path: Path, example: torch.Tensor, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no other package is called legacy
        torch.onnx.export(network, (example,), path, input_names=["images"], dynamo=False, **options)
    return path


FREE = {"dynamic_axes": {"images": {0: "n", 2: "h", 3: "w"}}}


def test_the_logits_are_those_of_the_network(tmp_path: Path) -> None:
    network = seeded(Small)
    path = exported(network, tmp_path / "net.onnx", IMAGES[:1], **FREE)
    adapter = open_adapter(external_network(str(path)), 4)
    with torch.no_grad():
        assert torch.allclose(adapter(IMAGES), network(IMAGES), atol=1e-5)
        assert torch.allclose(adapter(IMAGES[..., :9, :12]), network(IMAGES[..., :9, :12]), atol=1e-5)
    assert adapter.access == "scores"
    assert open_adapter(external_network(f"onnx:{path}"), 4)(IMAGES).shape == (3, 4, 16, 16)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_file_with_a_fixed_batch_gets_so_many_images_at_once(tmp_path: Path, batch: int) -> None:
    network = seeded(Small)
    path = exported(network, tmp_path / "net.onnx", IMAGES[:batch])
    with torch.no_grad():
        assert torch.allclose(open_adapter(external_network(str(path)), 4)(IMAGES), network(IMAGES), atol=1e-5)


def test_a_fixed_size_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = exported(seeded(Small), tmp_path / "net.onnx", IMAGES[:1])
    with pytest.raises(CellError, match=r"16 x 16 pixels alone, got 8 x 16; resize .* whole-v1\(size=\[16, 16\]\)"):
        open_adapter(external_network(str(path)), 4)(IMAGES[:, :, :8])


def test_outputs_of_labels_are_known_before_it_runs(tmp_path: Path) -> None:
    network = seeded(Labels)
    path = exported(network, tmp_path / "net.onnx", IMAGES[:1], **FREE)
    adapter = open_adapter(external_network(str(path)), 4)
    assert adapter.access == "labels"
    assert torch.equal(adapter(IMAGES).argmax(1), network(IMAGES))


def test_of_several_outputs_one_is_named(tmp_path: Path) -> None:
    network = seeded(Several)
    path = exported(network, tmp_path / "net.onnx", IMAGES[:1], output_names=["mean", "classes"], **FREE)
    with pytest.raises(CellError, match="with mean, classes, not logits"):
        open_adapter(external_network(str(path)), 4)(IMAGES)
    named: Adapter = open_adapter(external_network({"load": str(path), "output": "classes"}), 4)
    with torch.no_grad():
        assert torch.allclose(named(IMAGES), network(IMAGES)[1], atol=1e-5)


class Turned(nn.Module):
    """A network whose input or output has its channels last."""

    def __init__(self, inside: bool, outside: bool) -> None:
        super().__init__()
        self.network, self.inside, self.outside = seeded(Small), inside, outside

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.network(images.permute(0, 3, 1, 2) if self.inside else images)
        return found.permute(0, 2, 3, 1) if self.outside else found


@pytest.mark.parametrize(("inside", "outside"), [(True, True), (True, False), (False, True)])
def test_channels_may_be_last(inside: bool, outside: bool, tmp_path: Path) -> None:
    network = Turned(inside, outside).eval()
    example = (IMAGES.permute(0, 2, 3, 1) if inside else IMAGES)[:1]
    axes = {0: "n", 1: "h", 2: "w"} if inside else {0: "n", 2: "h", 3: "w"}
    path = exported(network, tmp_path / "net.onnx", example, dynamic_axes={"images": axes})
    with torch.no_grad():
        found = open_adapter(external_network(str(path)), 4)(IMAGES)
        assert torch.allclose(found, network.network(IMAGES), atol=1e-5)


def test_images_are_given_as_numbers_of_64_bits_where_a_file_takes_these(tmp_path: Path) -> None:
    path = exported(seeded(Rounded), tmp_path / "net.onnx", IMAGES[:1].double(), **FREE)
    with torch.no_grad():
        found = open_adapter(external_network(str(path)), 4)(IMAGES)
        assert torch.allclose(found, seeded(Small)(IMAGES), atol=1e-5)


def test_it_is_identified_by_its_bytes_and_not_by_its_place(tmp_path: Path) -> None:
    first = exported(seeded(Small), tmp_path / "net.onnx", IMAGES[:1], **FREE)
    (tmp_path / "other").mkdir()
    copy = Path(shutil.copy(first, tmp_path / "other" / "named-otherwise.onnx"))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        changed = exported(Small().eval(), tmp_path / "changed.onnx", IMAGES[:1], **FREE)
    found = [fingerprint_of(path) for path in (first, copy, changed)]
    assert found[0] == found[1]
    assert found[0]["state"] != found[2]["state"]


def fingerprint_of(path: Path) -> dict[str, str]:
    from segbench.networks.fingerprint import fingerprint

    made = fingerprint(loaders.load(str(path), None, 4).network)
    assert not made.uncovered
    return made.hashes


def test_weights_beside_the_file_count(tmp_path: Path) -> None:
    path = exported(seeded(Small), tmp_path / "net.onnx", IMAGES[:1], **FREE)
    model = onnx.load(str(path))
    outside = tmp_path / "outside.onnx"
    onnx.save_model(model, str(outside), save_as_external_data=True, location="net.bin", size_threshold=0)
    before = fingerprint_of(outside)
    with torch.no_grad():
        alike = open_adapter(external_network(str(outside)), 4)(IMAGES)
        assert torch.allclose(alike, open_adapter(external_network(str(path)), 4)(IMAGES))
    values = np.fromfile(tmp_path / "net.bin", np.float32)
    values[0] += 1
    values.tofile(tmp_path / "net.bin")
    assert fingerprint_of(outside)["state"] != before["state"]
    (tmp_path / "net.bin").unlink()
    with pytest.raises(SegbenchError, match=r"its weights lie in 'net.bin', which is not beside it"):
        loaders.load(str(outside), None, 4)
    for tensor in (hostile := onnx.load(str(outside), load_external_data=False)).graph.initializer:
        tensor.external_data[0].value = "../../etc/passwd"
    onnx.save_model(hostile, str(outside))
    with pytest.raises(SegbenchError, match="outside its folder"):
        loaders.load(str(outside), None, 4)


@pytest.mark.parametrize(("content", "message"), [(b"", "not readable"), (b"\x08\x07nonsense", "not readable")])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "net.onnx"
    with pytest.raises(SegbenchError, match="there is no such file"):
        loaders.load(str(path), None, 4)
    path.write_bytes(content)
    with pytest.raises(SegbenchError, match=message):
        loaders.load(str(path), None, 4)
    with pytest.raises(SegbenchError, match="holds its weights"):
        loaders.load(str(path), "weights.pth", 4)


def test_an_evaluation_gives_the_scores_of_the_network_itself(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = pspnet(6, encoder="tiny", widths=(4, 4, 6, 6), bins=(1, 2), channels=4, auxiliary=False).eval()
        for parameter in network.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))  # so that it predicts more than one class
    batch = {"dynamic_axes": {"images": {0: "n"}}}
    path = exported(network, tmp_path / "net.onnx", torch.rand(2, 3, 32, 32), **batch)
    data, attacks = "digits(size=32, val=4)", ["clean", "square(queries=8)", "label-square(steps=8)"]
    results = [
        segbench.evaluate(model, data, attacks, store=tmp_path / "runs", device="cpu", name=name, force=True)
        for model, name in ((network, "torch"), (str(path), "onnx"))
    ]
    for attack in attacks:
        own, of_file = (result.miou(attack) for result in results)
        assert own == pytest.approx(of_file, abs=0.1)
    assert results[0].miou("clean") > 0
    through = segbench.evaluate(
        str(path),
        data,
        ["bim(steps=2)"],
        store=tmp_path / "through",
        device="cpu",
        force=True,
        substitutes=[network],
    )
    (record,) = through.records
    assert (record.setting, record.status, record.target.access) == ("black-box", "done", "scores")
    assert record.scores is not None
    white = segbench.evaluate(network, data, ["bim(steps=2)"], store=tmp_path / "white", device="cpu", force=True)
    assert record.scores.miou == pytest.approx(white.miou("bim(steps=2)"), abs=0.1)
