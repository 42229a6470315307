"""A bundle or an entry that a stranger made runs no code, takes no memory, leaves no folder, and ends in sentences."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segbench.errors import SegbenchError
from segbench.files import file_sha256
from segbench.leaderboard import archive, bundle, bundled, entry_files, images
from segbench.leaderboard.entry_files import LeaderboardError
from segbench.leaderboard.verify import Review, verify
from segbench.reports.leaderboard.entries import Entry

LONGEST = 5.0
"""Seconds that an answer may take."""
MOST = 500 << 20
"""Bytes that an answer may take."""
Change = Callable[[dict[str, Any]], object]


def unpacked(packed: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(packed)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def written(path: Path, files: Mapping[str, bytes]) -> Path:
    path.write_bytes(bundle.zipped(files))
    return path


def edited(packed: bytes, name: str, change: Change) -> dict[str, bytes]:
    content = json.loads(unpacked(packed)[name])
    change(content)
    return {**unpacked(packed), name: json.dumps(content).encode()}


def answered(task: Callable[[], Any], longest: float = LONGEST) -> str:
    """Return the sentences of a review or an error; other exceptions pass."""
    start = time.monotonic()
    try:
        found = task()
    except SegbenchError as error:
        said = str(error)
    else:
        said = "\n".join(found.problems) if isinstance(found, Review) else ""
    assert time.monotonic() - start < longest
    return said


def refused(task: Callable[[], Any], text: str) -> None:
    tracemalloc.start()
    try:
        # Counting every allocation takes its time.
        said, (_, most) = answered(task, 10 * LONGEST), tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert text in said
    assert most < MOST


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(width: int, height: int, depth: int, colour: int, data: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    packed = zlib.compress(data, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_a_small_image_of_many_pixels_is_not_unpacked(packed: bytes, entry: Entry, tmp_path: Path) -> None:
    size = 5700
    bomb = png_of(size, size, 16, 2, bytes((size * 6 + 1) * size))
    assert len(bomb) < 1 << 18
    files = unpacked(packed)
    names = [name for name in files if "/clean-" in name or "/adversarial-" in name]
    for many in (names[:2], names):
        path = written(tmp_path / "b.zip", {**files, **dict.fromkeys(many, bomb)})
        refused(lambda path=path: verify(path), "bytes, more than are read of files of their length")


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (2**31 - 1, 2**31 - 1), (2**31, 1), (1 << 25, 2)])
def test_sizes_that_no_image_has(width: int, height: int) -> None:
    content = png_of(width, height, 8, 0, bytes(64))
    for labels in (True, False):
        with pytest.raises(images.NotAnImage):
            images.decode(content, labels=labels)


def declared(content: bytes, name: bytes, size: int) -> bytes:
    """Change the length that a zip file says that a member has, in both places."""
    at = content.index(b"PK\x03\x04")
    while content[at + 30 : at + 30 + len(name)] != name:
        at = content.index(b"PK\x03\x04", at + 4)
    content = content[: at + 22] + struct.pack("<I", size) + content[at + 26 :]
    at = content.index(b"PK\x01\x02")
    while content[at + 46 : at + 46 + len(name)] != name:
        at = content.index(b"PK\x01\x02", at + 4)
    return content[: at + 24] + struct.pack("<I", size) + content[at + 28 :]


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return buffer.getvalue()


def test_a_member_that_holds_more_than_it_says(tmp_path: Path) -> None:
    made = zipped({"manifest.json": b"{}", "entry.json": bytes(1 << 30)})
    path = tmp_path / "b.zip"
    path.write_bytes(made)
    refused(lambda: verify(path), "bytes unpacked, more than are read")
    path.write_bytes(declared(made, b"entry.json", 100))
    refused(lambda: verify(path), "not a bundle")


def test_many_members_that_share_one_content(tmp_path: Path) -> None:
    made = bytearray(zipped({f"records/{n:x}.json": bytes(1 << 20) for n in range(100)}))
    path = tmp_path / "b.zip"
    path.write_bytes(made)
    refused(lambda: verify(path), "bytes unpacked, more than are read")


def test_a_directory_of_many_files_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(zipped({f"records/{n:064x}.json": b"" for n in range(archive.MOST_FILES + 1)}))
    refused(lambda: verify(path), "more than a bundle can have")
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, 0xFFFFFFF0, 0, 0)
    with path.open("wb") as file:
        file.truncate(1 << 32)
        file.seek(1 << 32)
        file.write(end)
    refused(lambda: verify(path), "more than a bundle can have")


JSON: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda c: c.update(counts=[["a" * 10**7, *["b"] * 1000]] * 2), "counts are whole numbers"),
    (lambda c: c.update(counts=[[[10**30] * 3] * 3]), "counts are whole numbers"),
    (lambda c: c.update(counts=[[[2**62] * 3] * 3] * 4), "counts are whole numbers"),
    (lambda c: c.update(counts=[[[True] * 3] * 3] * 4), "counts are whole numbers"),
    (lambda c: c.update(counts=[[["1"] * 3] * 3] * 4), "counts are whole numbers"),
    (lambda c: c.update(counts=[]), "counts"),
    (lambda c: c.update(counts=7), "counts are whole numbers"),
    (lambda c: c.update(counts=json.loads("[" * 900 + "]" * 900)), "counts"),
    (lambda c: c.update(counts=[[], []]), "counts"),
    (lambda c: c.update(names=[[1]] * 4), "not counts with the names"),
    (lambda c: c.update(parts={}), "not counts with the names"),
]


@pytest.mark.parametrize(("change", "text"), JSON)
def test_counts_that_are_none(packed: bytes, entry: Entry, tmp_path: Path, change: Change, text: str) -> None:
    name = f"counts/{entry.results[1].runs[0].record}.json"
    path = written(tmp_path / "b.zip", edited(packed, name, change))
    refused(lambda: verify(path), text)


COSTLY = ("[" * 10**6, "[" * 10**6 + "]" * 10**6, "[" + "[]," * 3 * 10**6, "9" * 10**6, "NaN", '{"a":1,"a":2}')


@pytest.mark.parametrize("text", COSTLY, ids=lambda text: text[:5])
def test_json_that_only_costs(packed: bytes, entry: Entry, tmp_path: Path, text: str) -> None:
    for kind in ("counts", "records"):
        name = f"{kind}/{entry.results[1].runs[0].record}.json"
        path = written(tmp_path / "b.zip", {**unpacked(packed), name: text.encode()})
        refused(lambda path=path: verify(path), f"{name}: not JSON")
    path = written(tmp_path / "b.zip", {**unpacked(packed), "entry.json": text.encode()})
    refused(lambda: verify(path), "entry.json")


def save_program(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.script(torch.nn.ReLU()), path)  # type: ignore[no-untyped-call]


def renamed(files: dict[str, bytes], change: Callable[[dict[str, Any]], object]) -> dict[str, bytes]:
    """Change the architecture in the entry and in all records of a bundle."""
    made = dict(files)
    for name in files:
        content = json.loads(files[name]) if name == "entry.json" or name.startswith("records/") else {}
        if name == "entry.json":
            change(content["model"]["architecture"])
        elif content:
            change(content["target"]["model"])
            change(content["source"]["model"])
        if content:
            made[name] = json.dumps(content).encode()
    return made


@pytest.mark.parametrize(
    "short", ["x.pt2", "evil.py:main", "evil.module:main", "hf:someone/net", "torchvision:fcn_resnet50", "a/b/c/0@1"]
)
def test_a_network_with_code_is_not_loaded(
    packed: bytes, entry: Entry, weights: list[Path], tmp_path: Path, short: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever an entry calls its network: it is one of the catalog, or not built at all."""
    monkeypatch.chdir(tmp_path)
    ran = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(ran)!r}, 'w').close()\ndef main(num_classes=3):\n    pass\n")
    save_program(tmp_path / "x.pt2")
    files = renamed(unpacked(packed), lambda model: model.update(name=short, short=short, options={}))
    verdict = verify(written(tmp_path / "b.zip", files), weights)
    assert verdict.verification is None
    assert any("there is no model" in problem for problem in verdict.problems)
    assert not ran.exists()


