from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from segbench.config.network import Convention
from segbench.errors import SegbenchError
from segbench.model_zoo.base import IMAGENET_MEAN, IMAGENET_STD, ModelError
from segbench.model_zoo.official import PLAIN, _renamed
from segbench.model_zoo.pspnet import pspnet
from segbench.networks import loaders

IMAGES = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))

FILE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, num_classes, 3, padding=1)
    def forward(self, images):
        return {"out": self.conv(images)}

def build(num_classes):
    return Net(num_classes)

def build_with(weights=None):
    net = Net(2)
    net.told = weights
    return net

def broken():
    raise KeyError("no such thing")

def nothing():
    return 3

ready = Net(5)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(FILE)
    return path


def channels(loaded: loaders.Loaded, images: Tensor = IMAGES) -> int:
    with torch.no_grad():
        output: Any = loaded.network(images)
    output = output["out"] if isinstance(output, dict) and "out" in output else getattr(output, "logits", output)
    return int(output.shape[1])


@pytest.mark.parametrize(("name", "found"), [("build", 4), ("Net", 4), ("build_with", 2), ("ready", 5)])
def test_a_factory_of_a_file(file: Path, name: str, found: int) -> None:
    loaded = loaders.load(f"{file}:{name}", None, 4)
    assert channels(loaded) == found
    assert loaded.convention == Convention()
    assert not loaded.assured
    assert not loaded.network.training  # type: ignore[attr-defined]


def test_weights_go_to_the_factory_that_takes_them_and_into_the_network_else(file: Path, tmp_path: Path) -> None:
    weights = str(tmp_path / "w.safetensors")
    network: Any = loaders.load(f"{file}:build_with", None, 2).network
    assert network.told is None
    save_file({name: torch.zeros_like(value) for name, value in network.state_dict().items()}, weights)
    told: Any = loaders.load(f"{file}:build_with", weights, 2).network
    assert told.told == weights
    loaded: Any = loaders.load(f"{file}:build", weights, 2).network
    assert not any(value.any() for value in loaded.state_dict().values())
    with pytest.raises(ModelError, match="misshapen: conv"):
        loaders.load(f"{file}:build", weights, 3)


def test_a_factory_of_a_package(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file.parent / "a_package").mkdir()
    file.rename(file.parent / "a_package" / "nets.py")
    monkeypatch.chdir(file.parent)
    assert channels(loaders.load("a_package.nets:build", None, 4)) == 4


