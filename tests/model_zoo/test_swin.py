from __future__ import annotations

import pytest
import timm
import torch

from segbench.model_zoo.encoders import load_encoder
from segbench.model_zoo.swin import Size, SwinEncoder

SMALL = Size(24, (2, 2), 3)


def test_features_are_those_of_timm_where_windows_need_no_padding(tmp_path) -> None:
    theirs = timm.create_model(
        "swin_tiny_patch4_window7_224",
        features_only=True,
        out_indices=(0, 1),
        always_partition=True,
        embed_dim=24,
        depths=(2, 2),
        num_heads=(3, 6),
    ).eval()
    torch.save(theirs.state_dict(), tmp_path / "swin.pth")
    ours = SwinEncoder(SMALL).eval()
    load_encoder(ours, tmp_path / "swin.pth")
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        for mine, other in zip(ours(images), theirs(images), strict=True):
            torch.testing.assert_close(mine, other.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (29, 40), (57, 111)])
def test_images_of_any_size_have_maps_of_a_quarter_and_an_eighth_rounded_up(size: tuple[int, int]) -> None:
    first, second = SwinEncoder(SMALL)(torch.rand(1, 3, *size))
    assert first.shape[2:] == tuple(-(-side // 4) for side in size)
    assert second.shape[2:] == tuple(-(-side // 8) for side in size)
