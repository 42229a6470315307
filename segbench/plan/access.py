"""What a network gives and what an attack needs of it."""

from __future__ import annotations

from segbench.attacks.base import Access
from segbench.config.network import NetworkAccess

GIVES: dict[NetworkAccess, tuple[Access, ...]] = {
    "gradients": ("none", "labels", "logits", "gradients"),
    "scores": ("none", "labels", "logits"),
    "labels": ("none", "labels"),
}
"""The attacks, by what they read, that can be made on a network which gives gradients, scores or labels."""
NAMES: dict[Access, str] = {"none": "nothing", "labels": "labels", "logits": "scores", "gradients": "gradients"}


def allows(given: NetworkAccess, needed: Access) -> bool:
    """Whether an attack that needs this can be made on a network that gives that."""
    return needed in GIVES[given]


def refusal(attack: str, needed: Access, network: str, given: NetworkAccess) -> str:
    """Say why an attack cannot be made on a network, and what can be done."""
    return (
        f"{attack} needs {NAMES[needed]}, and {network} gives only {given}; name a substitute that it is made on "
        "(--substitute, in a matrix: substitutes)"
    )