def test_torchvision() -> None:
    loaded = loaders.load("torchvision:lraspp_mobilenet_v3_large", None, 4)
    assert channels(loaded, torch.rand(1, 3, 32, 32)) == 4
    assert (loaded.convention.mean, loaded.convention.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_smp_states_its_convention() -> None:
    loaded = loaders.load("smp:fpn?encoder_name=mobilenet_v2", None, 4)
    assert channels(loaded, torch.rand(1, 3, 32, 32)) == 4
    assert loaded.convention == Convention(mean=IMAGENET_MEAN, std=IMAGENET_STD, multiple=32)


@pytest.fixture(scope="module")
def saved_smp(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A network of smp, and the folder that its save_pretrained wrote."""
    library = pytest.importorskip("segmentation_models_pytorch", reason="needs smp")
    network: nn.Module = library.create_model("fpn", encoder_name="mobilenet_v2", encoder_weights=None, classes=4)
    folder = tmp_path_factory.mktemp("saved") / "net"
    network.save_pretrained(folder)  # type: ignore[operator]
    return network.eval(), folder


def test_smp_loads_what_save_pretrained_wrote(saved_smp: tuple[nn.Module, Path]) -> None:
    network, folder = saved_smp
    loaded = loaders.load(f"smp:{folder}", None, 4)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(images), network(images))
    assert loaded.convention == Convention(mean=IMAGENET_MEAN, std=IMAGENET_STD, multiple=32)
    assert loaded.identity == {"smp": "FPN"}
    assert not any("no weights were loaded" in note for note in loaded.notes)


def test_smp_says_that_a_network_is_random() -> None:
    loaded = loaders.load("smp:fpn?encoder_name=mobilenet_v2", None, 4)
    assert "no weights were loaded: the network is random" in loaded.notes


def test_a_folder_of_smp_that_is_none_is_an_error_in_one_sentence(
    saved_smp: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    _, folder = saved_smp
    with pytest.raises(SegbenchError, match="leave out those after"):
        loaders.load(f"smp:{folder}?classes=3", None, 4)
    with pytest.raises(SegbenchError, match=r"holds no config\.json"):
        loaders.load(f"smp:{tmp_path}", None, 4)
    (tmp_path / "config.json").write_text('{"classes": 4}')
    with pytest.raises(SegbenchError, match="names no _model_class"):
        loaders.load(f"smp:{tmp_path}", None, 4)
    (tmp_path / "config.json").write_text('{"_model_class": "FPN", "encoder_name": "mobilenet_v2", "clases": 4}')
    with pytest.raises(SegbenchError, match="did you mean 'classes'"):
        loaders.load(f"smp:{tmp_path}", None, 4)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ModelError, match="there is no such file of weights"):
        loaders.load(f"smp:{tmp_path}", None, 4)


@pytest.mark.parametrize("spec", ["smp:unet?encoder=resnet18", "smp:unet?encoder_name=resnet18&encoder_wieghts=None"])
def test_misspelt_options_of_smp_are_refused(spec: str) -> None:
    with pytest.raises(SegbenchError, match="did you mean 'encoder_"):
        loaders.load(spec, None, 4)


def test_a_segformer_of_a_local_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    sizes = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 1, 1]}
    config = transformers.SegformerConfig(num_labels=4, decoder_hidden_size=8, **sizes)
    network = transformers.SegformerForSemanticSegmentation(config)
    network.save_pretrained(tmp_path / "segformer")
    (tmp_path / "segformer" / "preprocessor_config.json").write_text(
        '{"image_processor_type": "SegformerImageProcessor", "do_rescale": true, '
        '"rescale_factor": 0.00392156862745098, "do_normalize": true, '
        '"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}'
    )
    loaded = loaders.load(f"hf:{tmp_path / 'segformer'}", None, 4)
    assert channels(loaded, torch.rand(1, 3, 32, 32)) == 4
    assert loaded.convention == Convention(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    found: Any = loaded.network
    torch.testing.assert_close(found.state_dict(), network.state_dict())


def test_an_hf_network_that_is_not_there_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs the extra hf")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SegbenchError, match=r"empty: holds no config\.json"):
        loaders.load(f"hf:{tmp_path / 'empty'}", None, 4)


@pytest.mark.filterwarnings("ignore:.torch.jit.*:FutureWarning")
def test_torchscript(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)).eval()
    torch.jit.trace(network, IMAGES).save(tmp_path / "net.pt")
    loaded = loaders.load(str(tmp_path / "net.pt"), None, 4, trust=True)
    images = IMAGES.clone().requires_grad_()
    logits = loaded.network(images)
    torch.testing.assert_close(logits, network(IMAGES))
    assert torch.autograd.grad(logits.sum(), images)[0].any()


def test_an_exported_program(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)).eval()
    torch.export.save(torch.export.export(network, (IMAGES,)), tmp_path / "net.pt2")
    loaded = loaders.load(str(tmp_path / "net.pt2"), None, 4, trust=True)
    images = IMAGES.clone().requires_grad_()
    logits = loaded.network(images)
    torch.testing.assert_close(logits, network(IMAGES))
    assert torch.autograd.grad(logits.sum(), images)[0].any()
    program: Any = loaded.network
    program.eval()  # the program itself would refuse


def test_our_own_architecture_with_weights(tmp_path: Path) -> None:
    network = pspnet(4, encoder="tiny", channels=4)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    loaded = loaders.load("pspnet(encoder=tiny, channels=4)", str(tmp_path / "w.safetensors"), 4)
    assert loaded.assured
    torch.testing.assert_close(loaded.network(IMAGES), network.eval()(IMAGES))


@pytest.mark.slow
def test_an_official_checkpoint(tmp_path: Path) -> None:
    segmenter = pspnet(3, encoder="resnet50-deepstem").eval()
    names = {"trunk.encoder.": "", "trunk.context.branches.": "ppm.features.", **PLAIN}
    state = {f"module.{theirs}": value for theirs, (_, value) in _renamed(segmenter, names).items()}
    torch.save({"state_dict": state, "epoch": 50}, tmp_path / "psp.pth")
    loaded = loaders.load(str(tmp_path / "psp.pth"), None, 3)
    assert loaded.assured
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(IMAGES), segmenter(IMAGES))


def test_code_in_a_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(nn.Conv2d(3, 4, 1), path)
    with pytest.raises(ModelError, match="refused"):
        loaders.load(str(path), None, 4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing like this", "'nothing like this' is no network; it may be package.module:factory"),
        ("nowhere.py:build", "nowhere.py: there is no such file"),
        ("nowhere.pth", "nowhere.pth: there is no such file"),
        ("no_such_package:build", "no_such_package: cannot be imported"),
        ("torchvision:deeplabv3_resnet5", "did you mean 'deeplabv3_resnet50'"),
        ("torchvision:fcn_resnet50?weights=NONE_SUCH", "there are no such weights"),
        ("smp:unet?encoder_name=resnet340", "cannot be built"),
        ("smp:unet?resnet34", "expected NAME"),
        ("pspnet(encoder=tiny, chanels=4)", "did you mean 'channels'"),
        ("memory:1", "a network of another process"),
    ],
)
def test_a_mistake_is_one_sentence(spec: str, message: str) -> None:
    with pytest.raises(SegbenchError, match=message):
        loaders.load(spec, None, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("biuld", "did you mean 'build'"),
        ("broken", r"the factory failed \(KeyError: 'no such thing'\)"),
        ("nothing", "returned a int, not a network"),
    ],
)
def test_a_mistake_in_the_users_file_is_one_sentence(file: Path, name: str, message: str) -> None:
    with pytest.raises(SegbenchError, match=message):
        loaders.load(f"{file}:{name}", None, 4)


def test_a_file_may_import_what_lies_beside_it_but_shadows_nothing(tmp_path: Path) -> None:
    (tmp_path / "helper_of_net.py").write_text("CLASSES = 7\n")
    (tmp_path / "yaml.py").write_text("raise RuntimeError('a stranger')\n")
    text = "import yaml\nfrom helper_of_net import CLASSES\nfrom torch import nn\n"
    text += "build = lambda: nn.Conv2d(3, CLASSES, 1)\n"
    (tmp_path / "net.py").write_text(text)
    before = list(sys.path)
    assert channels(loaders.load(f"{tmp_path / 'net.py'}:build", None, 4)) == 7
    assert sys.path == before


def test_nothing_of_the_interface_imports_torch_before_it_is_used() -> None:
    code = (
        "import sys, segbench\nfrom segbench import cli\nassert 'torch' not in sys.modules\n"
        "segbench.evaluate\nassert 'torch' in sys.modules\nassert callable(segbench.predict)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
