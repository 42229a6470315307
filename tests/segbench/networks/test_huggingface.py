from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from segbench.config.network import Convention
from segbench.errors import SegbenchError
from segbench.networks import loaders
from segbench.networks.adapter import Adapter
from segbench.networks.mask_classes import SCORES, MaskClassifier

Folder = Callable[[str], Path]
PIXELS = (
    *("segformer", "upernet-swin", "upernet-convnext", "upernet-beit", "beit", "data2vec", "dpt"),
    *("dpt-hybrid", "mobilenet_v2", "mobilevit"),
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


def changed(folder: Path, source: Path, **options: Any) -> Path:
    """A copy of a network's folder with other options in its config.json."""
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    stated = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**stated, **options}))
    return folder


@pytest.mark.parametrize(("family", "auxiliary"), [("maskformer", True), ("mask2former", False)])
def test_auxiliary_losses_of_its_training_change_nothing(
    family: str, auxiliary: bool, tmp_path: Path, family_folder: Folder
) -> None:
    folder = changed(tmp_path, family_folder(family), use_auxiliary_loss=auxiliary)
    with torch.no_grad():
        torch.testing.assert_close(adapted(folder)(image((67, 93))), adapted(family_folder(family))(image((67, 93))))


@pytest.mark.parametrize(
    ("options", "multiple"),
    [
        ({"model_type": "dinov2", "patch_size": 14}, 14),
        ({"model_type": "vitdet", "patch_size": 8}, 8),
        ({"model_type": "swin", "embed_dim": 8, "num_heads": [1, 1, 1, 1], "window_size": 4}, 1),
    ],
)
def test_a_backbone_of_whole_patches_sees_the_edges_of_every_image(
    options: dict[str, Any], multiple: int, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    stages = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
    vit = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 4, "intermediate_size": 16}
    shape = {"depths": [1, 1, 1, 1]} if options["model_type"] == "swin" else vit
    backbone = transformers.CONFIG_MAPPING[options["model_type"]](**stages, **shape, **options, image_size=56)
    config = transformers.UperNetConfig(
        backbone_config=backbone, hidden_size=8, pool_scales=[1, 2], num_labels=CHANNELS, use_auxiliary_head=False
    )
    transformers.UperNetForSemanticSegmentation(config).save_pretrained(tmp_path)
    adapter = adapted(tmp_path)
    assert adapter.convention.multiple == multiple
    shown = image((67, 93)).requires_grad_()
    (gradient,) = torch.autograd.grad(adapter(shown).square().sum(), shown)
    assert (gradient[..., -1, :].abs().amax() > 0).item()
    assert (gradient[..., -1].abs().amax() > 0).item()


def test_a_checkpoint_for_other_classes_is_an_error_that_names_the_shapes(
    tmp_path: Path, family_folder: Folder
) -> None:
    names = {str(place): f"class {place}" for place in range(9)}
    folder = changed(tmp_path, family_folder("segformer"), id2label=names)
    with pytest.raises(SegbenchError, match=r"lack 2 of its tensors: decode_head\.classifier\.bias is 6, not 9"):
        loaders.load(f"hf:{folder}", None, CHANNELS)
    notes = loaders.load(f"hf:{folder}", None, CHANNELS, incomplete=True).notes
    assert any("they are random numbers" in note for note in notes)


def test_a_part_without_a_say_may_be_missing_and_what_is_left_over_is_said(
    tmp_path: Path, family_folder: Folder
) -> None:
    folder = changed(tmp_path, family_folder("dpt"))
    state = load_file(folder / "model.safetensors")
    silent = [key for key in state if "fusion_stage.layers.0.residual_layer1" in key]
    assert len(silent) == 4
    kept = {key: tensor for key, tensor in state.items() if key not in silent}
    save_file({**kept, "scratch.weight": torch.zeros(2)}, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = loaders.load(f"hf:{folder}", None, CHANNELS)
    assert "the weights hold 1 tensors that it does not have: scratch.weight" in loaded.notes
    with torch.no_grad():
        torch.testing.assert_close(adapted(folder)(image((67, 93))), adapted(family_folder("dpt"))(image((67, 93))))


def test_weights_that_may_run_code_are_refused_without_advice_to_run_it(tmp_path: Path, family_folder: Folder) -> None:
    folder = changed(tmp_path, family_folder("segformer"))
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Path("code")}, folder / "pytorch_model.bin")
    with pytest.raises(SegbenchError, match="a pickle that holds more than tensors") as raised:
        loaders.load(f"hf:{folder}", None, CHANNELS)
    assert "weights_only" not in str(raised.value)


@pytest.mark.parametrize("text", ["{", '["a"]', '{"image_mean": [0.5, 0.5]}', '{"rescale_factor": "x"}'])
def test_a_damaged_description_of_the_input_is_an_error(text: str, tmp_path: Path, family_folder: Folder) -> None:
    folder = changed(tmp_path, family_folder("segformer"))
    (folder / "preprocessor_config.json").write_text(text)
    with pytest.raises(SegbenchError, match="the description of its input cannot be read"):
        loaders.load(f"hf:{folder}", None, CHANNELS)
    (folder / "preprocessor_config.json").unlink()
    notes = loaders.load(f"hf:{folder}", None, CHANNELS).notes
    assert any("it has no description of its input" in note for note in notes)


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
        ("own", "OwnForSegmentation", "built by code beside its weights, which segbench does not run"),
    ],
)
def test_other_networks_are_refused_before_they_are_built(
    kind: str, architecture: str, message: str, tmp_path: Path
) -> None:
    pytest.importorskip("transformers", reason="needs the extra hf")
    code = {"auto_map": {"AutoConfig": "own.Config"}} if kind == "own" else {}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "architectures": [architecture], **code}))
    with pytest.raises(SegbenchError) as raised:
        loaders.load(f"hf:{tmp_path}", None, CHANNELS)
    text = str(raised.value)
    assert text.startswith(f"hf:{tmp_path}: {architecture} is {message}; segbench evaluates networks that")
    assert "segformer" in text
    assert "mask2former" in text
    assert "\n" not in text


@pytest.mark.parametrize("place", ["a/b/c", "{folder}/config.json", "{folder}/none"])
def test_a_place_that_is_no_folder_is_an_error(place: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs the extra hf")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SegbenchError, match="there is no such folder"):
        loaders.load(f"hf:{place.format(folder=tmp_path)}", None, CHANNELS)


def test_oneformer_without_its_tokenizer_is_an_error_in_one_sentence(tmp_path: Path, family_folder: Folder) -> None:
    for file in family_folder("oneformer").iterdir():
        if file.name not in ("vocab.json", "merges.txt"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(SegbenchError, match="there is no tokenizer beside its weights"):
        loaders.load(f"hf:{tmp_path}", None, CHANNELS)
