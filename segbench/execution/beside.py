"""Passes that a plan takes beside its evaluations: sanity probes, and comparisons of conventions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from segbench.evaluation.measuring import lacks_measurements
from segbench.evaluation.probes import allowance
from segbench.networks.convention_check import CONVENTIONS, IMAGES
from segbench.plan.networks import ExternalCell
from segbench.plan.plan import Plan, Sweep
from segbench.store import Store


@dataclass(frozen=True)
class Beside:
    """What is done beside the evaluations of a plan.

    Attributes:
        probed: number of networks that sanity probes are taken of.
        probes: passes forward and backward of these, at most, in images.
        compared: number of networks whose convention is compared with others.
        conventions: forward passes of these, at most, in images.
    """

    probed: int
    probes: int
    compared: int
    conventions: int

    @property
    def sentences(self) -> list[str]:
        """The same in words, of what there is."""
        found = []
        if self.probed:
            networks = f"{self.probed} network{'s' * (self.probed > 1)}"
            found.append(f"Beside these, sanity probes of {networks} take at most {self.probes:,} passes.")
        if self.compared:
            networks = f"{self.compared} network{'s' * (self.compared > 1)}"
            found.append(
                f"Comparing conventions of {networks} takes {self.compared * CONVENTIONS:,} forward passes, or up to "
                f"{self.conventions:,} where another convention seems better."
            )
        return found


def beside(plan: Plan, sweeps: Sequence[Sweep], store: Store, evaluation: Callable[[Sweep], int | None]) -> Beside:
    """Count what is done beside the evaluations of a plan.

    Args:
        plan: the plan.
        sweeps: those that are to do.
        store: where results would go.
        evaluation: sweep -> its passes with those of the clean images; None where they are not known.
    """
    probed: dict[str, int] = {}
    for sweep in plan.sweeps:
        if sweep.watched is not None and lacks_measurements(sweep, store):
            passes = evaluation(replace(sweep, cells=(sweep.watched,)))
            if passes is not None:
                probed[sweep.source.digest] = allowance(passes)
    checked = {network.name for network in plan.matrix.networks if network.check}
    given = {
        cell.digest
        for sweep in sweeps
        for cell in (sweep.source, *sweep.targets)
        if isinstance(cell, ExternalCell) and cell.external.name in checked
    }
    compared = sum(store.remembered("networks", digest) is None for digest in given)
    return Beside(len(probed), sum(probed.values()), compared, compared * CONVENTIONS * IMAGES)
