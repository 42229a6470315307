"""A reviewer finds whatever was tampered with, and names it."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from segbench.files import file_sha256
from segbench.leaderboard import archive, bundle, entry_files, images, predicting
from segbench.leaderboard.entry_files import LeaderboardError
from segbench.leaderboard.verify import Review, verify
from segbench.reports.leaderboard.entries import Entry
from segbench.reports.statistics import interval
from segbench.store import Store

Files = dict[str, bytes]


def unpacked(packed: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(packed)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def as_zip(content: Mapping[str, bytes]) -> bytes:
    """Pack files as they are, manifest included."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name, own in content.items():
            opened.writestr(name, own)
    return buffer.getvalue()


@pytest.fixture
def tampered(packed: bytes, tmp_path: Path) -> Callable[..., Path]:
    """Change files of the bundle; its hashes are made anew unless told otherwise."""

    def make(changes: Mapping[str, bytes], *, honest_hashes: bool = True) -> Path:
        content = {**unpacked(packed), **changes}
        path = tmp_path / "tampered.zip"
        path.write_bytes(bundle.zipped(content) if honest_hashes else as_zip(content))
        return path

    return make


@pytest.fixture
def good(packed: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "good.zip"
    path.write_bytes(packed)
    return path


def edited(packed: bytes, name: str, change: Callable[[dict[str, Any]], object]) -> dict[str, bytes]:
    content = json.loads(unpacked(packed)[name])
    change(content)
    return {name: json.dumps(content).encode()}


def only(verdict: Review, *texts: str) -> None:
    """Each text is in a problem, and there is nothing to verify."""
    assert verdict.verification is None
    for text in texts:
        assert any(text in problem for problem in verdict.problems), verdict.problems


def test_the_same_store_gives_the_same_bytes(entry: Entry, store: Store, packed: bytes) -> None:
    assert bundle.pack(entry, store) == packed
    names = set(unpacked(packed))
    digest = entry.results[3].runs[0].record
    assert {f"predicted/{digest}/000001/adversarial-0.png", f"records/{digest}.json", "entry.json"} <= names
    clean = entry.results[0].runs[0].record
    assert f"predicted/{clean}/000001/preds.png" in names
    assert f"predicted/{clean}/000001/adversarial-0.png" not in names


def test_an_honest_bundle_is_verified(good: Path, entry: Entry, weights: list[Path]) -> None:
    bare = verify(good)
    assert bare.problems == ()
    assert bare.verification is None
    verdict = verify(good, weights, entry)
    assert verdict.problems == ()
    assert verdict.verification is not None
    assert verdict.verification.images == 2 * 4 * 2, "two images of four results of two seeds"
    assert verdict.verification.disagreement <= 0.01
    assert verdict.verification.bundle_sha256 == file_sha256(good)


@pytest.mark.parametrize(
    "wanted",
    [
        {"board": "white-box-rms-0.03"},
        {"board": "black-box-linf-0.03", "model": "deeplabv3"},
        {"board": "white-box-linf-0.03", "defense": "bit-depth"},
        {"board": "white-box-linf-0.03", "protocol": "ddcat-crop-v1"},
    ],
    ids=lambda wanted: " ".join(wanted.values()),
)
def test_every_kind_of_entry_can_be_verified_with_room_for_one_piece_at_a_time(
    by_board: Callable[..., Entry],
    store: Store,
    weights_of: Callable[[Entry], list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wanted: dict[str, str],
) -> None:
    built = predicting._trained

    def narrow(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if len(inputs[0]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def small(*given: Any) -> nn.Module:
        network = built(*given)
        network.register_forward_pre_hook(narrow)
        return network

    monkeypatch.setattr(predicting, "_trained", small)
    entry = by_board(**wanted)
    path = tmp_path / "b.zip"
    path.write_bytes(bundle.pack(entry, store))
    verdict = verify(path, weights_of(entry), entry)
    assert verdict.problems == ()
    assert verdict.verification is not None
    assert verdict.verification.disagreement <= 0.01
    if entry.protocol.component.name == "ddcat-crop-v1":
        assert any("/clean-3.png" in name for name in unpacked(path.read_bytes())), "an image is cut into pieces"


def test_one_network_of_two_is_not_enough(good: Path, entry: Entry, weights: list[Path]) -> None:
    verdict = verify(good, weights[1:], entry)
    assert verdict.problems == ()
    assert verdict.verification is None
    assert "weights of seed 0 were not given: not verified" in verdict.facts


def test_a_number_in_the_entry(packed: bytes, tampered: Callable[..., Path], entry: Entry) -> None:
    def better(content: dict[str, Any]) -> None:
        result = content["results"][3]
        for run in result["runs"]:
            run.update(miou=run["miou"] + 1, class_iou=[None if v is None else v + 1 for v in run["class_iou"]])
        result.update(mean=result["mean"] + 1, low=None, high=None)

    verdict = verify(tampered(edited(packed, "entry.json", better)), (), entry)
    digest = entry.results[3].runs[0].record
    only(verdict, f"records/{digest}.json: scores.miou is", "entry.json: results is not that of the entry")


def test_a_result_without_runs_cannot_be_verified(
    packed: bytes, tampered: Callable[..., Path], weights: list[Path]
) -> None:
    """A strong number that nobody ran must not ride along with those that somebody did."""

    def boast(content: dict[str, Any]) -> None:
        content["results"][3].update(runs=[], mean=99.0, std=None, low=None, high=None)
        content["source"] = {"citation": "us", "url": "https://example.org", "where": "Table 1"}

    only(verify(tampered(edited(packed, "entry.json", boast)), weights), "results.3: has no runs")


def test_a_network_from_elsewhere_is_not_predicted_again(
    packed: bytes, tampered: Callable[..., Path], weights: list[Path]
) -> None:
    content = unpacked(packed)
    changes = edited(packed, "entry.json", lambda c: c["model"].update(recipe={}))
    for name in content:
        if name.startswith("records/"):
            changes |= edited(packed, name, lambda c: [c[of].update(recipe={}) for of in ("target", "source")])
    verdict = verify(tampered(changes), weights)
    assert (verdict.problems, verdict.verification) == ((), None)
    assert any("was not trained by segbench" in fact for fact in verdict.facts)


def test_an_interval_in_the_entry(packed: bytes, tampered: Callable[..., Path]) -> None:
    changes = edited(packed, "entry.json", lambda c: c["results"][1].update(low=0.0, high=100.0))
    only(verify(tampered(changes)), "entry.json: results.1: interval 0 to 100, counts give")


def test_an_interval_of_an_earlier_version_still_holds(packed: bytes, tampered: Callable[..., Path]) -> None:
    content = json.loads(unpacked(packed)["entry.json"])
    counts = [
        json.loads(unpacked(packed)[f"counts/{run['record']}.json"])["counts"] for run in content["results"][1]["runs"]
    ]
    earlier = interval(np.array(counts), "skip")
    ends = {"low": round(earlier.low, 4), "high": round(earlier.high, 4)}
    assert verify(tampered(edited(packed, "entry.json", lambda c: c["results"][1].update(ends)))).problems == ()


def test_a_bundle_of_an_earlier_version_has_no_tallies(packed: bytes, tmp_path: Path) -> None:
    content = {name: own for name, own in unpacked(packed).items() if not name.startswith("tallies/")}
    assert len(content) < len(unpacked(packed))
    path = tmp_path / "earlier.zip"
    path.write_bytes(bundle.zipped(content))
    assert verify(path).problems == ()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c["confidence"][0][2].reverse(), "its tallies give"),
        (
            lambda c: c["confidence"][0][0].append(1 + c["confidence"][0][0].pop()),
            "bins of confidence hold other pixels",
        ),
        (lambda c: c.pop("objects"), "was tallied, and there is"),
        (lambda c: c.update(objects="many"), "objects: tallies are numbers"),
        (lambda c: c["boundary"][0][0].append(1), "boundary: tallies are numbers .* lists of unequal length"),
    ],
)
def test_tallies_that_are_not_those_of_the_record(
    packed: bytes, tampered: Callable[..., Path], entry: Entry, change: Callable[[dict[str, Any]], object], text: str
) -> None:
    name = f"tallies/{entry.results[1].runs[0].record}.json"
    assert re.search(text, "; ".join(verify(tampered(edited(packed, name, change))).problems))


def test_a_number_in_a_record(packed: bytes, tampered: Callable[..., Path], entry: Entry) -> None:
    name = f"records/{entry.results[1].runs[0].record}.json"
    verdict = verify(tampered(edited(packed, name, lambda c: c["scores"].update(aacc=99.0))))
    only(verdict, f"{name}: scores.aacc is 99.0000, the entry says", f"{name}: aAcc is 99, and its counts give")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c["attack"]["options"].update(steps=400), "attack is bim(steps=2), the entry says bim(steps=2)"),
        (lambda c: c["threat"].update(eps=0.05), "threat.eps is 0.0500, the entry says 0.0300"),
        (lambda c: c["target"].update(weights_sha256="0" * 64), "target.weights_sha256 is 000"),
        (lambda c: c.update(split="train"), "split is train, the entry says val"),
        (lambda c: c.update(digest="abc"), "is the record abc"),
        (lambda c: c.update(status="failed"), "the evaluation is failed"),
        (lambda c: c.update(absent="zero"), "absent is zero, the entry says skip"),
        (lambda c: c.pop("dataset"), "dataset: field required"),
        (lambda c: c["source"].update(seed=7), "its images were made on another network"),
    ],
)
def test_what_a_record_says(
    packed: bytes, tampered: Callable[..., Path], entry: Entry, change: Callable[[dict[str, Any]], object], text: str
) -> None:
    name = f"records/{entry.results[1].runs[0].record}.json"
    only(verify(tampered(edited(packed, name, change))), f"{name}: {text}")


