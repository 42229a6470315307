"""The attack of a sweep on some pieces: their adversarial images, what they cost, and what was seen on the way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from segbench.attacks.tools.budget import BudgetExceeded, check_budget
from segbench.attacks.tools.passes import Passes, count_passes
from segbench.attacks.tools.watch import watching
from segbench.evaluation.batching import Pack
from segbench.evaluation.curve import Seen
from segbench.evaluation.disturbed import disturbed
from segbench.evaluation.finite import faults, refuse
from segbench.evaluation.opened import Opened
from segbench.evaluation.trajectory import recorded
from segbench.seeding import generator


@dataclass(frozen=True)
class Made:
    """What an attack made of some pieces.

    Attributes:
        images: adversarial images, (K, 3, h, w), by steps or part.
        allowed: pixels that the attack may change, (K, h, w); None for an attack without a region.
        passes: that it took.
        seen: its candidates; None where no curve is recorded.
        losses: of one piece along the way; empty where they are not recorded.
    """

    images: dict[str, Tensor]
    allowed: Tensor | None
    passes: Passes
    seen: Seen | None
    losses: Sequence[Tensor]


class Attacking:
    """Attacks the pieces of a sweep.

    Args:
        opened: the sweep.
        context: arguments of the attack that come from the training data.
        check: is called before each pass; what it raises ends the attack.
    """

    def __init__(self, opened: Opened, context: Mapping[str, Any], check: Callable[[], None]) -> None:
        self.sweep, self.protocol, self.context, self.check = opened.sweep, opened.protocol, context, check
        self.classes, self.void = opened.classes, opened.void
        self.network = opened.seen_by_attack()
        self.attack = self.sweep.attack.attack()
        self.first = self.sweep.cells[0]

    def make(self, pack: Pack, part: slice, looked_at: int | None) -> Made:
        """Attack some pieces of a pack.

        Args:
            pack: the pack.
            part: which of its pieces.
            looked_at: place in the pack of the piece whose losses along the way are recorded; None for none.

        Raises:
            BudgetExceeded: the adversarial images leave the budget.
            CellError: the network answers with values that are not finite.
        """
        attack, images, masks = self.attack, pack.images[part], pack.masks[part]
        generators = [generator(self.first.seed, attack.attack.name, *key) for key in pack.keys[part]]
        context = {**self.context, "ignore_index": self.void, "generator": generators}
        made: dict[str, Tensor]
        with contextlib.ExitStack() as stack:
            stack.enter_context(checked(self.network, self.check))
            passes = stack.enter_context(count_passes(self.network))
            noted: list[Tensor] = []
            if looked_at is not None and part.start <= looked_at < part.stop:
                place = looked_at - part.start
                noted = stack.enter_context(recorded(self.network, masks, place, ignore_index=self.void))
            seen = stack.enter_context(self._candidates(images, masks))
            if attack.attack.nested:
                wanted = {int(cell.attack.options["steps"]) for cell in self.sweep.cells}
                iterates = attack.iterates(wanted, self.network, images, masks, **context)
                made = {str(steps): adversarial for steps, adversarial in iterates.items()}
            elif self.first.disturbs_whole:
                made = {"": disturbed(attack, self.network, pack, self.protocol, generators)}
            elif attack.attack.ensemble and not self.first.dynamic:
                made = attack.parts(self.network, images, masks, **context)
            else:
                made = {"": attack(self.network, images, masks, **context)}
        allowed = attack.allowed(images, masks, ignore_index=self.void, generator=generators)
        try:
            for adversarial in made.values():
                check_budget(adversarial, images, attack.threat, allowed=allowed)
        except BudgetExceeded:
            with torch.no_grad():
                refuse(faults(self.network(images)).tolist(), self.sweep.source.label, pack.names)
            raise
        return Made(made, allowed, passes, seen, noted)

    @contextlib.contextmanager
    def _candidates(self, images: Tensor, masks: Tensor) -> Iterator[Seen | None]:
        """Collect what the attack sees on its way, of white-box evaluations with a budget on the whole image."""
        threat = self.attack.threat
        whole = threat.access != "none" and threat.region is None
        if self.first.dynamic or self.sweep.oblivious or not whole or threat.norm is None or threat.eps is None:
            yield None
            return
        seen = Seen(masks, self.classes, self.void)
        with watching(self.network, images, norm=threat.norm, eps=threat.eps, see=seen.see):
            yield seen


@contextlib.contextmanager
def checked(network: nn.Module, check: Callable[[], None]) -> Iterator[None]:
    """Call `check` before each pass through a network: an attack on one chunk of images may take hours."""
    handle = network.register_forward_pre_hook(lambda *_: check())
    try:
        yield
    finally:
        handle.remove()


def joined(parts: Sequence[Made]) -> tuple[dict[str, Tensor], Tensor | None]:
    """Put the adversarial images of parts together, and the pixels that may change."""
    images = {name: torch.cat([part.images[name] for part in parts]) for name in parts[0].images}
    allowed = [part.allowed for part in parts if part.allowed is not None]
    return images, torch.cat(allowed) if allowed else None
