"""The review of a submission: checks of files, numbers and budget, and repeated predictions."""

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
    """The outcome of a review.

    Attributes:
        problems: sentences on what is wrong.
        facts: sentences on what was checked and what was not.
        verification: the verification to write into the entry; None if there is a problem, or if a network did not
            predict its sample again.
    """

    problems: tuple[str, ...]
    facts: tuple[str, ...]
    verification: Verification | None = None


def verify(bundle: Path, weights: Sequence[Path] = (), given: Entry | None = None) -> Review:
    """Check a bundle; if weights are given, predict its sampled images again.

    Args:
        bundle: the zip file.
        weights: safetensors files of the entry's networks.
        given: the entry that the bundle must belong to; None: the entry in the bundle.

    Raises:
        LeaderboardError: the file is not a bundle, or a file is missing.
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
