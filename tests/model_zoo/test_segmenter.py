from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from segbench.model_zoo.base import ModelError
from segbench.model_zoo.segmenter import MaskTransformer, segmenter

TINY = {"encoder": "tu-test_vit", "size": 64}


def test_logits_of_a_class_are_cosines_normalised_over_the_classes() -> None:
    torch.manual_seed(0)
    logits = MaskTransformer(64, 1, 0.0, 5).eval()(torch.rand(2, 64, 3, 4))
    assert logits.shape == (2, 5, 3, 4)
    torch.testing.assert_close(logits.mean(1), torch.zeros(2, 3, 4), rtol=0, atol=1e-5)
    assert (logits.var(1, unbiased=False) < 1).all()


def test_the_linear_decoder_is_one_convolution() -> None:
    network = segmenter(3, decoder="linear", **TINY)
    assert network.classifier.weight.shape == (3, 64, 1, 1)
    assert network(torch.rand(1, 3, 40, 50)).shape == (1, 3, 40, 50)


def test_position_embeddings_of_a_file_fit_other_sizes(tmp_path: Path) -> None:
    theirs = timm.create_model("test_vit", img_size=160)
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    ours = segmenter(3, weights=str(tmp_path / "vit.pth"), **TINY).trunk.encoder.model
    assert ours.pos_embed.shape == (1, 1 + 4 * 4, 64)
    assert torch.equal(ours.pos_embed[:, 0], theirs.pos_embed[:, 0])
    expected = theirs.pos_embed[:, 1:].mean(1)
    torch.testing.assert_close(ours.pos_embed[:, 1:].mean(1), expected, rtol=0, atol=0.02)
    assert torch.equal(ours.blocks[1].attn.qkv.weight, theirs.blocks[1].attn.qkv.weight)


@pytest.mark.parametrize(
    ("encoder", "message"), [("tu-resnet18", "cannot be built|no vision transformer"), ("vit", "timm encoders start")]
)
def test_other_encoders_are_refused(encoder: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        segmenter(3, encoder=encoder)