def add(content: dict[str, Any], image: int, row: int, label: int, number: int) -> None:
    content["counts"][image][row][label] += number


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c["counts"].__setitem__(0, [c["counts"][0][2]] * 3), "counts give"),
        (
            lambda c: c["counts"].__setitem__(1, [c["counts"][1][2]] * 3),
            "preds.png does not have the predicted and right pixels",
        ),
        (lambda c: (add(c, 0, 1, 0, 9), add(c, 0, 2, 0, 9)), "true pixels differ from those of the entry's other"),
        (lambda c: add(c, 0, 0, 0, 10**6), "counts of pixels contradict each other"),
        (lambda c: add(c, 3, 0, 0, -(10**6)), "counts of pixels contradict each other"),
        (lambda c: c["counts"].pop(), "counts are of shape (3, 3, 3), of 4 images, not of"),
        (lambda c: c["names"].reverse(), "image names differ"),
        (lambda c: c["counts"][0].pop(), "lists of unequal length"),
        (lambda c: c.update(counts=[[[0.5] * 3] * 3]), "counts are whole numbers (images, 3, 3)"),
    ],
)
def test_counts(
    packed: bytes, tampered: Callable[..., Path], entry: Entry, change: Callable[[dict[str, Any]], object], text: str
) -> None:
    digest = entry.results[2].runs[0].record
    verdict = verify(tampered(edited(packed, f"counts/{digest}.json", change)))
    only(verdict, text)
    assert any(digest in problem for problem in verdict.problems)


