from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segbench.config.network import Convention
from segbench.errors import SegbenchError
from segbench.networks import loaders
from segbench.networks.adapter import Adapter
from segbench.networks.mask_classes import SCORES, MaskClassifier

Folder = Callable[[str], Path]
PIXELS = (
    *("segformer", "upernet-swin", "upernet-convnext", "upernet-beit", "beit", "data2vec", "dpt"),
    *("mobilenet_v2", "mobilevit"),
)
MASKS = ("maskformer", "mask2former", "oneformer", "eomt")
SIZES = ((96, 64), (67, 93))
CHANNELS = 6


def adapted(folder: Path) -> Adapter:
    loaded = loaders.load(f"hf:{folder}", None, CHANNELS)
    adapter = Adapter(loaded.network, loaded.convention, CHANNELS)
    return adapter.eval().requires_grad_(False)  # type: ignore[no-any-return]


def image(size: tuple[int, int]) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(size[0]))


def of_the_library(folder: Path, images: Tensor, adapter: Adapter) -> tuple[Tensor, Tensor]:
    """The label map and the scores of the library's own processor, network and post-processing."""
    import transformers

    stated = json.loads((folder / "preprocessor_config.json").read_text())
    kind = getattr(transformers, stated["image_processor_type"])
    if stated["image_processor_type"].startswith("OneFormer"):
        kind = transformers.MaskFormerImageProcessor  # OneFormer's own asks the network's hub for a file
        stated = {**stated, "image_processor_type": "MaskFormerImageProcessor"}
    processor = kind(**stated)
    resizes = adapter.convention.size is not None or stated.get("do_split_image", False)
    shown = processor(list(images), do_rescale=False, do_resize=resizes, do_center_crop=False, return_tensors="pt")
    values = shown["pixel_values"]
    multiple = adapter.convention.multiple
    padding = [-length % multiple for length in values.shape[-2:]]
    values = F.pad(values, (0, padding[1], 0, padding[0]))
    network: Any = adapter.network.network if isinstance(adapter.network, MaskClassifier) else adapter.network
    told: dict[str, Any] = {"patch_offsets": shown["patch_offsets"]} if "patch_offsets" in shown else {}
    if "task_inputs" in network.main_input_name:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
        words = transformers.OneFormerProcessor._preprocess_text
        one = type("One", (), {"tokenizer": tokenizer})()
        told["task_inputs"] = words(one, ["the task is semantic"], max_length=network.config.task_seq_len)
    with torch.no_grad():
        answer = network(values, **told)
    height, width = images.shape[-2:]
    target = (height + padding[0], width + padding[1])
    kinds: dict[str, Any] = {"oneformer": transformers.OneFormerImageProcessor}
    post = kinds.get(network.config.model_type, kind).post_process_semantic_segmentation
    (found,) = post(processor, answer, target_sizes=[target], return_segmentation_scores=True)
    return found.segmentation[:height, :width], found.segmentation_scores[:, :height, :width]


@pytest.mark.parametrize("family", [*PIXELS, *MASKS])
def test_labels_and_scores_are_those_of_the_library(family: str, family_folder: Folder) -> None:
    adapter = adapted(family_folder(family))
    for size in SIZES:
        images = image(size)
        labels, scores = of_the_library(family_folder(family), images, adapter)
        with torch.no_grad():
            found = adapter(images)[0]
        expected = scores.log() if family in MASKS else scores
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        best = scores.topk(2, dim=0).values
        clear = best[0] - best[1] > 1e-5 * best[0].abs()
        assert clear.float().mean() > 0.99
        assert torch.equal(found.argmax(0)[clear], labels[clear])


@pytest.mark.parametrize("family", [*PIXELS, *MASKS])
def test_gradients_reach_the_pixels(family: str, family_folder: Folder) -> None:
    adapter = adapted(family_folder(family)).double()
    if family == "eomt":  # torch's fused attention is wrong where the mask is float32 and the rest float64
        adapter.network.network.set_attn_implementation("eager")  # type: ignore[attr-defined]
    images = image((67, 93)).double()
    height = 1e-4 if family == "eomt" else 1e-6  # its softmax rounds to float32
    weights = torch.randn(1, CHANNELS, 67, 93, generator=torch.Generator().manual_seed(1)).double()

    def value(shown: Tensor) -> Tensor:
        return (adapter(shown) * weights).sum()

    shown = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(shown), shown)
    for side in (gradient[..., :6, :], gradient[..., -6:, :], gradient[..., :6], gradient[..., -6:]):
        assert side.abs().amax() > 1e-3 * gradient.abs().amax()
    for channel in range(3):
        row, column = divmod(int(gradient[0, channel].abs().argmax()), 93)
        place = (0, channel, row, column)
        step = torch.zeros_like(images)
        step[place] = height
        with torch.no_grad():
            slope = (value(images + step) - value(images - step)) / (2 * height)
        assert math.isclose(slope, gradient[place], rel_tol=1e-2)


