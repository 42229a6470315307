"""A network that nobody hands over, in the three forms that segbench can judge all the same: a file, a service, PNGs.

`python closed_network.py export MODEL` writes a network, such as a training of a store, to closed.onnx.
`closed_network.py:labels` is a service: it answers with label maps and no more. `python closed_network.py predict SET
ANSWERS` writes the label map of every image of an attacked set.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image

import segbench

FILE = "closed.onnx"


def export(model: str) -> None:
    """Write a network that segbench loads to a file that takes any number of images of any size."""
    network = segbench.load_model(model).eval()
    axes = {"images": {0: "n", 2: "h", 3: "w"}}
    images = torch.rand(1, 3, 64, 64)
    torch.onnx.export(network, (images,), FILE, input_names=["images"], dynamic_axes=axes, dynamo=False)


def labels() -> Callable[[torch.Tensor], np.ndarray]:
    """Return what a service would be called by: images (N, 3, H, W) -> labels (N, H, W)."""
    session = onnxruntime.InferenceSession(FILE, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images.numpy()})[0].argmax(1).astype(np.uint8)


def predict(attacked: Path, answers: Path) -> None:
    """Write a label PNG for every PNG of an attacked set."""
    answer = labels()
    for path in sorted(attacked.glob("*/*.png")):
        image = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None] / 255
        out = answers / path.relative_to(attacked)
        out.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(answer(image)[0]).save(out)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["export", model]:
            export(model)
        case ["predict", attacked, answers]:
            predict(Path(attacked), Path(answers))
        case _:
            sys.exit(__doc__)