def test_counts_of_an_ensemble_are_those_of_its_worst_parts(
    packed: bytes, tampered: Callable[..., Path], entry: Entry, store: Store
) -> None:
    digest = entry.results[3].runs[0].record
    parts = store.parts(digest)
    best = max(parts, key=lambda part: int(part[:, 0].sum()))
    assert not np.array_equal(best, store.counts(digest))
    changes = edited(packed, f"counts/{digest}.json", lambda c: c.update(counts=best.tolist()))
    only(verify(tampered(changes)), "the counts are not those of the worst choice among the parts")


def pixel(packed: bytes, name: str, change: Callable[[np.ndarray], object], *, labels: bool) -> dict[str, bytes]:
    pixels = images.decode(unpacked(packed)[name], labels=labels).copy()
    change(pixels)
    return {name: images.encode(pixels)}


def brighter(pixels: np.ndarray) -> None:
    pixels[3, 4, 1] = 65535 if pixels[3, 4, 1] < 32768 else 0


def test_a_pixel_of_an_adversarial_image(packed: bytes, tampered: Callable[..., Path], entry: Entry) -> None:
    folder = f"predicted/{entry.results[2].runs[1].record}/000003"
    changes = pixel(packed, f"{folder}/adversarial-0.png", brighter, labels=False)
    only(
        verify(tampered(changes, honest_hashes=False)),
        f"{folder}/adversarial-0.png: its SHA-256 is not that in manifest.json",
    )
    only(verify(tampered(changes)), f"{folder}: adversarial-0.png is linf ")


