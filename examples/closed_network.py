"""A network that nobody hands over, in the three forms that segbench can judge all the same: a file, a service, PNGs.

`python closed_network.py export MODEL` writes a network, such as a training of a store, to closed.onnx.
`closed_network.py:labels` is a service: it answers with label maps and no more. `python closed_network.py predict SET
ANSWERS` writes the label map of every image of an attacked set.
"""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image

import segbench

FILE = "closed.onnx"
SIZE = (48, 48)
"""Height and width of the images that the file takes: those of the digits scenes."""


def export(model: str) -> None:
    """Write a network that segbench loads to a file that takes any number of images."""
    network, images = segbench.load_model(model).eval(), torch.rand(1, 3, *SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of choices that are fixed for this size
        axes = {"images": {0: "n"}}
        torch.onnx.export(network, (images,), FILE, input_names=["images"], dynamic_axes=axes, dynamo=False)


def labels() -> Callable[[torch.Tensor], np.ndarray]:
    """Return the service: images (N, 3, H, W) -> labels (N, H, W)."""
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
