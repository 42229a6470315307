from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from segbench.networks.adapter import Adapter
from segbench.networks.processors import processor_of

IMAGE = torch.randint(0, 256, (3, 20, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
HALVES = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
STATED: list[dict[str, Any]] = [
    {},
    HALVES,
    {"image_mean": [0.5], "image_std": 0.25},
    {"image_mean": 0.0, "image_std": [0.5]},
    {"do_normalize": False},
    {"do_rescale": False, "image_mean": [123.7, 116.3, 103.5], "image_std": [58.4, 57.1, 57.4]},
    {"rescale_factor": 1 / 127.5, **HALVES},
    {"rescale_factor": 1 / 256, "do_normalize": False},
    {"do_rescale": False, "do_normalize": False},
]
KINDS = ("Segformer", "Beit", "DPT", "MobileNetV2", "MobileViT", "ConvNext", "Eomt")


@pytest.mark.parametrize("suffix", ["ImageProcessor", "FeatureExtractor"])
@pytest.mark.parametrize("kind", KINDS)
def test_images_become_input_as_the_library_makes_them(kind: str, suffix: str) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    key = "image_processor_type" if suffix == "ImageProcessor" else "feature_extractor_type"
    flips = [{"do_flip_channel_order": flip} for flip in (True, False)] if kind == "MobileViT" else []
    for stated in [*STATED, *flips]:
        stated = {**stated, "do_resize": False, "do_center_crop": False, key: f"{kind}{suffix}"}
        library = getattr(transformers, f"{kind}ImageProcessor")(**stated)
        expected = library([IMAGE], return_tensors="pt")["pixel_values"].float()
        adapter = Adapter(nn.Identity(), processor_of(stated).convention, 3)
        torch.testing.assert_close(adapter(IMAGE[None] / 255), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stated", [[0.5, 0.4], "half", None, []])
def test_a_mean_or_a_deviation_that_is_none_is_an_error(stated: Any) -> None:
    for key in ("image_mean", "image_std"):
        with pytest.raises(ValueError, match=f"{key} is"):
            processor_of({"image_processor_type": "SegformerImageProcessor", key: stated})
    with pytest.raises(ValueError, match="expected positive numbers"):
        processor_of({"image_processor_type": "SegformerImageProcessor", "image_std": [0.2, 0.0, 0.2]})


@pytest.mark.parametrize(
    ("kind", "size", "words"),
    [
        ("SegformerFeatureExtractor", 512, "resizes them to 512x512"),
        ("DPTFeatureExtractor", [384, 480], "resizes them to 384x480"),
        ("MaskFormerFeatureExtractor", 640, "resizes them to shortest edge 640"),
        ("MobileNetV2ImageProcessor", 300, "resizes them to shortest edge 300 and cuts out the middle 224x224"),
        ("EomtImageProcessor", {"shortest_edge": 640, "longest_edge": None}, "resizes them to shortest edge 640"),
    ],
)
def test_a_size_is_read_in_every_form_in_which_it_was_ever_written(kind: str, size: Any, words: str) -> None:
    pytest.importorskip("transformers", reason="needs the extra hf")
    key = "feature_extractor_type" if kind.endswith("Extractor") else "image_processor_type"
    assert processor_of({key: kind, "size": size}).resizing == words