def test_the_budget_is_kept_to_a_step_of_16_bits(packed: bytes, tampered: Callable[..., Path], entry: Entry) -> None:
    """An eps of 0.03 lets no pixel move by 0.03 and two steps; that of the attack itself is well within."""
    index = "000001"
    clean = images.decode(unpacked(packed)[f"images/{index}/clean-0.png"]).astype(np.int64)
    name = f"predicted/{entry.results[2].runs[1].record}/{index}/adversarial-0.png"
    assert clean[0, 0, 0] < 60000
    for steps, problems in ((0, 0), (2, 1)):

        def move(pixels: np.ndarray, steps: int = steps) -> None:
            pixels[0, 0, 0] = clean[0, 0, 0] + int(0.03 * 65535) + steps

        found = verify(tampered(pixel(packed, name, move, labels=False))).problems
        assert len(found) == problems, found


def test_a_prediction(packed: bytes, tampered: Callable[..., Path], entry: Entry) -> None:
    name = f"predicted/{entry.results[3].runs[0].record}/000001/preds.png"

    def other(labels: np.ndarray) -> None:
        labels[5, 5] = (labels[5, 5] + 1) % 3

    only(verify(tampered(pixel(packed, name, other, labels=True))), "preds.png does not have the predicted and right")
    only(
        verify(tampered(pixel(packed, name, lambda labels: labels.fill(9), labels=True))),
        "preds.png holds label 9, but there are 3 classes",
    )


def test_a_truth(packed: bytes, tampered: Callable[..., Path]) -> None:
    changes = pixel(packed, "images/000001/truth.png", lambda labels: labels.fill(0), labels=True)
    only(verify(tampered(changes)), "truth.png does not have the true pixels that are counted for it")


def test_a_hash(packed: bytes, tampered: Callable[..., Path]) -> None:
    changes = edited(packed, "manifest.json", lambda c: c["files"]["entry.json"].update(sha256="0" * 64))
    only(verify(tampered(changes, honest_hashes=False)), "entry.json: its SHA-256 is not that in manifest.json")


def test_missing_and_foreign_files(packed: bytes, tmp_path: Path, entry: Entry) -> None:
    content = unpacked(packed)
    digest = entry.results[1].runs[0].record
    lacking = {name: own for name, own in content.items() if name != f"counts/{digest}.json"}
    path = tmp_path / "b.zip"
    path.write_bytes(as_zip(lacking))
    only(verify(path), f"counts/{digest}.json: missing, but in manifest.json", f"counts/{digest}.json: missing")
    bare = {name: own for name, own in content.items() if not name.startswith(f"predicted/{digest}")}
    path.write_bytes(bundle.zipped(bare))
    only(verify(path), f"predicted/{digest}: no image of this evaluation is in the bundle")
    path.write_bytes(bundle.zipped({**content, "records/abc.json": b"{}"}))
    only(verify(path), "records/abc.json: belongs to no run of the entry")


