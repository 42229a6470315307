"""Records with the reasons to distrust them, from what a store holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reports.records import Record
from segbench import sanity
from segbench.sanity import Measurements
from segbench.store import Store


def measurements(records: Iterable[Record], store: Store) -> dict[str, Measurements]:
    """Return what was measured of the networks that attacks were made on, by their digests.

    Args:
        records: evaluations.
        store: where the measurements are.
    """
    sources = {record.source.digest for record in records}
    return {digest: sanity.from_plain(found) for digest in sources if (found := store.measured(digest)) is not None}


def flagged(records: Iterable[Record], measured: Mapping[str, Measurements]) -> tuple[Record, ...]:
    """Return records with the sanity checks that they do not pass, judged beside each other.

    Args:
        records: evaluations.
        measured: see `measurements`.
    """
    known = tuple(records)
    raised = sanity.flags(known, measured)
    return tuple(record.model_copy(update={"flags": raised.get(record.digest, ())}) for record in known)
