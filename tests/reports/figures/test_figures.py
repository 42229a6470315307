"""Figures show the records' numbers, the same bytes every time, with words for those who cannot see them."""

import re

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("matplotlib", reason="figures need matplotlib")

from segbench.reports.evidence import NOTHING, Evidence, KeptImage
from segbench.reports.figures.base import _INK
from segbench.reports.figures.examples import pick
from segbench.reports.figures.gather import gather
from segbench.reports.page.page import compose
from segbench.reports.records import Manifest
from segbench.reports.render import render


def figures_of(records, evidence=NOTHING):
    page = compose(Manifest(name="x", title="x", records=tuple(records)))
    return {figure.name: figure for figure in gather(page, evidence)}


@pytest.fixture
def history(tmp_path):
    path = tmp_path / "history.csv"
    rows = {"epoch": [1, 2, 3], "loss": [2.0, 1.0, 0.5], "mask_predicted": [0.3, 0.2, 0.1], "mask_real": [0.2] * 3}
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


PALETTE = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)


def kept_image(index, right, pieces=1):
    """An image of ten valid pixels, of which `right` are right, and a void one; the attack adds 514, or 2 in 8 bit."""
    truth = np.array([[0] * 10 + [255]], np.uint8)
    preds = np.array([[0] * right + [1] * (11 - right)], np.uint8)
    images = np.full((pieces, 2, 2, 3), 100 * 257, np.uint16)
    return KeptImage(index, f"scene-{index}", PALETTE, images, images + np.uint16(514), truth, preds)


@pytest.fixture
def kept(records):
    """Images 3, 5, 6 and 9 of clean, bim(steps=4) and bim(steps=6); the fewer pixels right, the stronger the attack."""
    found = {}
    for record in records:
        if record.setting != "black-box" and record.attack.short != "bim(steps=2)":
            drop = record.attack.options.get("steps", 0) // 2
            found[record.digest] = [kept_image(i, right - drop) for i, right in ((3, 5), (5, 9), (6, 9), (9, 3))]
    return lambda digest: found.get(digest, [])


def test_what_records_alone_can_show(records) -> None:
    assert set(figures_of(records)) == {
        *("table-1-scatter", "table-1-bim-steps-1", "table-1-classes"),
        *("table-2-bim-steps-1", "table-2-transfer"),
    }


def test_curves_hold_means_over_runs(records) -> None:
    alt = figures_of(records)["table-1-bim-steps-1"].alt
    assert "PSPNet without defense: 72.3 at 0, 56.4 at 2, 40.4 at 4, 24.4 at 6" in alt


def test_curves_against_eps(one, net, attack_bim, part) -> None:
    bims = [part("bim", f"bim(eps={e})", eps=e, alpha=0.01, steps=6) for e in (0.01, 0.03)]
    records = [one(net("pspnet", "none", 0), a, miou=m) for a, m in zip(bims, (50.0, 20.0), strict=True)]
    figures = figures_of([one(net("pspnet", "none", 0), miou=70.0), *records])
    assert figures["table-1-bim-eps-1"].alt == "PSPNet without defense: 70.0 at 0, 50.0 at 0.01, 20.0 at 0.03."


def test_attacks_that_differ_elsewhere_are_not_one_curve(one, net, part) -> None:
    attacks = [part("bim", f"bim({n}, {s})", eps=0.03, steps=s, norm=n) for n, s in (("linf", 2), ("rms", 4))]
    assert "steps" not in " ".join(figures_of([one(net("pspnet", "none", 0), a) for a in attacks]))


def appearances(handles):
    return [(h.get_color(), h.get_marker(), h.get_fillstyle()) for h in handles]


@pytest.mark.parametrize("models", [("pspnet",), ("pspnet", "deeplabv3")])
def test_no_two_defenses_look_alike(one, net, attack_bim, models) -> None:
    """More defenses than colours, in the legend and at their points."""
    defenses = [f"d{i}" for i in range(16)]
    nets = [net(model, defense, 0) for model in models for defense in defenses]
    runs = [one(n, *attack) for n in nets for attack in ((), (attack_bim(2),), (attack_bim(4),))]
    figures = figures_of(runs)
    canvas = figures["table-1-scatter"].draw()
    legend = appearances(canvas.legends[0].legend_handles)
    assert len(set(legend)) == len(legend) == 16 + (len(models) if len(models) > 1 else 0)
    points = [line for line in canvas.axes[0].lines if line.get_linestyle() == "None" and len(line.get_xdata())]
    assert len(set(appearances(points))) == len(points) == len(nets)
    bars = figures["table-1-bim-steps-1"].draw().axes[0].containers
    assert len(set(appearances(bar.lines[0] for bar in bars))) == 16


def test_the_legend_names_defenses_that_the_first_model_lacks(one, net, attack_bim) -> None:
    nets = [net("pspnet", "none", 0), net("deeplabv3", "none", 0), net("deeplabv3", "sat", 0)]
    figure = figures_of([one(n, attack_bim(steps)) for n in nets for steps in (2, 4)])["table-1-bim-steps-1"]
    assert [text.get_text() for text in figure.draw().legends[0].texts] == ["none", "SAT"]