def test_weights(good: Path, entry: Entry, weights: list[Path], tmp_path: Path) -> None:
    state = load_file(weights[0])
    other = tmp_path / "other.safetensors"
    save_file({name: value + 1 if value.is_floating_point() else value for name, value in state.items()}, other)
    only(verify(good, [other]), f"{other}: its SHA-256, {file_sha256(other)}, is not one of the entry's weights")


def test_other_weights_under_the_entry_s_hash_name_the_image(
    packed: bytes, weights: list[Path], tmp_path: Path, entry: Entry
) -> None:
    """The whole bundle says that other weights were scored: only predicting again finds it."""
    state = load_file(weights[0])
    other = tmp_path / "other.safetensors"
    generator = torch.Generator().manual_seed(0)
    save_file({n: torch.randn(v.shape, generator=generator) if v.ndim > 1 else v for n, v in state.items()}, other)
    mine, theirs = file_sha256(weights[0]).encode(), file_sha256(other).encode()
    content = {name: own.replace(mine, theirs) for name, own in unpacked(packed).items() if name != "manifest.json"}
    path = tmp_path / "b.zip"
    path.write_bytes(bundle.zipped(content))
    assert verify(path).problems == ()
    verdict = verify(path, [other, weights[1]])
    only(verdict, f"predicted/{entry.results[0].runs[0].record}/", "% of its pixels are predicted differently with")


def test_weights_that_do_not_fit_and_files_that_are_none(
    packed: bytes, good: Path, weights: list[Path], tmp_path: Path
) -> None:
    other = tmp_path / "w.safetensors"
    other.write_bytes(b"no weights")
    content = {
        name: own.replace(file_sha256(weights[0]).encode(), file_sha256(other).encode())
        for name, own in unpacked(packed).items()
    }
    path = tmp_path / "b.zip"
    path.write_bytes(bundle.zipped(content))
    only(verify(path, [other]), f"{other}: SafetensorError: ")
    with pytest.raises(LeaderboardError, match="there is no such file of weights"):
        verify(good, [tmp_path / "absent.safetensors"])


def test_a_network_that_remembers_is_not_predicted_again(
    good: Path, weights: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = predicting._trained

    def remembering(*given: Any) -> Any:
        network = built(*given)
        network.adapt = network.reset = lambda *images: None
        return network

    monkeypatch.setattr(predicting, "_trained", remembering)
    verdict = verify(good, weights)
    assert (verdict.problems, verdict.verification) == ((), None)
    assert "the network changes with the images that it has seen" in " ".join(verdict.facts)


def test_a_network_that_draws_numbers_is_not_predicted_again(
    good: Path, weights: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = predicting._trained

    def drawing(*given: Any) -> Any:
        network = built(*given)
        network.register_forward_hook(lambda module, inputs, logits: logits + torch.randn(1))
        return network

    monkeypatch.setattr(predicting, "_trained", drawing)
    verdict = verify(good, weights)
    assert verdict.verification is None
    assert "draws new random numbers for every prediction" in " ".join(verdict.facts)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../evil.json", "is not a file of a bundle"),
        ("/etc/passwd", "is not a file of a bundle"),
        ("records/../../x.json", "is not a file of a bundle"),
        ("weights.pt", "is not a file of a bundle"),
    ],
)
def test_names_that_no_bundle_has(packed: bytes, tampered: Callable[..., Path], name: str, message: str) -> None:
    with pytest.raises(LeaderboardError, match=message):
        verify(tampered({name: b"x"}))


