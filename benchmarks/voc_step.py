"""What the paper's VOC matrix costs on this machine: `python benchmarks/voc_step.py VOC_FOLDER {train,evaluate}`.

`train` takes one step of DDC-AT (PSPNet on the deep-stem ResNet-50, batch 4, crop 473, augmented real images).
`evaluate` puts one real image through ddcat-crop-v1 under BIM-2. Weights are fresh: they do not change the cost. Each
prints wall-clock and processor time and the peak memory of its process, as JSON.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch
from torch.utils.data import default_collate

from segbench.config.load import load_matrix
from segbench.config.matrix import Recipe
from segbench.datasets.voc2012 import Voc2012
from segbench.execution import prepare
from segbench.seeding import generator
from segbench.tensors import predict
from segbench.training import batches, train

BATCH = 4


def main(folder: Path, what: str) -> None:
    matrix = load_matrix("voc2012-paper")
    plan = prepare.tentative_plan(matrix)
    cell = next(c for c in plan.trainings if c.model.name == "pspnet" and c.defense.name == "ddcat")
    recipe = Recipe.model_validate({**cell.recipe, "batch_size": BATCH})
    torch.manual_seed(0)
    defense = cell.build(21, 255).to(memory_format=torch.channels_last).train()
    dataset = Voc2012(folder)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    wall, processor = time.perf_counter(), time.process_time()
    if what == "train":
        seen = batches.TrainingImages(dataset, recipe, 0)
        batch = default_collate([seen[0, index] for index in range(BATCH)])
        images, masks = batch["images"].contiguous(memory_format=torch.channels_last), batch["masks"]
        optimizer = train.make_optimizer(defense, recipe)
        losses = defense.loss(images, masks, generator(0, "attack", 0))
        losses.total.backward()
        optimizer.step()
        result = {"images": list(images.shape), "loss": round(float(losses.total), 3)}
    else:
        _, image, mask = dataset.split("val")[0]
        preds = predict(defense.deploy(), image, protocol="ddcat-crop-v1", masks=mask.long(), attack="bim(steps=2)")
        result = {"image": list(image.shape), "preds": list(preds.shape)}
    result |= {
        "what": what,
        "wall_seconds": round(time.perf_counter() - wall, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "gib_before": round(resident, 2),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
