"""A report reads each record once, and shows no number of a file that was changed."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segbench.errors import SegbenchError, StoreError
from segbench.files import write_sealed
from segbench.result import stored_result
from segbench.store import Store, seen, whole
from segbench.store.seen import Seen
from segbench.store.whole import Whole


@pytest.fixture
def store(ran: Path, tmp_path: Path) -> Store:
    return Store(shutil.copytree(ran, tmp_path / "runs"))


def test_what_was_read_with_a_record_is_not_read_again(store: Store) -> None:
    known = Seen()
    digests = [record.digest for record in store.records(known)]
    plain = {digest: (store.counts(digest), store.image_names(digest), store.tallies(digest)) for digest in digests}
    for digest in digests:
        (store.eval_dir(digest) / "counts.npz").write_bytes(b"others")
        counts, names, tallies = plain[digest]
        assert counts is not None
        assert np.array_equal(store.evidence(known).counts(digest), counts)
        assert [np.array_equal(part, counts) for part in store.evidence(known).parts(digest)] == [True]
        assert store.image_names(digest, known) == names
        assert store.evidence(known).tallies(digest).keys() == tallies.keys()
        with pytest.raises(StoreError, match="checksum"):
            store.counts(digest)


def test_counts_beyond_the_room_are_read_again_and_checked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Seen(room=0)
    digest = store.records(known)[0].digest
    assert known.counts == {}
    counts = store.evidence(known).counts(digest)
    assert np.array_equal(counts, store.counts(digest))
    (store.eval_dir(digest) / "counts.npz").write_bytes(b"others")
    with pytest.raises(StoreError, match="checksum"):
        store.evidence(known).counts(digest)
    assert Seen().room == seen.MOST


def other_bytes(store: Store, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_score(store: Store, path: Path) -> None:
    """Give a record another score, under a checksum that fits."""
    content = _unsealed(path)
    content["scores"]["miou"] += 0.01
    write_sealed(path, content, path.relative_to(store.root).as_posix(), compact=True)


def other_place(store: Store, path: Path) -> None:
    other = next(digest for digest in store.evaluations() if digest != path.parent.name)
    path.write_bytes((store.eval_dir(other) / "record.json").read_bytes())


@pytest.mark.parametrize("change", [other_bytes, other_score, other_place])
def test_a_record_that_changed_after_a_scan_is_noticed_by_scan_and_report(
    store: Store, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "SETTLED", 0.0)
    time.sleep(0.02)
    scan = Whole(store)
    assert {scan.look(digest) for digest in store.evaluations()} == {(True, None)}
    scan.keep()
    assert stored_result(store, "tiny") is not None
    path = store.eval_dir(store.evaluations()[0]) / "record.json"
    change(store, path)
    assert Whole(store).look(path.parent.name)[1] is not None
    with pytest.raises(SegbenchError, match=path.parent.name):
        stored_result(store, "tiny")


def test_a_record_with_lines_as_earlier_versions_wrote_it_is_the_same(store: Store) -> None:
    before = store.records()
    for digest in store.evaluations():
        path = store.eval_dir(digest) / "record.json"
        write_sealed(path, _unsealed(path), path.relative_to(store.root).as_posix())
        assert path.read_text().count("\n") > 100
    assert store.records() == before


def _unsealed(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return {key: value for key, value in content.items() if key not in ("checksum", "format")}
