"""A submission checked by a reviewer: files, numbers, budget, and predictions made again."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from segbench.files import file_sha256
from segbench.leaderboard import archive, bundled, entering, predicting, sampling, scoring
from segbench.leaderboard.bundle import ENTRY
from segbench.leaderboard.entry_files import parse
from segbench.provenance import device_name
from segbench.reports.leaderboard.entries import Entry, Verification


@dataclass(frozen=True)
class Review:
    """What a reviewer is told.

    Attributes:
        problems: what does not hold, a sentence each.
        facts: what was checked, and what must be known of it.
        verification: for the entry; None unless all held and every network predicted its sample again.
    """

    problems: tuple[str, ...]
    facts: tuple[str, ...]
    verification: Verification | None = None


def verify(bundle: Path, weights: Sequence[Path] = (), given: Entry | None = None) -> Review:
    """Check a bundle, and with weights predict its sample again.

    Args:
        bundle: the zip file.
        weights: safetensors files of the entry's networks.
        given: the entry that the bundle stands for; by default the one in it.

    Raises:
        LeaderboardError: it is no bundle, or a file is missing.
    """
    files, problems = archive.read(bundle)
    entry, wrong = parse(files[ENTRY], ENTRY)
    problems += wrong
    if entry is None:
        return Review(tuple(problems), ())
    differing = entering.differing(entry, given) if given is not None else []
    problems += [f"{ENTRY}: {name} is not that of the entry {entry.path}" for name in differing]
    evaluations, wrong = bundled.gather(files, entry)
    problems += wrong
    problems += scoring.compare(entry, evaluations)
    problems += [problem for own in evaluations for problem in sampling.examine(own)]
    images = sum(len(own.sample) for own in evaluations)
    counted = sum(len(own.counts) for own in evaluations)
    facts = [f"checked: {len(evaluations)} evaluations, the counts of {counted:,} images, {images} sampled images"]
    if not weights:
        return Review(tuple(problems), (*facts, "no weights were given: nothing was predicted again"))
    found = predicting.predict(entry, evaluations, weights)
    problems += found.problems
    facts += found.facts
    if found.images:
        facts.append(
            f"{found.images} images predicted again: at most {100 * found.disagreement:.3g} % of pixels differ"
        )
    if problems or not found.complete:
        return Review(tuple(problems), tuple(facts))
    return Review(
        (),
        tuple(facts),
        Verification(
            date=datetime.date.today(),
            software=f"segbench {version('segbench')}, torch {torch.__version__}, {device_name(torch.device('cpu'))}",
            bundle_sha256=file_sha256(bundle),
            images=found.images,
            disagreement=round(found.disagreement, 6),
        ),
    )
