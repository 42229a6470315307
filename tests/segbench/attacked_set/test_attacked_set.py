"""From an attacked copy of a split to the records of predictions that come back as files."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import png
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import segbench
from segbench import cli
from segbench.attacked_set.export import export
from segbench.attacked_set.manifest import CLEAN, MANIFEST, PLACE, read_set
from segbench.attacked_set.pieces import levels, read_piece, towards_clean
from segbench.attacked_set.score import score
from segbench.attacks.tools.budget import ThreatModel, check_budget, distance
from segbench.errors import SegbenchError
from segbench.files import write_sealed
from segbench.leaderboard.images import encode
from segbench.protocols.whole import Whole
from segbench.result import Result
from segbench.store import Store

DATA = "digits(size=32, val=4)"
NET = """
import torch
from torch import nn

def build(num_classes):
    torch.manual_seed(0)
    return nn.Conv2d(3, num_classes, 3, padding=1)
"""
ATTACKS = ["bim(steps=2, eps=4/255, alpha=2/255)", "bim(steps=2, norm=l2, eps=2.0, alpha=1.5)"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An attacked set of three images and three conditions; to be read only."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "net.py").write_text(NET)
    export(
        folder / "set",
        DATA,
        [f"{folder / 'net.py'}:build"],
        ATTACKS,
        limit=3,
        device="cpu",
        force=True,
        store=folder / "runs",
    )
    return folder


@pytest.fixture
def answered(made: Path, tmp_path: Path) -> Path:
    """Predictions of the substitute itself for the set, in a folder that may be changed."""
    network = substitute()
    for condition in read_set(made / "set").conditions:
        (tmp_path / "answers" / condition).mkdir(parents=True)
        for path in (made / "set" / condition).glob("*.png"):
            images = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None].float() / 255
            with torch.no_grad():
                labels = network(images).argmax(1)[0].numpy().astype(np.uint8)
            (tmp_path / "answers" / condition / path.name).write_bytes(encode(labels))
    return tmp_path / "answers"


def substitute() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Conv2d(3, classes(), 3, padding=1).eval()


def classes() -> int:
    from segbench.datasets.digits import Digits

    return len(Digits(size=32, val=4).classes)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("linf", 0.03), ("l2", 1.0), ("rms", 0.02)])
def test_rounding_keeps_the_budget_and_moves_towards_the_clean_image(norm: str, eps: float) -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(256, (4, 3, 9, 7), generator=generator).to(torch.uint8)
    before = clean.double() / 255
    change = torch.randn(before.shape, generator=generator, dtype=torch.float64)
    if norm == "linf":
        change = eps * change.sign()
    else:
        length = distance(before + change, before, norm).view(-1, 1, 1, 1)  # type: ignore[arg-type]
        change = change * eps / length
    adversarial = (before + change).clamp(0, 1)
    for given in (adversarial, adversarial.float()):
        shown = towards_clean(given, clean, norm)  # type: ignore[arg-type]
        check_budget(shown.double() / 255, before, ThreatModel(norm, eps, "gradients"))  # type: ignore[arg-type]
        moved = shown.double() - clean.double()
        wished = given.double() * 255 - clean.double()
        assert (moved * wished >= 0).all()
        assert (moved.abs() <= wished.abs() + 1e-3).all()
        assert (moved.abs() > wished.abs() - 1).all()
    if eps == 8 / 255:
        inside = before + change == adversarial
        assert (moved.abs()[inside] == 8).all(), "whole levels are not lost to float32"


def test_the_files_are_the_split_and_keep_the_budget(made: Path) -> None:
    found = read_set(made / "set")
    assert list(found.conditions) == ["clean", "bim-eps-4-255-alpha-2-255-steps-2--net", *list(found.conditions)[2:]]
    from segbench.datasets.digits import Digits

    split = Digits(size=32, val=4).split("val")
    for index, image in enumerate(found.images):
        clean = read_piece((made / "set" / "clean" / image.files[0]).read_bytes())
        assert torch.equal(clean, split[index].image)
        for name, condition in found.conditions.items():
            shown = read_piece((made / "set" / name / image.files[0]).read_bytes())
            threat = ThreatModel(condition.threat.norm, condition.threat.eps, "gradients")  # type: ignore[arg-type]
            check_budget(shown[None].double() / 255, clean[None].double() / 255, threat)
            assert (name == "clean") is torch.equal(shown, clean)
    assert not any("mask" in path.name or "label" in path.name for path in (made / "set").rglob("*"))
    assert not (made / "set" / "unfinished.json").exists()


def test_scores_are_those_of_the_network_that_predicted(made: Path, answered: Path, tmp_path: Path) -> None:
    result = score(made / "set", answered, name="ours", store=tmp_path / "runs")
    network = substitute()
    own = segbench.evaluate(network, DATA, ["clean"], limit=3, store=tmp_path / "own", device="cpu", force=True)
    records = {record.attack.options.get("norm", "clean"): record for record in result.records}
    assert records["clean"].scores == own.records[0].scores
    assert [r.setting for r in result.records] == ["clean", "black-box", "black-box"]
    assert {r.target.access for r in result.records} == {"files"}
    assert all(r.source.model.name == "net" for r in result.records[1:])
    assert records["linf"].budget_used == pytest.approx(4 / 255)
    # Scored again by a slow loop over pixels.
    split = read_set(made / "set")
    from segbench.datasets.digits import Digits

    truth = Digits(size=32, val=4).split("val")
    name = list(split.conditions)[1]
    right = total = 0
    for index, image in enumerate(split.images):
        preds = np.array(Image.open(answered / name / image.files[0]))
        mask = truth[index].mask.numpy()
        right += int((preds == mask)[mask != 255].sum())
        total += int((mask != 255).sum())
    assert records["linf"].scores is not None
    assert records["linf"].scores.aacc == pytest.approx(100 * right / total)


def test_others_join_the_same_tables_and_the_store_verifies(made: Path, answered: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name in ("ours", "theirs", "ours"):
        arguments = ["attacked-set", "score", str(made / "set"), str(answered), "--name", name, "--store", str(runs)]
        result = CliRunner().invoke(cli.app, arguments)
        assert result.exit_code == 0, result.output
    (name,) = Store(runs).manifests()
    assert name.startswith("attacked-digits-")
    manifest = Store(runs).manifest(name)
    assert manifest is not None
    assert [r.target.model.name for r in manifest.records] == ["theirs"] * 3 + ["ours"] * 3
    again = CliRunner().invoke(cli.app, ["report", name, "--store", str(runs), "--out", str(tmp_path / "report")])
    assert again.exit_code == 0, again.output
    text = (tmp_path / "report" / "report.md").read_text()
    assert "ours" in text
    assert "theirs" in text
    verified = CliRunner().invoke(cli.app, ["store", "verify", str(runs)])
    assert verified.exit_code == 0, verified.output


def test_confidences_are_read(made: Path, answered: Path, tmp_path: Path) -> None:
    for path in list((answered / "clean").glob("*.png")):
        buffer = io.BytesIO()
        writer = png.Writer(32, 32, greyscale=True, bitdepth=16)
        writer.write(buffer, np.full((32, 32), 65535 // 4 * 3, np.uint16))
        path.with_name(path.name.replace(".png", ".confidence.png")).write_bytes(buffer.getvalue())
    result = score(made / "set", answered, name="ours", store=tmp_path / "runs")
    extras = result.records[0].extras
    assert extras["confidence_right"] == pytest.approx(75, abs=0.01)
    assert extras["confidence_wrong"] == pytest.approx(75, abs=0.01)
    assert not result.records[1].extras
    next((answered / "clean").glob("*.confidence.png")).unlink()
    with pytest.raises(SegbenchError, match=r"confidence.png is missing; give confidences for every image"):
        score(made / "set", answered, name="ours", store=tmp_path / "runs")


def grey(value: int, *shape: int) -> bytes:
    return encode(np.full(shape, value, np.uint8))


def bomb() -> bytes:
    return encode(np.zeros((20000, 20), np.uint8)).replace((20).to_bytes(4, "big"), (20000).to_bytes(4, "big"), 1)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda file: file.unlink(), r"00001.png is missing; give a label map for every image"),
    "surplus": (lambda file: shutil.copy(file, file.with_name("00099.png")), "'00099.png' is no image of the set"),
    "folder": (lambda file: shutil.rmtree(file.parent), "clean: there is no such folder"),
    "condition": (lambda file: (file.parent.parent / "more").mkdir(), "'more' is no condition"),
    "size": (lambda file: file.write_bytes(grey(0, 16, 32)), "16 x 32 pixels, its image has 32 x 32"),
    "label": (lambda file: file.write_bytes(grey(200, 32, 32)), "holds the label 200; labels are 0 to "),
    "void": (lambda file: file.write_bytes(grey(255, 32, 32)), "holds the label 255"),
    "rgb": (lambda file: Image.new("RGB", (32, 32)).save(file), "expected 8-bit grey, got 8-bit RGB of 3 planes"),
    "palette": (lambda file: Image.new("P", (32, 32)).save(file), "expected 8-bit grey"),
    "deep": (lambda file: Image.new("I;16", (32, 32)).save(file), "expected 8-bit grey, got 16-bit grey"),
    "jpeg": (lambda file: Image.new("L", (32, 32)).save(file, "JPEG"), "not a PNG file"),
    "cut": (lambda file: file.write_bytes(file.read_bytes()[:60]), "PNG"),
    "empty": (lambda file: file.write_bytes(b""), "PNG"),
    "bomb": (lambda file: file.write_bytes(bomb()), "PNG|pixels"),
    "link": (lambda file: (file.unlink(), file.symlink_to("/etc/hostname")), "not a plain file"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_bad_predictions_are_one_sentence_and_leave_no_record(
    made: Path, answered: Path, tmp_path: Path, damage: str
) -> None:
    change, message = DAMAGE[damage]
    change(answered / "clean" / "00001.png")
    with pytest.raises(SegbenchError, match=message):
        score(made / "set", answered, name="ours", store=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("place", ["conditions", "files"])
def test_a_manifest_that_was_changed_is_refused(made: Path, answered: Path, tmp_path: Path, place: str) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    content = json.loads((made / "set" / MANIFEST).read_text())
    content[place] = {}
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(SegbenchError, match=r"manifest.json: damaged; take the manifest"):
        score(folder, answered, name="ours", store=tmp_path / "runs")
    (folder / MANIFEST).write_text("{}")
    with pytest.raises(SegbenchError, match="carries no checksum"):
        score(folder, answered, name="ours", store=tmp_path / "runs")
    with pytest.raises(SegbenchError, match="no attacked set"):
        score(tmp_path / "nowhere", answered, name="ours", store=tmp_path / "runs")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "not the manifest of an attacked set .*images"),
        ({"conditions": {}}, "not the manifest of an attacked set .*conditions"),
        ({"limit": 2}, "more images than its limit"),
        ({"seed": -1}, "not the manifest of an attacked set .*seed"),
        ({"classes": ["a", "b"]}, r"has other classes than the set \(a, b\)"),
        (
            {"protocol": {"name": "whole-v1", "options": {"size": [10**6, 10**6]}}},
            "cannot be cut as the set's protocol",
        ),
    ],
)
def test_a_manifest_of_a_stranger_is_one_sentence(
    made: Path, answered: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    (tmp_path / "set").mkdir()
    content = json.loads(json.dumps(read_set(made / "set").model_dump(mode="json")))
    for key, value in changes.items():
        content[key] = content[key] | value if key == "protocol" else value
    write_sealed(tmp_path / "set" / MANIFEST, content, PLACE)
    with pytest.raises(SegbenchError, match=message):
        score(tmp_path / "set", answered, name="ours", store=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "\x1b[31mred"])
def test_a_name_that_no_table_can_show_is_refused(made: Path, answered: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(SegbenchError, match="attacked-set score: name: expected"):
        score(made / "set", answered, name=name, store=tmp_path / "runs")


def test_an_interrupted_export_goes_on_and_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    arguments = ([f"{made / 'net.py'}:build"], ATTACKS)
    name = list(read_set(made / "set").conditions)[1]

    def stop(text: str) -> None:
        if text.startswith(f"{tmp_path / 'set' / name}: "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(tmp_path / "set", DATA, *arguments, limit=3, device="cpu", force=True, store=made / "runs", say=stop)
    kept = tmp_path / "set" / "clean" / "00000.png"
    before = kept.stat().st_mtime_ns
    with pytest.raises(SegbenchError, match="holds other files; name a new folder"):
        export(tmp_path / "set", DATA, *arguments, limit=2, device="cpu", force=True, store=made / "runs")
    export(tmp_path / "set", DATA, *arguments, limit=3, device="cpu", force=True, store=made / "runs")
    assert kept.stat().st_mtime_ns == before
    for path in sorted((made / "set").rglob("*.png")):
        assert (tmp_path / "set" / path.relative_to(made / "set")).read_bytes() == path.read_bytes()
    with pytest.raises(SegbenchError, match="holds an attacked set already"):
        export(tmp_path / "set", DATA, *arguments, limit=3, device="cpu", force=True, store=made / "runs")


def test_a_black_box_is_no_substitute_for_gradients(made: Path, tmp_path: Path) -> None:
    (tmp_path / "box.py").write_text(
        NET + "\n\ndef box(num_classes):\n    net = build(num_classes)\n"
        "    return lambda images: net(images).argmax(1)\n"
    )
    with pytest.raises(SegbenchError, match="needs gradients, and box gives only labels"):
        export(
            tmp_path / "set",
            DATA,
            [f"{tmp_path / 'box.py'}:box"],
            ATTACKS,
            limit=1,
            force=True,
            store=tmp_path / "runs",
        )


def test_pieces_of_a_protocol_that_cuts_images_are_merged(made: Path, tmp_path: Path) -> None:
    protocol = "ddcat-crop-v1(crop=24)"
    folder = tmp_path / "set"
    export(
        folder,
        DATA,
        [f"{made / 'net.py'}:build"],
        ["bim(steps=1)"],
        protocol=protocol,
        limit=1,
        device="cpu",
        force=True,
        store=made / "runs",
    )
    found = read_set(folder)
    (image,) = found.images
    assert len(image.files) > 1
    for condition in found.conditions:
        (tmp_path / "answers" / condition).mkdir(parents=True)
        for file in image.files:
            (tmp_path / "answers" / condition / file).write_bytes(grey(0, image.height, image.width))
    result: Result = score(folder, tmp_path / "answers", name="black", store=tmp_path / "runs")
    from segbench.datasets.digits import Digits

    mask = Digits(size=32, val=4).split("val")[0].mask
    scores = result.records[0].scores
    assert scores is not None
    assert scores.aacc == pytest.approx(100 * float((mask == 0).sum() / (mask != 255).sum()), abs=0.01)


def test_levels_are_exact_for_images_of_eight_bits() -> None:
    image = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, -1, -1)
    crops = Whole().crops(image, torch.zeros(16, 16))
    assert torch.equal(levels(crops.images)[0], image)


def test_a_patch_stays_in_its_place_through_rounding(made: Path, tmp_path: Path) -> None:
    patches = ["patch(size=0.1, steps=2)", "hide(source=0, region=object, steps=2)"]
    export(
        tmp_path / "set",
        DATA,
        [f"{made / 'net.py'}:build"],
        patches,
        limit=1,
        device="cpu",
        force=True,
        store=made / "runs",
    )
    found = read_set(tmp_path / "set")
    regions = {condition.threat.region for condition in found.conditions.values()}
    assert regions == {None, "patch", "object"}
    for name, condition in found.conditions.items():
        if condition.threat.region == "patch":
            pieces = [read_piece((tmp_path / "set" / own / "00000.png").read_bytes()) for own in (CLEAN, name)]
            changed = (pieces[0] != pieces[1]).any(0).nonzero()
            assert 0 < len(changed) <= 100
            assert changed.amax(0).sub(changed.amin(0)).max() < 10