def test_an_architecture_far_larger_than_its_weights_is_not_built(
    packed: bytes, weights: list[Path], tmp_path: Path
) -> None:
    files = renamed(unpacked(packed), lambda model: model["options"].update(channels=200_000))
    path = written(tmp_path / "b.zip", files)
    assert "bytes of weights" in answered(lambda: verify(path, weights))


def test_weights_that_are_a_program_are_a_sentence(packed: bytes, tmp_path: Path, weights: list[Path]) -> None:
    program = tmp_path / "net.pt2"
    save_program(program)
    mine, theirs = (file_sha256(path).encode() for path in (weights[0], program))
    files = {name: own.replace(mine, theirs) for name, own in unpacked(packed).items()}
    verdict = verify(written(tmp_path / "b.zip", files), [program])
    assert any("SafetensorError" in problem for problem in verdict.problems)


@pytest.mark.parametrize("where", ["entry.json", "records"])
def test_a_field_s_name_is_shown_as_text(packed: bytes, entry: Entry, tmp_path: Path, where: str) -> None:
    name = where if where == "entry.json" else f"records/{entry.results[1].runs[0].record}.json"
    path = written(tmp_path / "b.zip", edited(packed, name, lambda c: c.update({"\x1b[2Jevil": 1})))
    done = subprocess.run(
        [sys.executable, "-c", "from segbench.cli import main; main()", "leaderboard", "verify", str(path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(bundle.__file__).parents[2]), "PATH": "", "COLUMNS": "300"},
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "\x1b[2J" not in done.stdout + done.stderr
    assert r"\x1b[2Jevil" in done.stdout


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["results"][1]["attack"]["options"].update(eps=10**39, alpha=10**39, steps=10**39),
        lambda c: c["results"][1]["runs"].extend([7] * 10**5),
        lambda c: c.update(provenance=json.loads('{"a":' * 150 + "1" + "}" * 150)),
        lambda c: c["model"].update(recipe={str(n): n for n in range(10**5)}),
        lambda c: c["model"].update(name="\u202e" * 300),
        lambda c: c["threat"].update(eps=1e308),
    ],
)
def test_an_entry_of_odd_values_is_an_entry_or_a_sentence(entry: Entry, change: Change) -> None:
    content = entry.model_dump(mode="json")
    change(content)
    start = time.monotonic()
    _, problems = entry_files.parse(json.dumps(content), "e.json")
    assert time.monotonic() - start < LONGEST
    assert len("\n".join(problems)) < 100_000


