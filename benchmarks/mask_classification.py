"""What attacks reach on a mask classifier: `python benchmarks/mask_classification.py FOLDER`.

A small MaskFormer and a small UPerNet with the same ResNet backbone learn the `digits` scenes, the first by the losses
of its own library. Both are saved as transformers saves them, and segbench loads and attacks both as `hf:` networks.
The trained networks and the records stay in FOLDER. It prints the mIoU under each attack.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.utils.data import default_collate

import segbench
from segbench.datasets.digits import Digits

SIZE, DIGITS = 48, [0, 1, 2]
ITERATIONS = {"maskformer": 1200, "upernet": 150}
"""As many as the network needs to be about as accurate as the other."""
BATCH, LIMIT = 16, 20
RADII = {"1/255": "0.25/255", "4/255": "1/255"}
"""Step sizes of BIM and SegPGD by radius."""
ATTACKS = ["clean"] + [
    attack
    for eps, alpha in RADII.items()
    for attack in (
        *(f"{name}(steps=10, eps={eps}, alpha={alpha})" for name in ("bim", "segpgd")),
        *(f"{name}(steps=20, eps={eps})" for name in ("apgd", "sea")),
    )
]
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


def build(kind: str, num_classes: int) -> Any:
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], layer_type="basic", out_features=stages
    )
    if kind == "upernet":
        config = transformers.UperNetConfig(
            backbone_config=backbone, hidden_size=32, num_labels=num_classes, use_auxiliary_head=False
        )
        return transformers.UperNetForSemanticSegmentation(config)
    decoder = transformers.DetrConfig(
        **{"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "num_queries": 8, "dropout": 0.0},
        **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64},
    )
    config = transformers.MaskFormerConfig(
        backbone_config=backbone,
        decoder_config=decoder,
        fpn_feature_size=32,
        mask_feature_size=32,
        num_labels=num_classes,
    )
    return transformers.MaskFormerForInstanceSegmentation(config)


def train(kind: str, dataset: Digits) -> Any:
    torch.manual_seed(0)
    network = build(kind, len(dataset.classes)).train()
    samples = dataset.split("train")
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-4)
    steps = ITERATIONS[kind]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    for step in range(steps):
        chosen = torch.randint(len(samples), (BATCH,))
        images, masks = default_collate([samples[int(index)][1:] for index in chosen])
        images, masks = (images / 255 - mean) / std, masks.long()
        if kind == "upernet":
            loss = network(images, labels=masks).loss
        else:
            classes = [mask[mask != dataset.ignore_index].unique() for mask in masks]
            parts = [(mask == found[:, None, None]).float() for mask, found in zip(masks, classes, strict=True)]
            loss = network(images, mask_labels=parts, class_labels=classes).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 500 == 0 or step == steps - 1:
            print(f"{kind}: step {step}, loss {loss.item():.3f}", flush=True)
    return network.eval()


def main(folder: Path) -> None:
    dataset = Digits(size=SIZE, train=400, val=50, digits=DIGITS)
    spec = f"digits(size={SIZE}, train=400, val=50, digits={DIGITS})"
    processor = {"image_processor_type": "MaskFormerImageProcessor", "do_resize": False, "size_divisor": 1}
    processor |= {"do_rescale": True, "rescale_factor": 1 / 255, "image_mean": MEAN, "image_std": STD}
    scores = {}
    for kind in ITERATIONS:
        if not (folder / kind / "config.json").is_file():
            network = train(kind, dataset)
            network.config.id2label = dict(enumerate(dataset.classes))
            network.save_pretrained(folder / kind)
            (folder / kind / "preprocessor_config.json").write_text(json.dumps(processor))
        result = segbench.evaluate(f"hf:{folder / kind}", spec, ATTACKS, store=folder / "runs", limit=LIMIT)
        scores[kind] = {row.attack: round(row.miou, 1) for row in result.table.itertuples()}
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
