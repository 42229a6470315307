"""Write what of docs/leaderboard is made: run `python docs/generate_leaderboard.py` after a change of schema or papers.

The JSON Schema of entries, and the entries of published literature from the tables in `reports/published`.
"""

from __future__ import annotations

import csv
import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from segbench.components import specs
from segbench.leaderboard.checking import is_strong
from segbench.reports.leaderboard.entries import (
    BoardThreat,
    Entry,
    EntryResult,
    Links,
    Model,
    Procedure,
    Publication,
    ScoredData,
)
from segbench.reports.published import PAPERS
from segbench.reports.records import Component
from segbench.reports.sanity import budget_unused

FOLDER = Path(__file__).with_name("leaderboard")
DEFINED = ("bim", "sea")
"""Attacks whose published definition is ours; of others only the options are taken that were published."""
ADDED = datetime.date(2026, 11, 23)

Row = Mapping[str, str]


class Paper(NamedTuple):
    """What is known of a paper's tables.

    Attributes:
        cited: how the networks that it trained are marked.
        others: the mark of those that another paper trained, by defense, and what these learnt from besides.
        tables: those that are entered.
        absent: see `Procedure`.
        images: number of images of each dataset's split "val".
        protocols: short string of the protocol for each dataset.
        extra_data: what networks learnt from besides the dataset's training split, for each dataset.
        notes: what must be known of a network's numbers, by setting, dataset and defense.
        trainer: the paper that trained the others.
        matrices: the matrix of segbench with network, attacks and protocol, by dataset and defense.
        code: address of its code, where the authors offer the weights too.
    """

    cited: str
    others: Mapping[str, tuple[str, str]]
    tables: tuple[str, ...]
    absent: str
    images: Mapping[str, int]
    protocols: Mapping[str, str]
    extra_data: Mapping[str, str]
    notes: Mapping[tuple[str, str, str], str]
    trainer: str
    matrices: Mapping[tuple[str, str], str]
    code: str


BROKEN = "Croce et al. 2024 (Table 2) took the authors' PSPNet to 0.0 % at 4/255 with a stronger attack."
SBD = "SBD (10,582 training images in all)"
READ = {
    "xu2021": Paper(
        cited="Xu 2021",
        others={},
        tables=("1", "2", "4", "5"),
        absent="zero",
        images={"voc2012": 1449, "cityscapes": 500},
        protocols={"voc2012": "ddcat-crop-v1", "cityscapes": "ddcat-crop-v1(size=[512, 1024], crop=449)"},
        extra_data={"voc2012": SBD, "cityscapes": "none"},
        notes={("white-box", "voc2012", "sat"): BROKEN, ("white-box", "voc2012", "ddcat"): BROKEN},
        trainer="",
        matrices={
            (dataset, defense): f"{dataset}-paper"
            for dataset in ("voc2012", "cityscapes")
            for defense in ("none", "sat", "ddcat")
        },
        code="https://github.com/dvlab-research/Robust-Semantic-Segmentation",
    ),
    "croce2024": Paper(
        cited="Croce 2024",
        others={"sat": ("Xu 2021", SBD), "ddcat": ("Xu 2021", SBD)},
        tables=("1", "2"),
        absent="skip",
        images={"voc2012": 1449},
        protocols={"voc2012": "sea-v2"},
        extra_data={"voc2012": "further annotations of VOC (8,498 training images in all); ImageNet for the backbone"},
        notes={},
        trainer="xu2021",
        matrices={("voc2012", "pir-at"): "croce2024"},
        code="https://github.com/nmndeep/Robust-Segmentation",
    ),
}


def schema() -> str:
    """Return the JSON Schema of an entry."""
    content = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Entry.model_json_schema()}
    return json.dumps(content, indent=1) + "\n"


def literature() -> list[Entry]:
    """Return the entries of all papers."""
    return [entry for name, paper in READ.items() for entry in _entries(name, paper)]


def text(entry: Entry) -> str:
    """Return an entry's file."""
    return json.dumps(entry.model_dump(mode="json"), indent=1) + "\n"


