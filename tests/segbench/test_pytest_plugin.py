from __future__ import annotations

from importlib.metadata import entry_points

import pytest

pytest_plugins = ["pytester"]

USED = """
import pytest
import torch

DATASET = "digits(size=16, train=4, val=3, dev=2, digits=[0, 1])"

class Background(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, 1)
        torch.nn.init.zeros_(self.layer.weight)
        self.layer.bias.data = torch.tensor([1.0, 0.0, 0.0])

    def forward(self, images):
        return self.layer(images)

def test_enough(assert_robust):
    miou = assert_robust(Background(), dataset=DATASET, attack="bim(steps=1)", miou_at_least=5)
    assert 5 <= miou <= 34  # one of three classes is found, the two others never

def test_too_little(assert_robust):
    assert_robust(Background(), dataset=DATASET, attack="bim(steps=1)", miou_at_least=40)
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
    result.stdout.fnmatch_lines(["*mIoU * under bim(steps=1) is below 40 (digits(*), val, 3 images)*"])
    assert not (pytester.path / "runs").exists(), "nothing is left behind"


def test_torch_is_not_imported_where_it_is_not_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(UNUSED)
    pytester.runpytest_subprocess("-p", "segbench.pytest_plugin").assert_outcomes(passed=1)


def test_the_plugin_is_registered() -> None:
    found = [entry for entry in entry_points(group="pytest11") if entry.value == "segbench.pytest_plugin"]
    if not found:
        pytest.skip("the environment was installed before the package had this entry point; install it again")
    assert {entry.name for entry in found} == {"segbench"}
