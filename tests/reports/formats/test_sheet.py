"""CSV as a data frame writes it, but for what a spreadsheet would run."""

from __future__ import annotations

import csv
import io

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from segbench.reports.formats.sheet import to_csv

ROWS = st.lists(
    st.tuples(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")),
        st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=False)),
        st.one_of(st.none(), st.booleans()),
        st.integers(),
    ),
    min_size=1,
    max_size=5,
)


@given(ROWS)
def test_the_bytes_are_those_of_a_data_frame(rows: list[tuple[object, ...]]) -> None:
    names = ["text", "float", "bool", "int"]
    safe = [(str(text) if str(text)[:1] not in "=+-@\t\n" else "", *rest) for text, *rest in rows]
    frame = pd.DataFrame(safe, columns=names).astype({"float": "float64", "bool": "boolean", "int": object})
    assert to_csv(names, safe).decode() == frame.to_csv(index=False, lineterminator="\n")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_no_text_is_run_and_none_is_lost(text: str) -> None:
    ((read, _),) = list(csv.reader(io.StringIO(to_csv(["a", "b"], [(text, 1)]).decode(), newline="")))[1:]
    assert not read.startswith(("=", "+", "-", "@", "\t", "\n", "\r"))
    assert read.removeprefix("'") == text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("'")