def test_equal_runs_have_bars_of_no_length(one, net, attack_bim) -> None:
    """The mean of three equal numbers may round to above or below all of them."""
    third = 12.5 * (1 + 1 / 3)
    runs = [one(net("pspnet", "none", s), attack_bim(k), miou=m) for s in range(3) for k, m in ((2, third), (4, 0.1))]
    assert "<svg" in figures_of(runs)["table-1-bim-steps-1"].svg("light")


def test_transfer_has_every_pair(records) -> None:
    alt = figures_of(records)["table-2-transfer"].alt
    values = [
        r.scores.miou
        for r in records
        if r.setting == "black-box"
        and (r.target.model.name, r.target.defense.name, r.attack.options["steps"]) == ("pspnet", "none", 6)
    ]
    assert f"PSPNet without defense: DeepLabv3 with SAT {np.mean(values):.0f}, itself 24" in alt


def test_transfer_takes_nothing_from_another_dataset(one, net, attack_bim) -> None:
    """A white-box table of other data says nothing of this one's targets."""
    nets = [net("pspnet", "none", 0), net("deeplabv3", "none", 0)]
    white = [one(n, attack_bim(2)) for n in nets]
    black = [one(n, attack_bim(2), source=net("pspnet", "sat", 0), dataset="other") for n in nets]
    alt = figures_of([*white, *black])["table-2-transfer"].alt
    assert "PSPNet with SAT" in alt
    assert "itself" not in alt


def test_classes_that_are_nowhere_have_no_value(records) -> None:
    figure = figures_of(records)["table-1-classes"]
    assert "PSPNet, none: clean: background 72, zero 72;" in figure.alt
    assert "one" not in figure.alt.replace("none", "")


def test_classes_are_those_of_what_is_done_so_far(records) -> None:
    first = records[0].target
    undone = {"status": "missing", "classes": (), "scores": None, "n_images": None}
    begun = [record.model_copy(update=undone) if record.target == first else record for record in records]
    figure = figures_of(begun)["table-1-classes"]
    assert "background 69, zero 69" in figure.alt


def test_histories(records, history) -> None:
    figures = figures_of(records, Evidence(history=lambda digest: history))
    assert "PSPNet with SAT, seed 1: 0.5" in figures["training-loss"].alt
    assert "predicted 10.0 %, real 20.0 %" in figures["training-boundary"].alt
    panels = [ax for ax in figures["training-boundary"].draw().axes if ax.get_visible()]
    assert len(panels) == len({record.target.digest for record in records})
    assert [list(line.get_ydata()) for line in panels[0].lines] == [[30, 20, 10], [20, 20, 20]]
    assert not {"training-loss"} & set(figures_of(records, Evidence(history=lambda digest: history.parent / "none")))


def test_examples_are_of_the_strongest_attack_whose_images_were_kept(records, kept) -> None:
    figures = figures_of(records, Evidence(kept=kept))
    names = [name for name in figures if "examples" in name]
    assert names == ["table-1-examples-1", "table-1-examples-2"]
    figure = figures[names[0]]
    assert figure.title == "White-box: Digits (val): PSPNet on single images, clean and under BIM-6"
    assert "Of 4 images that were kept: best, median, worst" in figure.caption
    assert "averaged over 3 networks" in figure.caption
    assert "best image, none: 90 % of the pixels right, 60 % under BIM-6" in figure.alt
    assert "median image, DDC-AT: 50 % of the pixels right, 20 %" in figure.alt
    assert "worst image, SAT: 30 % of the pixels right, 0 %" in figure.alt
    assert not figure.themed


def test_images_that_were_asked_for_are_shown_in_that_order_and_in_full_size(records, kept, tmp_path) -> None:
    manifest = Manifest(name="x", title="x", records=tuple(records))
    evidence = Evidence(kept=kept)
    page = compose(manifest)
    figure = next(own for own in gather(page, evidence, (9, 3)) if "examples" in own.name)
    assert figure.caption.startswith("Chosen by hand from 4 images that were kept")
    assert figure.alt.startswith("PSPNet. image 9, none: 30 % of the pixels right, 0 % under BIM-6; image 9, SAT")
    titles = [ax.get_title() for ax in figure.draw().axes]
    assert titles.index("image 9: scene-9") < titles.index("image 3: scene-3")
    assert figure.pdf().startswith(b"%PDF")
    unkept = r"image 4 of the split was not kept; kept are 3, 5, 6, 9; runtime\.keep_images"
    with pytest.raises(ValueError, match=unkept):
        render(manifest, tmp_path, ["figures"], evidence=evidence, images=(3, 4))
    with pytest.raises(ValueError, match="image 3 of the split was not kept; kept are none"):
        render(manifest, tmp_path, ["figures"], images=(3,))


