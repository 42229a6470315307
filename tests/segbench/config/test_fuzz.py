"""Whatever is written, the answer is a matrix or sentences: no traceback, and no long wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from segbench.components import catalog, specs
from segbench.config.load import builtin_matrices, load_matrix, matrix_from_data
from segbench.config.network import parse_network
from segbench.documents.strict_yaml import parse_yaml
from segbench.errors import SegbenchError

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

LONGEST = 1.0
"""Seconds of a processor that an answer may take."""
FULL = """\
dataset: digits(size=32, val=2, train=4, dev=2)
models: [pspnet(encoder=tiny), {name: deeplabv3, encoder: tiny, rates: [1, 2, 3]}]
defenses: [none, {name: sat, attack: pgd(steps=2), recipe: {iterations: 3}}]
seeds: [0, 1]
networks:
  - {load: 'net.py:build', convention: {range: 0-255, mean: [1, 2, 3]}, classes: {sky: 1, road: [2, 3]}}
attacks: [clean, bim(steps=1), {name: apgd, eps: [1/255, 0.03]}]
transfer: {substitutes: sat, attacks: [bim(steps=1)]}
worst_of: {strong: [bim(steps=1), apgd]}
recipe: {iterations: 1, batch_size: 2, lr: 0.1, augmentation: {scale: [0.5, 2.0], crop: [9, 9]}}
protocol: whole-v1(window=[16, 16])
runtime: {store: runs, device: cpu, workers: 1, data: {camvid: data}, eval_batch: 3}
limit: 3
"""
SPECS = (
    "bim(steps=6, eps=8/255)",
    "sat(attack=pgd(steps=2, eps=[1, 2]))",
    "pspnet(encoder='a b', bins=[1, (2, 3)])",
    "corruption(kind=fog, severity=3)",
    "digits(digits=[0, 1], size=48)",
)
SETS = ("recipe.lr=0.1", "models.0=pspnet", "attacks=[clean, bim(steps=2)]", "runtime.data.camvid=x", "title='a # b'")

lone = st.characters(exclude_categories=())
chunks = st.one_of(
    st.text(lone, max_size=20),
    st.sampled_from(list("{}[]()<>,:;#&*!|>'\"%@`?-=_./\\~\n\t \x00\x07\ud800é")),
    st.sampled_from(
        ["null", "true", "yes", "010", "0x1", "1_0", "1:30", ".inf", ".nan", "-0.0", "1e999", "9" * 60, "8/255", "1/0"]
    ),
    st.sampled_from(["<<: *a", "&a [*a]", "*a", "!!python/name:os.system", "--- ", "? ", "- - ", "\\UFFFFFFFF"]),
)
numbers = st.one_of(st.integers(), st.floats(), st.booleans(), st.none())
values = st.recursive(
    st.one_of(numbers, st.text(lone, max_size=10), st.sampled_from(SPECS)),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.one_of(st.text(max_size=5), numbers), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def mutated(draw: Callable[..., Any], texts: tuple[str, ...]) -> str:
    """Return a text with a few parts cut out, doubled or put in."""
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        text = text[:start] + draw(st.one_of(chunks, st.just(text[start:end] * 2))) + text[end:]
    return text


@contextmanager
def answered() -> Iterator[None]:
    """Expect an answer in time, or the error that every mistake of a user is."""
    start = time.process_time()
    try:
        yield
    except SegbenchError as error:
        said = str(error)
    else:
        said = "nothing"
    assert 0 < len(said.strip()) < 100_000
    assert time.process_time() - start < LONGEST


def of_file(folder: Path, text: str) -> None:
    path = folder / "m.yaml"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    with answered():
        load_matrix(str(path))


def of_part(key: str, index: int | None, value: Any) -> None:
    data = yaml.safe_load(FULL)
    if index is None or not isinstance(data.get(key), list):
        data[key] = value
    else:
        data[key][index % len(data[key])] = value
    with answered():
        matrix_from_data(data, "m")


def of_options(kind: str, name: str, option: str, value: Any) -> None:
    for written in ({"name": name, option: value}, f"{name}({option}={value})"):
        with answered():
            bound, problems = specs.bind(kind, written)
            assert (bound is None) == bool(problems)
            if bound is not None:
                assert specs.bound(kind, bound.short).identity == bound.identity


def of_spec(text: str) -> None:
    for kind in catalog.PACKAGES:
        with answered():
            specs.bind(kind, text)


def of_network(entry: Any) -> None:
    with answered():
        network, problems = parse_network(entry)
        assert (network is None) == bool(problems)


def of_set(folder: Path, text: str) -> None:
    path = folder / "full.yaml"
    path.write_text(FULL)
    with answered():
        load_matrix(str(path), [text])


def options() -> list[tuple[str, str, str]]:
    return [
        (kind, component.name, option)
        for kind in catalog.PACKAGES
        for component in catalog.components(kind).values()
        for option in component.options
    ]


def run(examples: int, folder: Path) -> None:
    """Try so many examples of each kind."""
    rows = options()
    keys = list(parse_yaml(FULL, "full").data)
    entries = st.fixed_dictionaries(
        {},
        optional={
            key: values for key in ("load", "weights", "name", "defense", "seed", "convention", "classes", "check")
        },
    )
    cases: list[tuple[Any, ...]] = [
        (lambda text: of_file(folder, text), mutated((FULL, "")), 2),
        (of_part, st.sampled_from([*keys, "dataset", "model"]), st.one_of(st.none(), st.integers(0, 5)), values, 1),
        (lambda row, value: of_options(*row, value), st.sampled_from(rows), st.one_of(values, chunks), 4),
        (of_spec, mutated(SPECS), 4),
        (of_network, st.one_of(values, entries), 4),
        (lambda text: of_set(folder, text), mutated(SETS), 1),
    ]
    for function, *strategies, weight in cases:
        attempt(function, st.tuples(*strategies), examples * weight)


def attempt(function: Callable[..., None], strategy: Any, examples: int) -> None:
    """Call a function with so many random arguments, the same ones at every run."""

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def tried(arguments: tuple[Any, ...]) -> None:
        function(*arguments)

    tried()


def test_a_few_random_texts_get_an_answer(tmp_path: Path) -> None:
    run(8, tmp_path)


@pytest.mark.slow
def test_many_random_texts_get_an_answer(tmp_path: Path) -> None:
    run(150, tmp_path)


def test_every_built_in_matrix_survives_cuts(tmp_path: Path) -> None:
    from importlib.resources import files

    for name in builtin_matrices():
        text = (files("segbench") / "matrices" / f"{name}.yaml").read_text()
        for end in range(0, len(text), len(text) // 7):
            of_file(tmp_path, text[:end])
