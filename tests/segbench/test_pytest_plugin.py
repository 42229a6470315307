from __future__ import annotations

from importlib.metadata import entry_points

import pytest

pytest_plugins = ["pytester"]

USED = """
import numpy as np
import pytest
import torch
from PIL import Image

class Background(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 2, 1)
        torch.nn.init.zeros_(self.layer.weight)
        self.layer.bias.data = torch.tensor([1.0, 0.0])

    def forward(self, images):
        return self.layer(images)

@pytest.fixture(autouse=True, scope="module")
def leaves(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "leaves"
    for split, name in [("train", "a"), ("val", "a"), ("val", "b")]:
        for kind, shape in (("images", (8, 8, 3)), ("masks", (8, 8))):
            picture = np.zeros(shape, dtype=np.uint8)
            picture[4:] = 1  # the lower half is leaf
            (root / kind / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(root / kind / split / f"{name}.png")
    (root / "dataset.yaml").write_text("classes: [background, leaf]\\n")
    return f"folder:{root}"

def test_enough(assert_robust, leaves):
    miou = assert_robust(Background(), dataset=leaves, attack="bim(steps=1)", miou_at_least=25)
    assert miou == 25  # half of what it calls background is, and it never finds a leaf

def test_too_little(assert_robust, leaves):
    assert_robust(Background(), dataset=leaves, attack="bim(steps=1)", miou_at_least=40)
"""

UNUSED = """
import sys

def test_other():
    assert "segbench.pytest_plugin" in sys.modules
    assert "torch" not in sys.modules
"""


@pytest.fixture(autouse=True)
def _only_this_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    # The environment may register the plugin by its entry point too, and twice is once too often.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def test_a_network_s_own_repository_tests_its_robustness(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(USED)
    result = pytester.runpytest_subprocess("-p", "segbench.pytest_plugin", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*mIoU 25.00 under bim(steps=1) is below 40 (folder:*leaves, val, 2 images)*"])
    assert not (pytester.path / "runs").exists(), "nothing is left behind"


def test_torch_is_not_imported_where_it_is_not_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(UNUSED)
    pytester.runpytest_subprocess("-p", "segbench.pytest_plugin").assert_outcomes(passed=1)


def test_the_plugin_is_registered() -> None:
    found = [entry for entry in entry_points(group="pytest11") if entry.value == "segbench.pytest_plugin"]
    if not found:
        pytest.skip("the environment was installed before the package had this entry point; install it again")
    assert {entry.name for entry in found} == {"segbench"}