def test_a_number_beyond_all_numbers_is_none(entry: Entry) -> None:
    text = json.dumps(entry.model_dump(mode="json")).replace('"notes"', '"extra": 1e999, "notes"')
    assert entry_files.parse(text, "e.json")[1] == ["e.json: not JSON: 1e999 is larger than any number that is read"]


edits = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "cut", "end"]), st.integers(0, 2**20), st.binary(min_size=1, max_size=6)
    ),
    min_size=1,
    max_size=4,
)


def changed(content: bytes, many: list[tuple[str, int, bytes]]) -> bytes:
    for kind, place, new in many:
        at = place % (len(content) + 1)
        rest = {"set": at + len(new), "insert": at, "cut": at + len(new), "end": len(content)}[kind]
        content = content[:at] + (new if kind in ("set", "insert") else b"") + content[rest:]
    return content


def attempt(examples: int, whole: bytes, holds: Callable[[bytes], None]) -> None:
    @settings(
        max_examples=examples,
        deadline=1000 * LONGEST,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(edits.map(lambda many: changed(whole, many)), st.binary(max_size=100)))
    def tried(content: bytes) -> None:
        holds(content)

    tried()


FEW_AND_MANY = pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.slow)])


@FEW_AND_MANY
def test_any_bytes_are_a_bundle_or_a_sentence(packed: bytes, tmp_path: Path, many: bool) -> None:
    path = tmp_path / "b.zip"

    def holds(content: bytes) -> None:
        path.write_bytes(content)
        assert len(answered(lambda: verify(path))) < 10**6

    attempt(300 if many else 10, packed, holds)
    assert [other.name for other in tmp_path.iterdir()] == ["b.zip"]


