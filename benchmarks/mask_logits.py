"""What attacks reach through other logits of a mask classifier: `python benchmarks/mask_logits.py FOLDER`.

FOLDER is that of `mask_classification.py`, which trains the networks. Each map is monotone at every pixel, so that
labels stay as they are. It prints the mIoU under each attack of 4/255 by network and map.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import segbench

SPEC, LIMIT = "digits(size=48, train=2000, val=50, digits=[0, 1, 2])", 10
ATTACKS = ["clean", *(f"{name}(steps=10, eps=4/255, alpha=1/255)" for name in ("bim", "segpgd"))]
ATTACKS += [f"{name}(steps=20, eps=4/255)" for name in ("apgd", "sea")]


def over_deviation(logits: Tensor) -> Tensor:
    """Divide the logits of each pixel by their standard deviation over classes, which is taken as a constant."""
    return logits / logits.detach().std(1, keepdim=True).clamp_min(1e-6)


MAPS: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {
    "maskformer": {
        "log s": lambda logs: logs,
        "s": torch.exp,
        "log s - log(1 - s)": lambda logs: logs - torch.log1p(-logs.exp().clamp_max(1 - 1e-6)),
        "log s / 4": lambda logs: logs / 4,
        "log s / 16": lambda logs: logs / 16,
        "log s over deviation": over_deviation,
    },
    "upernet": {"logits": lambda logits: logits, "logits over deviation": over_deviation},
}


class Mapped(nn.Module):
    """A network with other logits, images in [0, 1] -> (N, C, H, W)."""

    def __init__(self, network: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.change = network, change

    def forward(self, images: Tensor) -> Tensor:
        """Return the changed logits."""
        return self.change(self.network(images))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for kind, maps in MAPS.items():
        network = segbench.load_model(f"hf:{folder / kind}", num_classes=4)
        for name, change in maps.items():
            found = segbench.evaluate(
                Mapped(network, change), SPEC, ATTACKS, limit=LIMIT, name=kind, store=folder / "logits" / kind
            )
            scores = {row.attack: round(row.miou, 1) for row in found.table.itertuples()}
            print(json.dumps({"network": kind, "logits": name, **scores}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
