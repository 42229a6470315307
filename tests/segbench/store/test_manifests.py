"""The file of a matrix: the same evaluations come back, and what they share is written once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from segbench.errors import StoreError
from segbench.files import write_sealed
from segbench.store import Store


@pytest.fixture
def store(ran: Path, tmp_path: Path) -> Store:
    return Store(shutil.copytree(ran, tmp_path / "runs"))


def test_what_evaluations_share_is_written_once(store: Store) -> None:
    manifest = store.manifest("tiny", filled=False)
    assert manifest is not None
    text = (store.root / "matrices" / "tiny.json").read_text()
    networks = {record.target.digest for record in manifest.records}
    assert len(manifest.records) > len(networks) > 1
    assert all(text.count(f'"{digest}"') == 1 for digest in networks)


def test_the_file_of_an_earlier_version_is_read(store: Store) -> None:
    manifest = store.manifest("tiny", filled=False)
    assert manifest is not None
    path = store.root / "matrices" / "tiny.json"
    filled = store.manifest("tiny")
    write_sealed(path, manifest.model_dump(mode="json"), "matrices/tiny.json")
    assert store.manifest("tiny", filled=False) == manifest
    assert store.manifest("tiny") == filled


@pytest.mark.parametrize("place", [-1, 1000, "0", None, 0.5])
def test_a_place_that_is_none_is_refused(store: Store, place: object) -> None:
    path = store.root / "matrices" / "tiny.json"
    content = json.loads(path.read_text())
    del content["checksum"], content["format"]
    content["records"][0]["target"] = place
    write_sealed(path, content, "matrices/tiny.json")
    with pytest.raises(StoreError, match="not a manifest of this version"):
        store.manifest("tiny", filled=False)