def _entries(name: str, paper: Paper) -> Iterator[Entry]:
    content = (files("segbench.reports.published") / f"{name}.csv").read_text(encoding="utf-8")
    networks: dict[tuple[str, ...], list[Row]] = {}
    row: Row
    for row in csv.DictReader(content.splitlines()):
        if row["table"] in paper.tables:
            key = tuple(row[field] for field in ("table", "dataset", "setting", "model", "defense"))
            networks.setdefault(key, []).append(row)
    for rows in networks.values():
        boards: dict[tuple[str, float], list[Row]] = {}
        for row in rows:
            if row["attack"] != "clean":
                options = json.loads(row["options"])
                boards.setdefault((options.get("norm", "linf"), options["eps"]), []).append(row)
        clean = [row for row in rows if row["attack"] == "clean"]
        for (norm, eps), attacked in boards.items():
            yield _entry(name, paper, [*clean, *attacked], norm, eps)


def _entry(name: str, paper: Paper, rows: Sequence[Row], norm: str, eps: float) -> Entry:
    first = rows[0]
    dataset, setting, defense = first["dataset"], first["setting"], first["defense"]
    _, extra_data = paper.others.get(defense, ("", paper.extra_data[dataset]))
    code = READ[paper.trainer].code if defense in paper.others else paper.code
    illegible = [row for row in rows if not row["mean"]]
    notes = [paper.notes.get((setting, dataset, defense), "")]
    notes += [f"The value under {row['attack']} is illegible in our copy and left out." for row in illegible]
    return Entry(
        status="reported",
        added=ADDED,
        data=ScoredData(dataset=Component(name=dataset, short=dataset), split="val", images=paper.images[dataset]),
        protocol=Procedure.model_validate(
            {"component": specs.bound("protocol", paper.protocols[dataset]).identity, "absent": paper.absent}
        ),
        threat=BoardThreat.model_validate({"setting": setting, "norm": norm, "eps": eps}),
        model=Model(
            name=_called(first["model"], defense, paper),
            architecture=Component(name=first["model"], short=first["model"]),
            defense=Component(name=defense, short=defense),
            extra_data=extra_data,
        ),
        results=tuple(_result(row, setting, paper) for row in rows if row["mean"]),
        source=Publication(
            citation=PAPERS[name][0].partition(", Table")[0], url=PAPERS[name][1], where=f"Table {first['table']}"
        ),
        links=Links(code=code, weights=code),
        matrix=paper.matrices.get((dataset, defense)),
        notes=" ".join(note for note in notes if note),
    )


def _result(row: Row, setting: str, paper: Paper) -> EntryResult:
    attack = None if row["attack"] == "clean" else _attack(row["attack"], json.loads(row["options"]))
    # Each architecture of the paper is attacked with images made on the other one, trained by SAT.
    other = "deeplabv3" if row["model"] == "pspnet" else "pspnet"
    return EntryResult(
        attack=attack,
        source=_called(other, "sat", paper) if attack is not None and setting == "black-box" else None,
        strong=attack is not None and is_strong(attack, setting),
        mean=float(row["mean"]),
        std=float(row["std"]) if row["std"] else None,
        flags=("budget-unused",) if attack is not None and budget_unused(attack.options) else (),
        note=row["note"],
    )


def _attack(name: str, options: Mapping[str, object]) -> Component:
    if name in DEFINED:
        return specs.bound("attack", {"name": name, **options}).identity
    return Component(name=name, options=options, short=name)


def _called(model: str, defense: str, paper: Paper) -> str:
    cited, _ = paper.others.get(defense, (paper.cited, ""))
    return f"{model} {defense} ({cited})"


if __name__ == "__main__":
    (FOLDER / "entries").mkdir(parents=True, exist_ok=True)
    (FOLDER / "entry.schema.json").write_text(schema(), encoding="utf-8")
    for made in literature():
        path = FOLDER / "entries" / made.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(made), encoding="utf-8")
