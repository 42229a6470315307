"""What is kept of an unfinished sweep, as far as it can be used."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from segbench.errors import StoreError
from segbench.evaluation import unfinished
from segbench.evaluation.opened import Opened
from segbench.evaluation.tally import Tally
from segbench.reporter import Reporter
from segbench.store import Store


def kept_from(
    opened: Opened,
    store: Store,
    reporter: Reporter,
    tallies: Mapping[str, Tally],
    shown: Collection[int],
    first: int,
) -> unfinished.Unfinished | None:
    """Return unfinished counts of a sweep from an image on; None where there are none that can be used.

    Args:
        opened: the sweep.
        store: where they are kept.
        reporter: hears why they cannot be used.
        tallies: what the sweep counts, by evaluation.
        shown: indices of the images that are kept as they were attacked.
        first: index of the image.
    """
    label = opened.sweep.label
    try:
        content = store.unfinished(opened.sweep.key, first)
        found = None if content is None else unfinished.unpack(content)
    except StoreError as error:
        reporter.say(f"{error}; the sweep starts again")
        return None
    if found is None or not found.names:
        return None
    if not found.fits(tallies, opened.weights):
        reporter.say(f"{label}: what was kept of it is of other evaluations; the sweep starts again")
        return None
    done = set(shown) & set(range(first, first + len(found.names)))
    for digest in tallies:
        kept = found.tallies[digest].kept
        if set(kept) != done or not all(store.keeps_image(digest, index, own) for index, own in kept.items()):
            reporter.say(f"{label}: its kept images are not whole; the sweep starts again")
            return None
    return found
