from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from segbench.model_zoo.layout import layout

SCRIPT = """
import torch
from segbench.components import specs
from segbench.model_zoo.layout import layout

torch.set_num_threads(1)
segmenter = specs.bound("model", "pspnet(encoder=tiny, widths=[8, 16, 32, 32], bins=[1])").make(num_classes=4)
defense = specs.bound("defense", "teacher-student").make(segmenter=segmenter, aux_weight=0.4, ignore_index=255).train()
order = layout(defense, torch.device("cpu"))
defense.to(memory_format=order)
images = torch.rand(4, 3, 128, 128).contiguous(memory_format=order)
for _ in range(8):
    defense.loss(images, torch.zeros(4, 128, 128, dtype=torch.long), torch.Generator()).total.backward()
deployed = defense.deploy().eval()
for _ in range(8):
    deployed.adapt(images.contiguous(memory_format=torch.channels_last))
"""


def test_a_narrow_network_survives_the_gradients_of_its_weights() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("convolution", "device", "order"),
    [
        (nn.Conv2d(8, 16, 1, stride=2), "cpu", torch.contiguous_format),
        (nn.Conv2d(8, 16, 1, stride=2), "cuda", torch.channels_last),
        (nn.Conv2d(8, 16, 1), "cpu", torch.channels_last),
        (nn.Conv2d(8, 16, 3, stride=2), "cpu", torch.channels_last),
        (nn.Conv2d(16, 16, 1, stride=2), "cpu", torch.channels_last),
        (nn.Conv2d(8, 32, 1, stride=2), "cpu", torch.channels_last),
    ],
)
def test_only_narrow_networks_on_a_processor_are_contiguous(
    convolution: nn.Module, device: str, order: torch.memory_format
) -> None:
    assert layout(nn.Sequential(nn.ReLU(), convolution), torch.device(device)) == order