def test_chosen_images_keep_their_pixels(one, net, attack_bim) -> None:
    truth = np.zeros((300, 400), np.uint8)
    image = np.full((1, 300, 400, 3), 100 * 257, np.uint16)
    big = KeptImage(7, "big", PALETTE, image, image + np.uint16(514), truth, truth)
    records = [one(net("pspnet", "none", 0), *a) for a in ((), (attack_bim(6),))]
    page, evidence = compose(Manifest(name="x", title="x", records=tuple(records))), Evidence(kept=lambda _: [big])
    sizes = {
        images: gather(page, evidence, images)[0].draw().axes[0].images[0].get_array().shape for images in ((), (7,))
    }
    assert sizes == {(): (100, 134, 3), (7,): (300, 400, 3)}


def test_an_attack_that_lacks_a_network_gives_way_to_one_that_all_share(records, kept) -> None:
    gone = next(r.digest for r in records if r.target.defense.name == "sat" and r.attack.short == "bim(steps=6)")
    figures = figures_of(records, Evidence(kept=lambda digest: [] if digest == gone else kept(digest)))
    assert figures["table-1-examples-1"].title.endswith("under BIM-4")
    assert figures["table-1-examples-2"].title.endswith("under BIM-6")


def test_many_networks_fill_several_figures(one, net, attack_bim) -> None:
    runs = [one(net("pspnet", f"d{i}", 0), a) for i in range(7) for a in (attack_bim(6),)]
    runs += [one(net("pspnet", f"d{i}", 0)) for i in range(7)]
    figures = figures_of(runs, Evidence(kept=lambda digest: [kept_image(0, 5)]))
    alts = [figure.alt for name, figure in figures.items() if "examples" in name]
    assert [alt.count("best image") for alt in alts] == [5, 2]
    assert "the only one" in figures["table-1-examples-1"].caption
    assert "Of 1 image that was kept" in figures["table-1-examples-1"].caption


def test_pieces_of_an_image_are_told(one, net, attack_bim) -> None:
    runs = [one(net("pspnet", "sat", 0), *attack) for attack in ((), (attack_bim(6),))]
    figure = figures_of(runs, Evidence(kept=lambda digest: [kept_image(0, 5, pieces=4)]))["table-1-examples-1"]
    assert "in up to 4 pieces: the image and its change show the first" in figure.caption
    assert figure.svg("dark").count("<image") == 6


def test_without_kept_images_there_are_no_examples(records, kept) -> None:
    clean = {r.digest for r in records if r.setting == "clean"}
    assert not [n for n in figures_of(records, Evidence()) if "examples" in n]
    only_clean = Evidence(kept=lambda digest: kept(digest) if digest in clean else [])
    assert not [n for n in figures_of(records, only_clean) if "examples" in n]


def test_pick_is_deterministic_and_shows_nothing_twice() -> None:
    assert pick({7: 0.5, 2: 0.9, 3: 0.1, 4: 0.9}) == {"best": 2, "median": 7, "worst": 3}
    assert pick({5: 0.5}) == {"best": 5}
    assert pick({5: 0.5, 6: 0.4}) == {"best": 5, "worst": 6}
    assert pick({}) == {}


def test_a_figure_draws_the_same_bytes_twice(records) -> None:
    one, other = (figures_of(records)["table-1-scatter"] for _ in range(2))
    assert one.svg("light") == other.svg("light")
    assert one.png() == other.png()


def test_a_dark_figure_is_the_light_one_in_the_colours_of_a_dark_page(records) -> None:
    figure = figures_of(records)["table-1-scatter"]
    light, dark = (set(re.findall("#[0-9a-f]{6}", figure.svg(theme))) for theme in ("light", "dark"))
    assert not dark & set(_INK["light"])
    assert dark - set(_INK["dark"]) == light - set(_INK["light"])
    assert re.sub("#[0-9a-f]{6}", "", figure.svg("dark")) == re.sub("#[0-9a-f]{6}", "", figure.svg("light"))


@pytest.mark.slow
def test_every_figure_draws(records, history, kept) -> None:
    figures = figures_of(records, Evidence(history=lambda digest: history, kept=kept))
    assert len(figures) == 9
    for figure in figures.values():
        assert figure.svg("light").count("<path") > 5
        assert figure.alt
        assert figure.caption
        assert figure.pdf() == figure.pdf()


def test_names_are_text(one, net, attack_bim) -> None:
    evil = "<script>$\\frac{1}"
    records = [one(net(evil, d, 0), a) for d in (evil, "sat") for a in (attack_bim(2), attack_bim(4))]
    records += [one(net(evil, d, 0)) for d in (evil, "sat")]
    for figure in figures_of(records).values():
        assert "<script" not in figure.svg("light")


def test_they_reach_page_and_folder(build, tmp_path) -> None:
    records = build(models=("pspnet",), seeds=(0,), steps=(2,))
    render(records, tmp_path, ["html", "figures"], figures=True)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<picture>") == 2
    assert 'alt="PSPNet without defense: clean 72.0, worst attack 56.0' in page
    assert {p.suffix for p in (tmp_path / "figures").iterdir()} == {".svg", ".pdf", ".png"}