def test_what_would_grow_too_large_is_not_read(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_BYTES", 1000)
    with pytest.raises(LeaderboardError, match="bytes unpacked, more than are read"):
        verify(good)
    monkeypatch.setattr(archive, "MOST_FILES", 3)
    with pytest.raises(LeaderboardError, match="more than a bundle can have"):
        verify(good)


def test_files_that_are_no_bundles(tmp_path: Path, packed: bytes) -> None:
    path = tmp_path / "b.zip"
    with pytest.raises(LeaderboardError, match="there is no such file"):
        verify(path)
    path.write_bytes(b"no zip")
    with pytest.raises(LeaderboardError, match="not a bundle"):
        verify(path)
    path.write_bytes(packed[:-30])
    with pytest.raises(LeaderboardError, match="not a bundle"):
        verify(path)
    start = packed.index(b"entry.json") + len(b"entry.json")  # of its packed bytes
    path.write_bytes(packed[:start] + b"\xff" * 20 + packed[start + 20 :])
    with pytest.raises(LeaderboardError, match="not a bundle"):
        verify(path)
    content = unpacked(packed)
    path.write_bytes(as_zip({"entry.json": content["entry.json"]}))
    with pytest.raises(LeaderboardError, match=r"manifest\.json is missing"):
        verify(path)
    path.write_bytes(as_zip({**content, "manifest.json": b'{"bundle_version": 2, "files": {}}'}))
    with pytest.raises(LeaderboardError, match="bundle of version 2, this segbench reads 1"):
        verify(path)
    path.write_bytes(as_zip({**content, "manifest.json": b"[]"}))
    with pytest.raises(LeaderboardError, match=r"manifest\.json is not the manifest of a bundle"):
        verify(path)


def test_an_entry_of_another_schema_is_said(packed: bytes, tampered: Callable[..., Path]) -> None:
    only(
        verify(tampered(edited(packed, "entry.json", lambda c: c.update(schema_version=2)))),
        "entry.json: schema_version",
    )


def test_a_store_without_images_says_what_to_do(entry: Entry, own_store: Store) -> None:
    for record in own_store.all_records():
        counts, names = own_store.counts(record.digest), own_store.image_names(record.digest)
        assert counts is not None
        assert names is not None
        for path in (own_store.eval_dir(record.digest) / "images").glob("*"):
            path.unlink()
        own_store.write_record(record, counts, names)
    with pytest.raises(LeaderboardError, match=r"no images were kept of 8 of 8 evaluations; .*runtime\.keep_images=4"):
        bundle.pack(entry, own_store)
    with pytest.raises(LeaderboardError, match="has no record"):
        bundle.pack(entry, Store(own_store.root / "elsewhere"))
    bare = entry.results[0].model_copy(update={"runs": ()})
    with pytest.raises(LeaderboardError, match="has no runs"):
        bundle.pack(entry.model_copy(update={"results": (bare,)}), own_store)


def test_the_commands(
    segbench: Callable[..., tuple[int, str]], finished: Path, entry: Entry, weights: list[Path], tmp_path: Path
) -> None:
    place = tmp_path / "entries" / entry.path
    entry_files.write(entry, place)
    packed = tmp_path / "bundle.zip"
    code, printed = segbench("leaderboard", "bundle", place, "--store", finished, "--out", packed)
    assert (code, printed.startswith(f"bundle: {packed} (")) == (0, True)
    code, printed = segbench("leaderboard", "verify", packed, "--entry", place)
    assert (code, "nothing was predicted again" in printed) == (0, True)
    assert entry_files.read(place).status == "reported"
    code, printed = segbench(
        "leaderboard", "verify", packed, "--weights", weights[0], "--weights", weights[1], "--entry", place
    )
    assert (code, printed.strip().endswith(f"verified: {place}")) == (0, True), printed
    assert entry_files.load([tmp_path / "entries"])[0].status == "verified"
    code, printed = segbench("leaderboard", "verify", packed, "--weights", packed)
    assert (code, "is not one of the entry's weights" in printed) == (1, True)
    code, printed = segbench("leaderboard", "verify", place)
    assert (code, "not a bundle" in printed, "Traceback" in printed) == (2, True, False)
