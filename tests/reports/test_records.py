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
