"""Records read back as they were written, equal parts as one object."""

import json

import pytest
from pydantic import ValidationError

from segbench.reports.reader import Reader
from segbench.reports.records import Record


def test_the_reader_gives_the_same_records_with_shared_parts(records) -> None:
    read = Reader()
    found = [read(json.loads(record.model_dump_json())) for record in records]
    assert found == records
    for part in ("dataset", "protocol", "attack", "target", "source", "threat"):
        distinct = [r for i, r in enumerate(records) if getattr(r, part) not in [getattr(o, part) for o in records[:i]]]
        assert len({id(getattr(record, part)) for record in found}) == len(distinct)
    assert found[0].target is found[1].target is found[1].source


def compact(record: Record) -> bytes:
    return json.dumps(record.model_dump(mode="json"), separators=(",", ":")).encode()


def test_bytes_give_the_same_records_with_shared_parts(records) -> None:
    read = Reader()
    found = [read(read.parse(compact(record))) for record in records]
    assert found == records
    assert found[0].target is found[1].target is found[1].source


@pytest.mark.parametrize("kind", ["dataset", "protocol", "attack", "target", "source"])
def test_options_with_the_names_of_parts_stay_where_they_are(one, net, part, kind) -> None:
    names = "dataset", "data_fingerprint", "protocol", "absent", "target", "source", "attack", "threat", "adaptive"
    options = {"a": ',"source":{}', **{name: {"name": "x", "short": "x"} for name in names}, "threat": {"norm": None}}
    record = one(net("pspnet", "none", 0), part("a", steps=1))
    plain = record.model_dump(mode="json")
    (plain[kind]["model"] if kind in ("target", "source") else plain[kind])["options"] = options
    record, read = Record.model_validate(plain), Reader()
    raw = compact(record)
    assert read(read.parse(raw)) == record
    for wrong in (raw[:-1], raw[: len(raw) // 2], b"", b"["):
        with pytest.raises(ValueError, match=r"EOF|expected"):
            read.parse(wrong)
    assert read.parse(b"[1]") == [1]


def test_parts_that_differ_in_type_alone_are_not_one(one, net, part) -> None:
    plain = [one(net("pspnet", "none", 0), part("a", of=value)).model_dump(mode="json") for value in (1, 1.0, True)]
    read = Reader()
    assert [type(read(own).attack.options["of"]) for own in plain] == [int, float, bool]


@pytest.mark.parametrize("wrong", [None, [], {}, {"target": 1}, {"target": {"seed": "x"}}])
def test_what_is_no_record_is_refused_in_the_same_way(wrong) -> None:
    with pytest.raises(ValidationError):
        Record.model_validate(wrong)
    with pytest.raises(ValidationError):
        Reader()(wrong)
