from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from segbench.config.network import external_network
from segbench.errors import SegbenchError
from segbench.model_zoo.base import ModelError, Segmenter
from segbench.model_zoo.published import mmseg
from segbench.model_zoo.published.keys import renamed
from segbench.networks import loaders
from segbench.networks.load import _adapted, _read
from segbench.networks.rebuilt import rebuilt
from segbench.reports.records import Origin

CONFIG = "segformer_mit-b0_8xb2-160k_mydata-512x512"


def published(network: Segmenter, rules: tuple) -> dict[str, Tensor]:
    """A state dict with the published names; packed projections are put together again."""
    state: dict[str, Tensor] = {}
    for key, value in network.state_dict().items():
        name, change = renamed(key, rules)
        if change is not None and "ffn" in name and value.ndim == 2:
            value = value[:, :, None, None]
        state[name] = torch.cat([state[name], value]) if name in state else value
    return state


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network, rules = mmseg.build(mmseg.parse(CONFIG), 4, auxiliary=False)
    file = tmp_path_factory.mktemp("weights") / "iter_160000.pth"
    meta = {"dataset_meta": {"classes": ("a", "b", "c", "d"), "palette": [[0, 0, 0]]}, "epoch": 3}
    torch.save({"meta": meta, "state_dict": published(network, rules)}, file)
    return file


def test_weights_stand_beside_the_name_or_in_it(checkpoint: Path) -> None:
    short = external_network(f"mmseg:{CONFIG}?weights={checkpoint}")
    long = external_network({"load": f"mmseg:{CONFIG}", "weights": str(checkpoint)})
    assert short == long
    assert short.name == CONFIG
    loaded = loaders.load(short.load, short.weights, None)
    assert loaded.identity == {"mmseg": CONFIG}
    assert loaded.assured
    assert loaded.notes == ("weights: took 'state_dict'",)
    assert not loaded.network.training
    assert loaded.network(torch.rand(1, 3, 50, 71)).shape == (1, 4, 50, 71)


def test_a_record_and_the_published_file_are_enough_to_build_it_anew(checkpoint: Path) -> None:
    external = external_network(f"mmseg:{CONFIG}?weights={checkpoint}")
    found = _adapted(_read(external, 4), external, 4)
    origin = Origin.model_validate_json(found.origin.model_dump_json())
    assert origin.architecture == f"mmseg:{CONFIG}"
    again = rebuilt(origin, ("a", "b", "c", "d"), checkpoint)
    images = torch.rand(2, 3, 50, 71)
    with torch.no_grad():
        assert torch.equal(again(images), found.adapter(images))


def test_no_code_runs_and_names_are_checked(checkpoint: Path) -> None:
    assert not loaders.runs_code(f"mmseg:{CONFIG}")
    assert not loaders.runs_code("sea:pspnet-voc")
    for spec, weights, message in (
        (f"mmseg:{CONFIG}", None, rf"mmseg:{CONFIG} needs its weights: --weights FILE"),
        ("sea:pspnet-voc", None, "sea:pspnet-voc needs its weights"),
        ("sea:pspnet-cityscapes", None, "no network of sea 'pspnet-cityscapes'; did you mean"),
        (f"mmseg:{CONFIG}?weights=a.pth", str(checkpoint), "without another file of weights"),
    ):
        with pytest.raises(SegbenchError, match=message):
            loaders.load(spec, weights, None)
    with pytest.raises(ModelError, match=r"nowhere\.pth: there is no such file"):
        loaders.load("sea:pspnet-voc", "nowhere.pth", None)
    with pytest.raises(ModelError, match="these are no weights of this network; it holds backbone"):
        loaders.load("sea:upernet-convnext-t-voc", str(checkpoint), None)
    assert external_network("sea:pspnet-voc").awaits_weights
    assert not external_network(f"mmseg:{CONFIG}?weights={checkpoint}").awaits_weights
