"""How much CPU time and memory a report of many records takes: `python benchmarks/report.py [RECORDS]`."""

import hashlib
import itertools
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from segbench.reports.records import Component, Manifest, Network, Record, RecordedThreat, Scores, reader
from segbench.reports.render import render


def hexdigest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def component(name: str, **options: object) -> Component:
    text = ", ".join(f"{key}={value}" for key, value in options.items())
    return Component(name=name, options=options, short=f"{name}({text})" if options else name)


def network(model: int, defense: int, seed: int) -> Network:
    digest = hexdigest(model, defense, seed)
    return Network(
        model=component("unet", encoder=f"encoder{model}"),
        defense=component(f"defense{defense}"),
        recipe={"optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "epochs": 50},
        seed=seed,
        digest=digest,
        weights_sha256=hexdigest(digest),
    )


def record(target: Network, index: int) -> Record:
    attack = component("clean") if index == 0 else component("bim", eps=0.03, alpha=0.01, steps=index)
    miou = 70 * 0.97**index + target.seed % 7
    return Record(
        digest=hexdigest(target.digest, index),
        status="done",
        setting="clean" if index == 0 else "white-box",
        dataset=component("voc2012"),
        data_fingerprint="0" * 16,
        classes=tuple(f"class {c}" for c in range(21)),
        split="val",
        limit=None,
        n_images=1449,
        protocol=component("whole-v1"),
        absent="skip",
        target=target,
        source=target,
        attack=attack,
        threat=RecordedThreat(norm="linf" if index else None, eps=0.03 if index else None, access="gradients"),
        seed=0,
        scores=Scores(miou=miou, macc=miou, aacc=miou, class_iou=(miou,) * 21, miou_low=miou, miou_high=miou),
        budget_used=0.03 if index else None,
        provenance={"device": "cpu", "versions": {"torch": "2.15"}, "sweep_seconds": 1.0},
    )


def main(number: int) -> None:
    attacks, seeds, defenses = 20, 10, 20
    models = -(-number // (attacks * seeds * defenses))
    nets = (network(m, d, s) for m in range(models) for d in range(defenses) for s in range(seeds))
    with tempfile.TemporaryFile("w+") as store:
        for line in itertools.islice((record(net, index) for net in nets for index in range(attacks)), number):
            store.write(line.model_dump_json() + "\n")
        store.seek(0)
        started = time.process_time()
        read = reader()
        records = tuple(read(json.loads(line)) for line in store)
    manifest = Manifest(name="many", title="Many records", records=records)
    got = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        paths = render(manifest, Path(folder), ("html", "md", "csv", "cells", "tex"))
        sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.1f} MB" for path in paths)
    done = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{number:,} records: read {got - started:.1f} s, rendered {done - got:.1f} s, peak {peak:.2f} GiB; {sizes}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
