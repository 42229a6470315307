"""A report is made again if, and only if, something that it is made of has changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segbench import result as results
from segbench.result import Result, stored_result
from segbench.store import Store, rendered

Made = list[Path]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """The folders of the reports that are rendered."""
    folders: Made = []
    render = results.render

    def counted(manifest: Any, folder: Path, formats: Any, **options: Any) -> list[Path]:
        folders.append(folder)
        return render(manifest, folder, formats, figures=False, **options)

    monkeypatch.setattr(results, "render", counted)
    return folders


@pytest.fixture
def store(ran: Path, tmp_path: Path, made: Made) -> Store:
    """A finished store whose report was just made."""
    store = Store(shutil.copytree(ran, tmp_path / "runs"))
    reported(store)
    assert made.pop() == store.report_dir("tiny")
    return store


def reported(store: Store, **options: Any) -> list[Path]:
    result = stored_result(store, "tiny")
    assert isinstance(result, Result)
    return result.report(formats=["html", "md"], **options)


def test_an_unchanged_report_is_not_made_again(store: Store, made: Made) -> None:
    before = {path: path.read_bytes() for path in store.report_dir("tiny").iterdir()}
    assert reported(store) == [store.report_dir("tiny") / name for name in ("report.html", "report.md")]
    assert made == []
    assert {path: path.read_bytes() for path in store.report_dir("tiny").iterdir()} == before


def other_record(store: Store) -> None:
    digest = store.evaluations()[0]
    record, counts, names = store.record(digest), store.counts(digest), store.image_names(digest)
    assert record is not None
    assert counts is not None
    assert names is not None
    store.write_record(record.model_copy(update={"notes": ("odd",)}), counts, names)


def other_measurements(store: Store) -> None:
    digest = next(own for own in store.trainings() if store.measured(own) is not None)
    (store.train_dir(digest) / "sanity.json").unlink()


def other_kept_images(store: Store) -> None:
    digest = next(own for own in store.evaluations() if store.kept_indices(own))
    record, counts, names = store.record(digest), store.counts(digest), store.image_names(digest)
    assert record is not None
    assert counts is not None
    assert names is not None
    store.write_record(record, counts, names)


def other_history(store: Store) -> None:
    digest = store.trainings()[0]
    weights = store.weights(digest).read_bytes()
    store.write_training(digest, weights, b"epoch,loss\n1,2.0\n", {"iterations": 1})


def damaged_page(store: Store) -> None:
    page = store.report_dir("tiny") / "report.html"
    page.write_bytes(page.read_bytes()[:-1])


def page_gone(store: Store) -> None:
    (store.report_dir("tiny") / "report.md").unlink()


def nothing_remembered(store: Store) -> None:
    shutil.rmtree(store.cache_dir / "reports")


@pytest.mark.parametrize(
    "change",
    [
        other_record,
        other_measurements,
        other_kept_images,
        other_history,
        damaged_page,
        page_gone,
        nothing_remembered,
    ],
)
def test_a_report_of_other_things_is_made_again(store: Store, made: Made, change: Callable[[Store], None]) -> None:
    change(store)
    reported(store)
    assert made == [store.report_dir("tiny")]


def test_other_options_and_other_code_make_another_report(
    store: Store, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported(store, provenance=True)
    assert len(made) == 1
    code = rendered._code()
    monkeypatch.setattr(rendered, "_code", lambda: [*code, "another template"])
    reported(store, provenance=True)
    assert len(made) == 2


def test_what_no_checksum_covers_is_made_each_time(store: Store, made: Made) -> None:
    record = store.eval_dir(store.evaluations()[0]) / "record.json"
    content = json.loads(record.read_text())
    del content["checksum"], content["format"]
    record.write_text(json.dumps(content))
    reported(store)
    reported(store)
    assert len(made) == 2
