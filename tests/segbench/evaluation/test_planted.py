"""Networks with planted defenses that fool gradient attacks are flagged, and honest networks are not."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from copy import deepcopy
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from segbench.attacks.bim import bim
from segbench.components import specs
from segbench.datasets.digits import Digits
from segbench.evaluation.probes import accuracy, allowance, measure
from segbench.networks.load import answers
from segbench.reports.sanity import network_flags

pytestmark = pytest.mark.slow

SMALL = 12 * (2 * 3 + 2)
"""Passes of an evaluation of 12 images, clean and under BIM-3: what the probes are sized for here."""

VOID = 255

Function = Callable[[Tensor], Tensor]


class Wrapped(nn.Module):
    """A network with a function before it and one behind it."""

    def __init__(self, model: nn.Module, before: Function | None = None, behind: Function | None = None) -> None:
        super().__init__()
        self.model, self.before, self.behind = model, before, behind

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images if self.before is None else self.before(images))
        return logits if self.behind is None else self.behind(logits)


class Backward(torch.autograd.Function):
    """The identity, whose gradient is changed by a function."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, change: Function) -> Tensor:
        ctx.change = change
        return images.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return ctx.change(gradients[0]), None


class Remembering(nn.Module):
    """Answers with the truth near images that it knows."""

    def __init__(self, model: nn.Module, images: Tensor, masks: Tensor, reach: float) -> None:
        super().__init__()
        self.model, self.images, self.masks, self.reach = model, images, masks, reach

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        known = logits.clone()
        truth = F.one_hot(self.masks.clamp_max(logits.shape[1] - 1), logits.shape[1]).permute(0, 3, 1, 2)
        for i, image in enumerate(images):
            far = (self.images - image).abs().flatten(1).amax(1)
            if far.min() <= self.reach:
                known[i] = 10 * truth[far.argmin()] + 0 * logits[i]
        return known


class TwoFaced(nn.Module):
    """Answers with other logits while gradients are taken."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits.roll(1, 1) if images.requires_grad else logits


class Surrogate(nn.Module):
    """Predicts with one network and gives the gradient of another."""

    def __init__(self, model: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.model, self.other = model, other

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images).detach()
        stand_in = self.other(images)
        return logits + stand_in - stand_in.detach()


class Refusing(nn.Module):
    """Answers nothing about images that are noisier than those that it knows."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.model, self.most = model, 1.02 * roughness(images).max()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return torch.where((roughness(images) > self.most).view(-1, 1, 1, 1), 0, logits)


class HalfHidden(nn.Module):
    """The sum of two networks, of which the stronger one has no gradient."""

    def __init__(self, model: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.model, self.other = model, other

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = 0.8 * self.model(images).detach() + 0.2 * self.other(images)
        return logits


class Drawn(nn.Module):
    """One of two networks, by the image's hash."""

    def __init__(self, *models: nn.Module) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, images: Tensor) -> Tensor:
        chosen = [int(torch.randint(2, (), generator=generator)) for generator in seeded_by_content(images)]
        return torch.cat([self.models[n](image[None]) for n, image in zip(chosen, images, strict=True)])


