"""DDC-AT, -M and -N on pixels whose three branches are known numbers."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch
from torch import Tensor, nn

from segbench.attacks.base import BoundAttack
from segbench.attacks.bim import bim
from segbench.attacks.pgd import pgd
from segbench.defenses import ddcat as module
from segbench.defenses.ddcat import Branches, DivideAndConquer, ddcat, ddcat_m, ddcat_n
from segbench.model_zoo.base import Segmenter

EPS = 0.1
VARIANTS = {"ddcat": ddcat, "ddcat-m": ddcat_m, "ddcat-n": ddcat_n}


def set_linear(head: nn.Module, channel: int, threshold: float) -> None:
    """Make a head give logits [0, 10 (colour - threshold)] from one colour channel."""
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        head.weight[1, channel] = 10
        head.bias[1] = -10 * threshold


@pytest.fixture
def training(pixel_segmenter: Segmenter, spy):
    """Main branch: red > 0.5. Auxiliary branch: blue > 0.3. Mask branch: green > 0.5. The attack adds 0.1 to all."""

    def make(name: str, **options: float) -> DivideAndConquer:
        defense = VARIANTS[name](pixel_segmenter, attack=spy.bound, **options)
        set_linear(pixel_segmenter.classifier, 0, 0.5)
        set_linear(defense.auxiliary_branch, 2, 0.3)
        set_linear(defense.mask_branch, 1, 0.5)
        return defense

    return make


@pytest.fixture
def pixels() -> tuple[Tensor, Tensor]:
    """Four images of 5x6 random colours, labels 0 and 1, some void."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(4, 3, 5, 6, generator=generator)
    masks = torch.randint(0, 2, (4, 5, 6), generator=generator)
    masks[0, 0], masks[3, 4] = 255, 255
    return images, masks


def softmax_loss(logit: float, label: int) -> float:
    """Cross-entropy of logits [0, logit], in plain arithmetic."""
    return math.log1p(math.exp(-logit)) if label == 1 else math.log1p(math.exp(logit))


def slow_loss(images: Tensor, masks: Tensor, name: str, lambdas: tuple[float, float, float]) -> dict[str, float]:
    """Equations 3 to 5 and the paper's mask labels, pixel by pixel."""

    def branches(colour: list[float]) -> tuple[float, float, float]:
        return 10 * (colour[0] - 0.5), 10 * (colour[2] - 0.3), 10 * (colour[1] - 0.5)

    def prediction(colour: list[float]) -> bool:
        main, auxiliary, mask = branches(colour)
        return (auxiliary if mask > 0 else main) > 0

    loss_main = loss_aux = loss_mask = 0.0
    predicted, real, valid, divided, total = 0, 0, 0, 0, 0
    for n in range(4):
        is_clean = n < 2
        counts = {"ddcat": is_clean, "ddcat-m": True, "ddcat-n": not is_clean}[name]
        for i in range(5):
            for j in range(6):
                clean = images[n, :, i, j].tolist()
                attacked = (images[n, :, i, j] + EPS).clamp(0, 1).tolist()
                flips = prediction(clean) != prediction(attacked)
                mask_label = int(flips and counts)
                main, auxiliary, mask = branches(clean if is_clean else attacked)
                loss_mask += softmax_loss(mask, mask_label)
                total += 1
                if counts:
                    divided += 1
                    predicted += mask > 0
                    real += mask_label
                label = int(masks[n, i, j])
                if label != 255:
                    valid += 1
                    loss_main += softmax_loss(main, label) if mask <= 0 else 0.0
                    loss_aux += softmax_loss(auxiliary, label) if mask > 0 else 0.0
    segmentation = (lambdas[0] * loss_main + lambdas[1] * loss_aux) / valid
    return {
        "total": segmentation + lambdas[2] * loss_mask / total,
        "merged": segmentation,
        "mask": loss_mask / total,
        "mask_predicted": predicted / divided,
        "mask_real": real / divided,
    }


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("lambdas", [(1.0, 1.0, 1.0), (0.5, 2.0, 3.0)])
def test_loss_equals_the_equations_pixel_by_pixel(name: str, lambdas, training, pixels) -> None:
    options = dict(zip(("lambda_main", "lambda_aux", "lambda_mask"), lambdas, strict=True))
    losses = training(name, **options).loss(*pixels, torch.Generator())
    expected = slow_loss(*pixels, name, lambdas)
    assert 0 < expected["mask_real"] < 1
    assert losses.total.item() == pytest.approx(expected["total"], rel=1e-5)
    for term in ("merged", "mask", "mask_predicted", "mask_real"):
        assert losses.terms[term].item() == pytest.approx(expected[term], rel=1e-5), term


