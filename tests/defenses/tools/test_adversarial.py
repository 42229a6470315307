"""SAT, PGD-AT, SegPGD-AT and Fast-AT: which images are attacked, how, and what the loss is taken of."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from segbench.attacks.apgd import apgd
from segbench.attacks.base import BoundAttack
from segbench.attacks.bim import bim
from segbench.attacks.clean import clean
from segbench.attacks.cw import cw
from segbench.attacks.pgd import pgd
from segbench.attacks.sea import sea
from segbench.attacks.segpgd import segpgd
from segbench.attacks.standard import standard
from segbench.attacks.universal import universal
from segbench.defenses import multitask
from segbench.defenses.base import segmentation_loss
from segbench.defenses.ddcat import ddcat
from segbench.defenses.fast_at import ONE_STEP, fast_at
from segbench.defenses.pgd_at import pgd_at
from segbench.defenses.sat import PAPER_ATTACK, sat
from segbench.defenses.segpgd_at import TRAINING_SEGPGD, segpgd_at
from segbench.defenses.tools.adversarial import AdversarialTraining, warmed


def statistics(segmenter) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in segmenter.named_buffers()}


def test_sat_attacks_the_second_half_and_trains_on_both(segmenter, batch, spy) -> None:
    images, masks = batch
    segmenter.eval()
    loss = sat(segmenter, attack=spy.bound).loss(images, masks, torch.Generator())
    mixed = torch.cat([images[:2], (images[2:] + 0.1).clamp(0, 1)])
    assert torch.equal(loss.total, segmentation_loss(segmenter, mixed, masks, aux_weight=0.4, ignore_index=255).total)
    assert spy.counts == [2]


def test_of_an_odd_batch_sat_attacks_the_larger_half(segmenter, batch, spy) -> None:
    sat(segmenter, attack=spy.bound).loss(batch[0][:3], batch[1][:3], torch.Generator())
    assert spy.counts == [2]


@pytest.mark.parametrize("make", [pgd_at, fast_at])
def test_whole_batches_are_attacked(make, segmenter, batch, spy) -> None:
    images, masks = batch
    segmenter.eval()
    loss = make(segmenter, attack=spy.bound).loss(images, masks, torch.Generator())
    attacked = (images + 0.1).clamp(0, 1)
    assert spy.counts == [4]
    assert torch.equal(
        loss.total, segmentation_loss(segmenter, attacked, masks, aux_weight=0.4, ignore_index=255).total
    )


def test_segpgd_at_splits_the_batch_by_its_option(segmenter, batch, spy) -> None:
    for share in (0.0, 0.5, 0.75):
        segpgd_at(segmenter, attack=spy.bound, clean=share).loss(*batch, torch.Generator())
    assert spy.counts == [4, 2, 1]


def test_attack_sees_the_main_classifier_in_eval_mode(segmenter, batch, spy) -> None:
    segmenter.train()
    sat(segmenter, attack=spy.bound).loss(*batch, torch.Generator())
    assert spy.models == [segmenter]
    assert spy.training == [False]
    assert all(module.training for module in segmenter.modules())


@pytest.mark.parametrize("make", [sat, pgd_at, segpgd_at, fast_at])
def test_attack_moves_no_batch_statistics(make, make_segmenter, batch, spy) -> None:
    """The running statistics are those of one pass of the batch that is trained on."""
    images, masks = batch
    attacked, reference = make_segmenter().train(), make_segmenter().train()
    made = []

    def keep(module, inputs) -> None:
        if module.training:
            made.append(inputs[0])

    attacked.trunk.register_forward_pre_hook(keep)
    torch.manual_seed(0)
    make(attacked).loss(images, masks, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    (seen,) = made
    reference.trunk(seen)
    mine, theirs = statistics(attacked.trunk), statistics(reference.trunk)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_attacks_of_the_defenses_are_the_published_ones() -> None:
    assert PAPER_ATTACK.attack is bim
    assert {name: PAPER_ATTACK.options[name] for name in ("eps", "alpha", "steps", "norm")} == {
        "eps": 0.03,
        "alpha": 0.01,
        "steps": 3,
        "norm": "linf",
    }
    assert ONE_STEP.attack is pgd
    assert ONE_STEP.options["steps"] == 1
    assert ONE_STEP.options["alpha"] == pytest.approx(1.25 * ONE_STEP.options["eps"])
    assert TRAINING_SEGPGD.attack is segpgd


def test_segpgd_at_trains_on_the_images_of_segpgd(segmenter, batch) -> None:
    images, masks = batch
    segmenter.eval()
    made = TRAINING_SEGPGD(segmenter, images[2:], masks[2:], generator=torch.Generator().manual_seed(3))
    loss = segpgd_at(segmenter).loss(images, masks, torch.Generator().manual_seed(3))
    mixed = torch.cat([images[:2], made])
    expected = segmentation_loss(segmenter, mixed, masks, aux_weight=0.4, ignore_index=255)
    assert torch.equal(loss.total, expected.total)


def test_warmup_scales_eps_and_alpha_and_nothing_else() -> None:
    attack = bim.bind(eps=0.04, alpha=0.02, steps=5)
    assert warmed(attack, 1, 4).options == {**attack.options, "eps": 0.01, "alpha": 0.005}
    assert warmed(attack, 2, 4).options == {**attack.options, "eps": 0.02, "alpha": 0.01}
    assert warmed(attack, 4, 4) is attack
    assert warmed(attack, 9, 4) is attack
    assert warmed(attack, 1, 0) is attack
    assert warmed(cw.bind(eps=0.04), 1, 4).options == {**cw.bind().options, "eps": 0.01}, "alpha follows eps by itself"


@pytest.mark.parametrize("make", [pgd_at, ddcat, multitask.Multitask], ids=["pgd-at", "ddcat", "multitask"])
def test_an_attack_that_fits_a_perturbation_first_is_refused(make, segmenter, batch) -> None:
    with pytest.raises(ValueError, match=r"universal .*on the training data"):
        make(segmenter, attack=universal.bind()).loss(*batch, torch.Generator())


@pytest.mark.parametrize(
    "attack",
    [sea.bind(steps=4), standard.bind(passes=6), apgd.bind(loss="balanced-masked-ce", steps=2)],
    ids=lambda bound: bound.attack.name,
)
def test_an_attack_that_weighs_classes_counts_those_of_the_batch(attack, segmenter, batch) -> None:
    images, masks = batch
    counted = torch.bincount(masks[masks != 255], minlength=1)
    with mock.patch.object(BoundAttack, "__call__", autospec=True, side_effect=BoundAttack.__call__) as called:
        loss = pgd_at(segmenter, attack=attack).loss(images, masks, torch.Generator().manual_seed(0))
    assert torch.isfinite(loss.total)
    assert torch.equal(called.call_args.kwargs["class_pixels"], counted)


def test_other_losses_of_apgd_need_no_training_data(segmenter, batch) -> None:
    defense = pgd_at(segmenter, attack=apgd.bind(loss="masked-ce", steps=1))
    assert torch.isfinite(defense.loss(*batch, torch.Generator()).total)


def test_warmup_goes_on_from_a_checkpoint(segmenter, make_segmenter, batch, spy) -> None:
    options = {"attack": spy.bound, "warmup": 4}
    first = pgd_at(segmenter, **options)
    for _ in range(2):
        first.loss(*batch, torch.Generator())
    second = pgd_at(make_segmenter(1), **options)
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        second.loss(*batch, torch.Generator())
    assert spy.eps == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])


@pytest.mark.parametrize("clean", [-0.1, 1.0, 1.5])
def test_a_share_that_leaves_nothing_to_attack_is_refused(clean: float, segmenter, spy) -> None:
    with pytest.raises(ValueError, match="clean must be at least 0 and less than 1"):
        segpgd_at(segmenter, attack=spy.bound, clean=clean)


def test_warmup_of_an_attack_without_a_budget_is_refused(segmenter) -> None:
    with pytest.raises(ValueError, match="clean has no eps to warm up"):
        AdversarialTraining(segmenter, attack=clean.bind(), warmup=10, aux_weight=0.4, ignore_index=255)