@FEW_AND_MANY
def test_any_bytes_in_a_bundle_are_a_problem_or_none(packed: bytes, entry: Entry, tmp_path: Path, many: bool) -> None:
    """Byte by byte in every kind of file, under honest hashes."""
    files = unpacked(packed)
    digest = entry.results[1].runs[0].record
    kinds = ["entry.json", f"records/{digest}.json", f"counts/{digest}.json", "images/000001/truth.png"]
    kinds += ["images/000001/clean-0.png", f"predicted/{digest}/000001/preds.png"]
    for name in kinds:

        def holds(content: bytes, name: str = name) -> None:
            own, wrong = entry_files.parse({**files, name: content}["entry.json"], "entry.json")
            if own is not None:
                evaluations, problems = bundled.gather({**files, name: content}, own)
                wrong = [*wrong, *problems]
                assert all(isinstance(problem, str) for problem in wrong)
                assert len(evaluations) <= 8

        attempt(200 if many else 5, files[name], holds)


@FEW_AND_MANY
def test_any_bytes_are_an_image_or_none(many: bool) -> None:
    size = 8
    for depth, colour, labels in ((8, 0, True), (16, 2, False)):
        length = size * (1 if labels else 6) + 1
        whole = png_of(size, size, depth, colour, bytes(length * size))

        def holds(content: bytes, labels: bool = labels) -> None:
            try:
                images.decode(content, labels=labels)
            except images.NotAnImage as error:
                assert str(error)  # noqa: PT017 - any bytes may also be an image

        attempt(2000 if many else 40, whole, holds)


@FEW_AND_MANY
def test_any_text_is_an_entry_or_mistakes(entry: Entry, tmp_path: Path, many: bool) -> None:
    path = tmp_path / "e.json"
    entry_files.write(entry, path)

    def holds(content: bytes) -> None:
        path.write_bytes(content)
        try:
            entry_files.read(path)
        except LeaderboardError as error:
            assert str(path) in str(error)  # noqa: PT017 - any text may also be an entry

    attempt(1000 if many else 25, path.read_bytes(), holds)


CHILD = """
import resource, sys
from pathlib import Path
from segbench.errors import SegbenchError
from segbench.leaderboard.verify import verify

def most() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = most()
for path in sys.argv[1:]:
    try:
        verify(Path(path))
    except SegbenchError:
        pass
    print(path, most() - before)
"""


@pytest.mark.slow
def test_no_bundle_makes_a_process_grow(packed: bytes, entry: Entry, tmp_path: Path) -> None:
    files, digest = unpacked(packed), entry.results[1].runs[0].record
    counts = f"counts/{digest}.json"
    seen = [name for name in files if "/clean-" in name or "/adversarial-" in name]
    labels = [name for name in files if name.endswith(("truth.png", "preds.png"))]
    made = [zipped({"manifest.json": b"{}", "entry.json": bytes(1 << 30)})]
    made.append(declared(made[0], b"entry.json", 100))
    made += [bundle.zipped({**files, counts: text.encode()}) for text in COSTLY]
    made += [bundle.zipped(edited(packed, counts, change)) for change, _ in JSON]
    for size in (500, 2000, 5700):
        images_of = dict.fromkeys(seen, png_of(size, size, 16, 2, bytes((size * 6 + 1) * size)))
        labels_of = dict.fromkeys(labels, png_of(size, size, 8, 0, bytes((size + 1) * size)))
        first = "images/000001/clean-0.png", f"predicted/{digest}/000001/adversarial-0.png"
        made += [bundle.zipped({**files, **images_of}), bundle.zipped({**files, **labels_of})]
        made.append(bundle.zipped({**files, **{name: images_of[name] for name in first}}))
    paths = [tmp_path / f"{number}.zip" for number in range(len(made))]
    for path, content in zip(paths, made, strict=True):
        path.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, paths)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(bundle.__file__).parents[2]), "PATH": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    grown = {line.split()[0]: int(line.split()[1]) for line in done.stdout.splitlines()}
    assert len(grown) == len(paths)
    assert max(grown.values()) < MOST, grown