class Drifting(nn.Module):
    """Answers otherwise after some calls, by a counter that is no buffer."""

    def __init__(self, model: nn.Module, calls: int = 1) -> None:
        super().__init__()
        self.model, self.every, self.calls = model, calls, 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = self.model(images.roll(self.calls // self.every % 3 - 1, 3))
        return logits


def seeded_by_content(images: Tensor, digits: int | None = None) -> list[torch.Generator]:
    """Return a generator for each image that depends on its values alone."""
    plain = images.detach() if digits is None else images.detach().mul(10**digits).round()
    hashes = [hashlib.sha256(image.numpy().tobytes()).digest()[:7] for image in plain]
    return [torch.Generator().manual_seed(int.from_bytes(own)) for own in hashes]


def hashed_noise(images: Tensor) -> Tensor:
    noise = [torch.randn(images.shape[1:], generator=generator) for generator in seeded_by_content(images)]
    return images + 0.08 * torch.stack(noise)


def hashed_shift(images: Tensor) -> Tensor:
    """Pad at a border that depends on the image, and cut back."""
    moved = []
    for image, generator in zip(images, seeded_by_content(images), strict=True):
        left, top = torch.randint(7, (2,), generator=generator).tolist()
        padded = F.pad(image[None], (6, 6, 6, 6), mode="reflect")
        moved.append(padded[0, :, top + 3 : top + 3 + image.shape[1], left + 3 : left + 3 + image.shape[2]])
    return torch.stack(moved)


def random_padding(images: Tensor) -> Tensor:
    """Resize to a random size and pad at random, as Xie et al. 2018."""
    size = images.shape[2] - int(torch.randint(1, 8, ()))
    small = F.interpolate(images, size=(size, size), mode="bilinear")
    left, top = torch.randint(images.shape[2] - size + 1, (2,)).tolist()
    return F.pad(small, (left, images.shape[3] - size - left, top, images.shape[2] - size - top))


def thermometer(images: Tensor, levels: int = 16) -> Tensor:
    """Encode each value by the levels that it passes, and decode it."""
    passed = [(images > (level + 0.5) / levels).float() for level in range(levels)]
    return torch.stack(passed).mean(0)


def jpeg(images: Tensor) -> Tensor:
    found = []
    for image in (images.detach() * 255).byte().permute(0, 2, 3, 1).numpy():
        with io.BytesIO() as file:
            Image.fromarray(image).save(file, "JPEG", quality=75)
            found.append(torch.from_numpy(np.array(Image.open(file))))
    return torch.stack(found).permute(0, 3, 1, 2) / 255 + 0 * images


def one_pixel(images: Tensor) -> Tensor:
    kept = torch.zeros_like(images[:1])
    kept[:, :, 8, 8] = 1
    return images.detach() * (1 - kept) + images * kept


def half_detached(images: Tensor) -> Tensor:
    left = images.shape[3] // 2
    return torch.cat([images[..., :left].detach(), images[..., left:]], 3)


def on_grid_only(images: Tensor) -> Tensor:
    """Have a gradient only at images whose values are whole 255ths."""
    whole = (images * 255 - (images * 255).round()).abs().amax((1, 2, 3), keepdim=True) < 1e-3
    return torch.where(whole, images, images.detach()) + 0 * images


def steps_with_slope(images: Tensor) -> Tensor:
    return (images * 16).round() / 16 + 1e-3 * (images - images.detach())


def chaotic(images: Tensor) -> Tensor:
    """Add a small value that the logistic map makes of each value."""
    value = images * 0.98 + 0.01
    for _ in range(12):
        value = 3.9 * value * (1 - value)
    return images + 0.02 * (value - 0.5)


def roughness(images: Tensor) -> Tensor:
    return (images - F.avg_pool2d(images, 3, 1, 1)).abs().mean((1, 2, 3))


def smoothed(gradient: Tensor, size: int) -> Tensor:
    around = (size // 2,) * 4
    return F.avg_pool2d(F.pad(gradient, around, mode="reflect"), size, 1)


def wrong_in_red(gradient: Tensor) -> Tensor:
    return gradient * torch.tensor([-1.0, 1, 1]).view(3, 1, 1)


def noisy_gradient(gradient: Tensor) -> Tensor:
    noise = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(0))
    return gradient + 20 * gradient.std() * noise


def backward(change: Function) -> Function:
    return lambda images: Backward.apply(images, change)  # type: ignore[no-any-return, no-untyped-call]


@cache
def samples(split: str = "val", count: int = 12) -> tuple[Tensor, Tensor]:
    data = Digits(train=200, val=12, dev=1).split(split)
    read = [data[index] for index in range(count)]
    return torch.stack([one.image for one in read]) / 255, torch.stack([one.mask.long() for one in read])


def train(model: nn.Module, steps: int, *, adversarial: bool = False, lr: float = 0.03) -> nn.Module:
    images, masks = samples("train", 200)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(len(images), (16,), generator=generator)
        batch, truth = images[chosen], masks[chosen]
        model.train()
        if adversarial:
            batch = bim(model, batch, truth, eps=0.03, alpha=0.03, steps=1)
        loss = F.cross_entropy(model(batch), truth, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def pspnet(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    built: nn.Module = specs.bound("model", "pspnet(encoder=tiny)").make(num_classes=6)
    return built.eval().requires_grad_(False)


def conv(seed: int = 0, width: int = 16, activation: Callable[[], nn.Module] = nn.ReLU, norm: bool = True) -> nn.Module:
    """Return a small network that sees 29 pixels around each."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.AvgPool2d(2)]
    before = 3
    for dilation in (1, 2, 4):
        layers += [nn.Conv2d(before, width, 3, padding=dilation, dilation=dilation)]
        layers += [nn.BatchNorm2d(width)] * norm + [activation()]
        before = width
    return nn.Sequential(*layers, nn.Conv2d(width, 6, 1), nn.Upsample(scale_factor=2, mode="bilinear"))


@cache
def trained() -> nn.Module:
    return train(pspnet().requires_grad_(True), 250, lr=0.01)


def defended(text: str) -> nn.Module:
    made = specs.bound("defense", text).make(segmenter=deepcopy(trained()), aux_weight=0.4, ignore_index=255)
    deployed: nn.Module = made.deploy().eval()
    return deployed


def in_precision(dtype: torch.dtype) -> nn.Module:
    return Wrapped(deepcopy(trained()).to(dtype), lambda images: images.to(dtype), lambda logits: logits.float())


HONEST: dict[str, Callable[[], nn.Module]] = {
    "pspnet": trained,
    "untrained pspnet": partial(pspnet, 1),
    "another untrained pspnet": partial(pspnet, 2),
    "double precision": lambda: in_precision(torch.float64),
    "half precision": lambda: in_precision(torch.float16),
    "bfloat16": lambda: in_precision(torch.bfloat16),
    "4 bits, straight-through": lambda: defended("bit-depth"),
    "3 bits, straight-through": lambda: defended("bit-depth(bits=3)"),
    "JPEG 75, smooth gradient": lambda: defended("jpeg"),
    "JPEG 30, smooth gradient": lambda: defended("jpeg(quality=30)"),
    "median filter": lambda: defended("median"),
    "large median filter": lambda: defended("median(size=5)"),
    "log-probabilities": lambda: Wrapped(trained(), behind=lambda logits: logits.log_softmax(1)),
    "a bias of all logits": lambda: Wrapped(trained(), behind=lambda logits: logits + 100),
    "an unknown class": lambda: Wrapped(trained(), behind=lambda z: torch.cat([z[:, :5], 0 * z[:, 5:] - 1e4], 1)),
    "logits x 0.3": lambda: Wrapped(trained(), behind=lambda logits: 0.3 * logits),
    "logits x 10": lambda: Wrapped(trained(), behind=lambda logits: 10 * logits),
    "5 bits, straight-through": lambda: defended("bit-depth(bits=5)"),
    "local gradient smoothing": lambda: defended("local-gradient-smoothing"),
    "two classes": lambda: Wrapped(trained(), behind=lambda z: torch.stack([z[:, 0], z[:, 1:].logsumexp(1)], 1)),
    "half the resolution": lambda: Wrapped(
        trained(), lambda x: F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear")
    ),
    "fixed noise on the input": lambda: Wrapped(
        trained(), lambda x: x + 0.02 * torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(3))
    ),
    "small network, seed 0": lambda: train(conv(0), 150),
    "small network, seed 1": lambda: train(conv(1), 80),
    "small network, seed 2": lambda: train(conv(2), 80),
    "wide network": lambda: train(conv(3, width=24), 80),
    "without normalisation": lambda: train(conv(4, norm=False), 150, lr=0.01),
    "GELU": lambda: train(conv(5, activation=nn.GELU), 80),
    "tanh inside": lambda: train(conv(6, activation=nn.Tanh), 80),
    "sigmoid inside": lambda: train(conv(7, activation=nn.Sigmoid), 150),
    "adversarially trained": lambda: train(conv(8), 150, adversarial=True),
    "calls all of it background": lambda: train(conv(14), 20),
}

PLANTED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "input rounded to 8 bits": lambda model: Wrapped(model, lambda images: (images * 255).round() / 255),
    "input rounded to 3 bits": lambda model: Wrapped(model, lambda images: (images * 7).round() / 7),
    "thermometer input": lambda model: Wrapped(model, thermometer),
    "JPEG without gradient": lambda model: Wrapped(model, jpeg),
    "steps with a slight slope": lambda model: Wrapped(model, steps_with_slope),
    "logits rounded": lambda model: Wrapped(model, behind=torch.round),
    "argmax": lambda model: Wrapped(
        model, behind=lambda z: F.one_hot(z.argmax(1), z.shape[1]).permute(0, 3, 1, 2) * 10 + 0 * z
    ),
    "tanh": lambda model: Wrapped(model, behind=torch.tanh),
    "softmax": lambda model: Wrapped(model, behind=lambda z: z.softmax(1)),
    "sigmoid": lambda model: Wrapped(model, behind=lambda z: (3 * z).sigmoid()),
    "clamped logits": lambda model: Wrapped(model, behind=lambda z: z.clamp(-1, 1)),
    "logits x 1000": lambda model: Wrapped(model, behind=lambda z: 1000 * z),
    "logits x 30": lambda model: Wrapped(model, behind=lambda z: 30 * z),
    "logits x 1e-4": lambda model: Wrapped(model, behind=lambda z: 1e-4 * z),
    "logits cubed": lambda model: Wrapped(model, behind=lambda z: z**3),
    "dropout": lambda model: Wrapped(model, lambda images: F.dropout(images, 0.2, training=True)),
    "noise": lambda model: Wrapped(model, lambda images: images + 0.05 * torch.randn_like(images)),
    "random padding": lambda model: Wrapped(model, random_padding),
    "noise by hash": lambda model: Wrapped(model, hashed_noise),
    "padding by hash": lambda model: Wrapped(model, hashed_shift),
    "detached": lambda model: Wrapped(model, lambda images: images.detach() + 0 * images),
    "one pixel's gradient": lambda model: Wrapped(model, one_pixel),
    "gradient of one half": lambda model: Wrapped(model, half_detached),
    "one output pixel's gradient": lambda model: Wrapped(
        model, behind=lambda z: torch.cat([z[:, :, :1], z[:, :, 1:].detach()], 2)
    ),
    "gradient on the grid alone": lambda model: Wrapped(model, on_grid_only),
    "negated gradient": lambda model: Wrapped(model, backward(torch.neg)),
    "random gradient": lambda model: Wrapped(model, backward(torch.randn_like)),
    "gradient under fixed noise": lambda model: Wrapped(model, backward(noisy_gradient)),
    "shuffled gradient": lambda model: Wrapped(model, backward(lambda gradient: gradient.flip(3))),
    "constant gradient": lambda model: Wrapped(model, backward(torch.ones_like)),
    "gradient smoothed over 5x5": lambda model: Wrapped(model, backward(partial(smoothed, size=5))),
    "gradient smoothed over 9x9": lambda model: Wrapped(model, backward(partial(smoothed, size=9))),
    "gradient wrong in one channel": lambda model: Wrapped(model, backward(wrong_in_red)),
    "gradient rolled by a pixel": lambda model: Wrapped(model, backward(lambda gradient: gradient.roll(1, 3))),
    "gradient of 1e-30": lambda model: Wrapped(model, backward(lambda gradient: gradient * 1e-30)),
    "gradient of the blurred image": lambda model: Surrogate(model, Wrapped(model, partial(smoothed, size=5))),
    "gradient of one of two networks": lambda model: HalfHidden(model, pspnet(9)),
    "network by hash": lambda model: Drawn(model, pspnet(9)),
    "logits cut from above": lambda model: Wrapped(model, behind=lambda z: z.clamp(max=2)),
    "refuses noisy images": lambda model: Refusing(model, samples()[0]),
    "NaN gradient": lambda model: Wrapped(model, backward(lambda gradient: gradient * torch.nan)),
    "shattered": lambda model: Wrapped(model, lambda images: images + 0.004 * (2000 * images).sin()),
    "chaotic": lambda model: Wrapped(model, chaotic),
    "gradient of another network": lambda model: Surrogate(model, pspnet(9)),
    "underflow in half precision": lambda model: Wrapped(model, behind=lambda z: (z * 4096).half().float() / 4096),
    "two-faced": TwoFaced,
    "drifting": Drifting,
    "drifting now and then": partial(Drifting, calls=7),
    "remembers images": lambda model: Remembering(model, *samples(), 1e-6),
    "remembers their surroundings": lambda model: Remembering(model, *samples(), 8 / 255),
}


@cache
def honest(name: str) -> nn.Module:
    return HONEST[name]()


def flags_of(model: nn.Module, most: int = 5) -> tuple[str, ...]:
    images, masks = samples()
    masks = torch.where(masks == VOID, VOID, masks.clamp_max(most))
    return network_flags(measure(model, images, masks, passes=allowance(SMALL)))


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_defense_is_flagged(name: str) -> None:
    assert flags_of(PLANTED[name](trained())), name


@pytest.mark.parametrize("name", ["drifting", "drifting now and then", "noise"])
def test_what_changes_from_pass_to_pass_is_called_so(name: str) -> None:
    flags = flags_of(PLANTED[name](trained()))
    assert "non-deterministic" in flags
    assert not {"two-faced", "batch-dependent"} & set(flags)


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_network_is_not_flagged(name: str) -> None:
    assert flags_of(honest(name), most=1 if name == "two classes" else 5) == (), name


@pytest.mark.parametrize(
    "name",
    [
        *("pspnet", "small network, seed 0", "adversarially trained", "4 bits, straight-through"),
        "calls all of it background",
    ],
)
def test_an_honest_network_is_not_flagged_by_longer_measurements(name: str) -> None:
    found = measure(honest(name), *samples())
    assert network_flags(found) == (), found


def test_the_network_that_is_masked_has_learnt_its_task() -> None:
    assert accuracy(trained(), *samples()) > 80


def test_rates() -> None:
    """As many of either kind as there must be at least; the tests above ask for all."""
    assert len(PLANTED) >= 20
    assert len(HONEST) >= 20


def test_a_network_that_answers_otherwise_since_it_was_attacked_is_called_so() -> None:
    images, masks = samples()
    before = answers(*(trained()(images[:1]) for _ in range(2)))
    assert network_flags(measure(trained(), images, masks, passes=allowance(SMALL), before=before)) == ()
    later = Wrapped(trained(), behind=lambda logits: logits.roll(1, 1))
    assert "non-deterministic" in network_flags(measure(later, images, masks, before=before))