def test_merged_logits_are_the_branch_that_the_mask_names() -> None:
    main, auxiliary = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    gate = torch.rand(2, 4, 5) > 0.5
    mask = torch.stack([torch.zeros(2, 4, 5), gate.float() - 0.5], 1)
    merged = Branches(main, auxiliary, mask).merged()
    for n in range(2):
        for i in range(4):
            for j in range(5):
                source = auxiliary if gate[n, i, j] else main
                assert torch.equal(merged[n, :, i, j], source[n, :, i, j])


def test_where_the_mask_branch_is_undecided_the_main_branch_is_taken() -> None:
    main, auxiliary = torch.ones(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    assert torch.equal(Branches(main, auxiliary, torch.zeros(1, 2, 1, 1)).merged(), main)


def test_the_hard_gate_passes_no_gradient_to_the_mask_branch(training, pixels) -> None:
    defense = training("ddcat", lambda_mask=0.0)
    defense.loss(*pixels, torch.Generator()).total.backward()
    assert defense.mask_branch.weight.grad.abs().sum() == 0
    assert defense.auxiliary_branch.weight.grad.abs().sum() > 0
    assert defense.segmenter.classifier.weight.grad.abs().sum() > 0


def test_with_unit_lambdas_the_loss_is_that_of_the_merged_logits(training, pixels) -> None:
    """Equation 3 with both lambdas 1 is the cross-entropy of the merged logits, as the authors' code has it."""
    images, masks = pixels
    defense = training("ddcat")
    mixed = torch.cat([images[:2], (images[2:] + EPS).clamp(0, 1)])
    merged = defense.branches(mixed, mixed).merged()
    expected = nn.functional.cross_entropy(merged, masks, ignore_index=255)
    torch.testing.assert_close(defense.loss(images, masks, torch.Generator()).terms["merged"], expected.detach())


def test_mask_labels_of_void_pixels_count(training, pixels) -> None:
    images, masks = pixels
    all_valid = training("ddcat").loss(images, masks.where(masks != 255, 0), torch.Generator())
    some_void = training("ddcat").loss(images, masks, torch.Generator())
    assert torch.equal(all_valid.terms["mask"], some_void.terms["mask"])
    assert not torch.equal(all_valid.terms["merged"], some_void.terms["merged"])


@pytest.mark.parametrize(("name", "attacked"), [("ddcat", 4), ("ddcat-m", 4), ("ddcat-n", 2)])
def test_only_images_that_need_it_are_attacked(name: str, attacked: int, training, pixels, spy) -> None:
    training(name).loss(*pixels, torch.Generator())
    assert spy.counts == [attacked]


@pytest.mark.parametrize("name", VARIANTS)
def test_attack_and_predictions_run_in_eval_mode_and_move_no_statistics(name: str, make_segmenter, batch, spy) -> None:
    defense = VARIANTS[name](make_segmenter(), attack=spy.bound).train()
    modes: list[bool] = []
    defense.mask_branch.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    before = {key: value.clone() for key, value in defense.named_buffers()}
    defense.predict(batch[0])
    assert all(torch.equal(value, before[key]) for key, value in defense.named_buffers())
    defense.loss(*batch, torch.Generator())
    assert spy.training == [False]
    assert spy.models == [defense.segmenter]
    assert modes == [False, False, False, True]
    counters = [value.item() for key, value in defense.named_buffers() if key.endswith("num_batches_tracked")]
    assert set(counters) == {1}


@pytest.mark.parametrize(("name", "saved"), [("ddcat", 2), ("ddcat-m", 4), ("ddcat-n", 2)])
def test_the_first_pass_of_an_attack_from_the_clean_images_serves_for_their_prediction(
    name: str, saved: int, make_segmenter, batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(attack: BoundAttack) -> tuple[Tensor, int]:
        defense = VARIANTS[name](make_segmenter(), attack=attack).train()
        seen: list[int] = []
        defense.segmenter.trunk.register_forward_pre_hook(lambda _, images: seen.append(len(images[0])))
        torch.manual_seed(1)
        return defense.loss(*batch, torch.Generator().manual_seed(2)).total, sum(seen)

    bound, elsewhere = bim.bind(steps=2), pgd.bind(steps=2, eps=0.03, alpha=0.01)
    spared, fewer = step(bound)
    moved, as_many = step(elsewhere)
    monkeypatch.setattr(module, "first_pass", lambda segmenter: contextlib.nullcontext([]))
    loss, passes = step(bound)
    assert (spared, fewer) == (loss, passes - saved)
    assert (moved, as_many) == step(elsewhere)


def test_predictions_are_those_of_the_merged_logits(training, pixels) -> None:
    images, _ = pixels
    predicted = training("ddcat").predict(images)
    expected = torch.where(images[:, 1] > 0.5, images[:, 2] > 0.3, images[:, 0] > 0.5).long()
    assert torch.equal(predicted, expected)


def test_only_the_main_branch_is_deployed(training) -> None:
    defense = training("ddcat")
    assert defense.deploy() is defense.segmenter
    assert len(list(defense.deploy().parameters())) == 2
