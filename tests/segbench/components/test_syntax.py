from __future__ import annotations

import time

import pytest

from segbench.components.syntax import parse, word
from segbench.errors import SegbenchError


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("bim", ("bim", {})),
        (" bim () ", ("bim", {})),
        ("bim(steps=6, eps=8 / 255,)", ("bim", {"steps": 6, "eps": "8 / 255"})),
        ("a(b=-3, c=.5, d=1e-3, e=+2)", ("a", {"b": -3, "c": 0.5, "d": 1e-3, "e": 2})),
        ("a(b=null, c=true, d=False, e=None, f=~)", ("a", {"b": None, "c": True, "d": False, "e": None, "f": None})),
        ("a(b=[1, [2, x]], c=(3, 4))", ("a", {"b": [1, [2, "x"]], "c": [3, 4]})),
        ("sat(attack=pgd(steps=2, eps=4/255))", ("sat", {"attack": "pgd(steps=2, eps=4/255)"})),
        ("a(b=nets/r-50.pth, c=5.png)", ("a", {"b": "nets/r-50.pth", "c": "5.png"})),
        ("a(b='x, y', c=\"it's\", d='C:\\\\temp')", ("a", {"b": "x, y", "c": "it's", "d": "C:\\temp"})),
    ],
)
def test_values_are_those_of_yaml(written: str, parts: object) -> None:
    assert parse(written) == parts
    assert repr(parse(written)) == repr(parts)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "expected a name such as bim"),
        ("(steps=6)", "expected a name such as bim"),
        ("bim(steps=6", "in a YAML list, put what holds a comma in quotes"),
        ("bim(6)", "'6' is no option"),
        ("bim(**x)", "'**x' is no option"),
        ("bim(steps=)", "a value is missing"),
        ("bim(steps=1, steps=2)", "'steps' stands twice; keep one"),
        ("bim(steps=1 eps=2)", "put '1 eps=2' in quotes, or a comma between options"),
        ("bim(, steps=1)", "there is nothing before a comma"),
        ("bim(target='x)", "a quote is not closed"),
        ("bim(a=(1, 2)", "')' is missing"),
        ("bim(a=1))", "')' closes no bracket"),
        ("bim(a=yes, b=010)", "yes is a truth value in old YAML; write true, or 'yes' for the word; 010 is octal"),
        ("bim(a=1_0)", "1_0 is a number with underscores"),
        ("bim\x07", "holds a control character"),
        ("b\ud800", "holds a control character"),
        ("x" * 3000, "at most 2,000 characters with its options, got 3,000"),
    ],
)
def test_a_mistake_is_one_sentence(written: str, message: str) -> None:
    with pytest.raises(SegbenchError) as caught:
        parse(written)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "written",
    [
        "a(b=" + "[" * 900 + "]" * 900 + ")",
        "a(b=" + "(" * 1900,
        "-" * 1999,
        "a" + "(" * 1999,
        "a(b='" + "\\" * 1900,
        "a(" + "b=1," * 490,
    ],
)
def test_no_text_takes_long(written: str) -> None:
    start = time.process_time()
    try:
        said = str(parse(written))
    except SegbenchError as error:
        said = str(error)
    assert len(said) < 10_000
    assert time.process_time() - start < 0.2


@pytest.mark.parametrize(
    "text",
    [
        *(
            "tiny",
            "123",
            "-5",
            "1e5",
            "true",
            "null",
            "yes",
            "1:30",
            "8/255",
            "a b",
            "it's",
            'it\'s "x"',
            "C:\\d",
            "5.png",
        ),
        *("f(a=1)", "f(a=')')", "a)", "(", "", ","),
    ],
)
def test_a_text_is_read_as_it_was_written(text: str) -> None:
    assert parse(f"a(b={word(text)}, c=1)") == ("a", {"b": text, "c": 1})