@pytest.mark.parametrize("family", MASKS)
def test_a_mask_classifier_says_what_its_scores_are(family: str, family_folder: Folder) -> None:
    loaded = loaders.load(f"hf:{family_folder(family)}", None, CHANNELS)
    assert loaded.identity["scores"] == SCORES
    assert any("the score's logarithm is taken as the logit" in note for note in loaded.notes)
    assert "scores" not in loaders.load(f"hf:{family_folder('segformer')}", None, CHANNELS).identity


def test_a_maskformer_that_was_trained_with_auxiliary_losses_answers(tmp_path: Path, family_folder: Folder) -> None:
    for file in family_folder("maskformer").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "use_auxiliary_loss": True}))
    with torch.no_grad():
        torch.testing.assert_close(
            adapted(tmp_path)(image((67, 93))), adapted(family_folder("maskformer"))(image((67, 93)))
        )


def test_the_convention_is_as_the_processor_says(family_folder: Folder) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.25, 0.3, 0.2)
    plain = Convention(mean=mean, std=std)
    expected = {
        "segformer": plain,
        "beit": plain.model_copy(update={"multiple": 8}),
        "upernet-beit": plain.model_copy(update={"multiple": 8}),
        "data2vec": plain.model_copy(update={"size": (32, 32)}),
        "dpt": plain.model_copy(update={"size": (32, 32)}),
        "mobilevit": Convention(channels="bgr"),
        "mask2former": plain.model_copy(update={"multiple": 32}),
        "oneformer": plain,
        "eomt": plain,
    }
    for family, convention in expected.items():
        assert loaders.load(f"hf:{family_folder(family)}", None, CHANNELS).convention == convention, family


@pytest.mark.parametrize(
    ("family", "note"),
    [
        ("segformer", "takes images and resizes them to 32x32; segbench shows them at their own size"),
        ("mobilenet_v2", "resizes them to 32x32 and cuts out the middle 24x24; segbench shows them at their own size"),
        ("dpt", "images are resized to 32x32 and logits back"),
        ("eomt", "images are resized to a short side of 32 and shown in windows"),
        ("beit", "it learned with label 0 of the masks left out: its first channel is label 1"),
    ],
)
def test_what_the_processor_does_and_segbench_does_not_is_said(family: str, note: str, family_folder: Folder) -> None:
    notes = loaders.load(f"hf:{family_folder(family)}", None, CHANNELS).notes
    assert any(note in one for one in notes), notes


@pytest.mark.parametrize(
    ("kind", "architecture", "message"),
    [
        ("sam", "SamModel", "told by a prompt what to look for"),
        ("sam2_video", "Sam2VideoModel", "a network of video"),
        ("clipseg", "CLIPSegForImageSegmentation", "told by a prompt what to look for"),
        ("videomae", "VideoMAEForPreTraining", "a network of video"),
        ("video_mask2former", "Mask2FormerForVideoSegmentation", "a network of video"),
        ("mask2former", "Mask2FormerForVideoSegmentation", "a network of video"),
        ("videomt", "VideomtForUniversalSegmentation", "a network of video"),
        ("timesformer", "TimesformerForVideoClassification", "a network of video"),
        ("bert", "BertModel", "no network of semantic segmentation"),
        ("detr", "DetrForSegmentation", "no network of semantic segmentation"),
        ("unheard-of", "Unheard", "no network of semantic segmentation"),
    ],
)
def test_other_networks_are_refused_before_they_are_built(
    kind: str, architecture: str, message: str, tmp_path: Path
) -> None:
    pytest.importorskip("transformers", reason="needs the extra hf")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "architectures": [architecture]}))
    with pytest.raises(SegbenchError) as raised:
        loaders.load(f"hf:{tmp_path}", None, CHANNELS)
    text = str(raised.value)
    assert text.startswith(f"hf:{tmp_path}: {architecture} is {message}; segbench evaluates networks that")
    assert "segformer" in text
    assert "mask2former" in text
    assert "\n" not in text


def test_oneformer_without_its_tokenizer_is_an_error_in_one_sentence(tmp_path: Path, family_folder: Folder) -> None:
    for file in family_folder("oneformer").iterdir():
        if file.name not in ("vocab.json", "merges.txt"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(SegbenchError, match="there is no tokenizer beside its weights"):
        loaders.load(f"hf:{tmp_path}", None, CHANNELS)
