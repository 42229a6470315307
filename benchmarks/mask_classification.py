"""What attacks reach on a mask classifier: `python benchmarks/mask_classification.py FOLDER`.

A small MaskFormer and a small UPerNet with the same ResNet backbone learn the `digits` scenes, the first by the losses
of its own library. Both are saved as transformers saves them, and segbench loads and attacks both as `hf:` networks. It
also attacks each through its probabilities and through logits over their deviation in place of its own, and through the
other network. The trained networks and the records stay in FOLDER. It prints the mIoU under each attack, by what the
attack was made on.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from torch.utils.data import default_collate

import segbench
from segbench.datasets.digits import Digits
from segbench.networks.mask_classes import log_class_scores

SIZE, DIGITS, SCENES = 48, [0, 1, 2], 2000
ITERATIONS = {"maskformer": 4000, "upernet": 420}
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
ATTACKS.append("sea(steps=100, eps=4/255)")
FROM_ELSEWHERE = [attack for attack in ATTACKS if attack.startswith(("bim", "sea(steps=20"))]
"""Attacks that are also made on something else than the network itself."""
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


def normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std


def train(kind: str, dataset: Digits, seed: int) -> Any:
    split = dataset.split("train")
    _, images, masks = default_collate([split[index] for index in range(len(split))])
    torch.manual_seed(seed)
    network = build(kind, len(dataset.classes)).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-4)
    steps = ITERATIONS[kind]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        chosen = torch.randint(len(images), (BATCH,))
        shown, labels = normalised(images[chosen].float() / 255), masks[chosen].long()
        if kind == "upernet":
            loss = network(shown, labels=labels).loss
        else:
            classes = [mask[mask != dataset.ignore_index].unique() for mask in labels]
            parts = [(mask == found[:, None, None]).float() for mask, found in zip(labels, classes, strict=True)]
            loss = network(shown, mask_labels=parts, class_labels=classes).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 500 == 0 or step == steps - 1:
            print(f"{kind}: step {step}, loss {loss.item():.3f}", flush=True)
    return network.eval()


class Logits(nn.Module):
    """A network as images in [0, 1] -> (N, C, H, W): logits; of MaskFormer, log scores."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits at the size of the images."""
        answer = self.network(normalised(images))
        if hasattr(answer, "logits"):
            return F.interpolate(answer.logits, images.shape[2:], mode="bilinear")
        masks = F.interpolate(answer.masks_queries_logits, images.shape[2:], mode="bilinear")
        return log_class_scores(answer.class_queries_logits, masks)


class Probabilities(Logits):
    """A network with probabilities in place of logits; of MaskFormer, the scores."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the probabilities at the size of the images."""
        logits = super().forward(images)
        per_pixel = isinstance(self.network, transformers.UperNetForSemanticSegmentation)
        return logits.softmax(1) if per_pixel else logits.exp()


class OverDeviation(Logits):
    """A network whose logits are divided by their standard deviation over the classes, pixel by pixel."""

    def forward(self, images: Tensor) -> Tensor:
        """Return such logits; the deviation is taken as a constant."""
        logits = super().forward(images)
        return logits / logits.detach().std(1, keepdim=True).clamp_min(1e-6)


def main(folder: Path, seed: int) -> None:
    torch.set_num_threads(1)
    dataset = Digits(size=SIZE, train=SCENES, val=50, digits=DIGITS)
    spec = f"digits(size={SIZE}, train={SCENES}, val=50, digits={DIGITS})"
    processor = {"image_processor_type": "MaskFormerImageProcessor", "do_resize": False, "size_divisor": 1}
    processor |= {"do_rescale": True, "rescale_factor": 1 / 255, "image_mean": MEAN, "image_std": STD}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for kind in ITERATIONS:
        if not (folder / kind / "config.json").is_file():
            network = train(kind, dataset, seed)
            network.config.id2label = dict(enumerate(dataset.classes))
            network.save_pretrained(folder / kind)
            (folder / kind / "preprocessor_config.json").write_text(json.dumps(processor))
    loaders = transformers.MaskFormerForInstanceSegmentation, transformers.UperNetForSemanticSegmentation
    for kind, other, loader in zip(ITERATIONS, reversed(ITERATIONS), loaders, strict=True):
        target, store = f"hf:{folder / kind}", folder / "runs"
        own = segbench.evaluate(target, spec, ATTACKS, store=store, limit=LIMIT)
        told = found[kind] = {"itself": {row.attack: round(row.miou, 1) for row in own.table.itertuples()}}
        own_weights = loader.from_pretrained(folder / kind).eval()
        substitutes = [f"hf:{folder / other}", *(change(own_weights) for change in (Probabilities, OverDeviation))]
        from_elsewhere = segbench.evaluate(
            *(target, spec, FROM_ELSEWHERE),
            **{"access": "scores", "substitutes": substitutes, "name": f"{kind}-closed"},
            **{"store": store, "limit": LIMIT},
        )
        for row in from_elsewhere.table.itertuples():
            told.setdefault(row.source_model, {})[row.attack] = round(row.miou, 1)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the networks and the records are kept")
    parser.add_argument("--seed", type=int, default=0, help="of the trainings")
    arguments = parser.parse_args()
    main(arguments.folder, arguments.seed)
