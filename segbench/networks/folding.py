"""Batch normalisation folded into the convolution before it: the same function, with fewer passes over memory."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segbench.attacks.tools.guard import guarded
from segbench.memory import out_of_memory
from segbench.networks.agreeing import alike
from segbench.torch_settings import rounded

Pair = tuple[str, str]
"""Names of a convolution and of the batch normalisation behind it."""


def foldable(network: nn.Module, images: Tensor) -> list[Pair] | None:
    """Return the pairs that can be folded without a change of any logit beyond rounding.

    [] where there are none, and None where memory did not suffice to find out.

    One pass over images shows what follows what: a convolution is folded if its output goes into the batch
    normalisation and nowhere else. The folded network then has to give the same logits.

    Args:
        network: in eval mode; left as it is.
        images: (N, 3, H, W) in [0, 1].
    """
    modules = list(network.modules())
    # What torch.compile made would compile itself again, for this look and for the copy.
    if not any(_plain(module, nn.BatchNorm2d) for module in modules) or "OptimizedModule" in map(_kind, modules):
        return []
    try:
        with rounded(matrices=False, convolutions=False):
            with guarded(network, images.device, seed=0):
                pairs, logits = _sequences(network, images)
            if not pairs:
                return []
            with guarded(network, images.device, seed=0), torch.no_grad():
                return pairs if alike(folded(network, pairs)(images), logits) else []
    except Exception as error:  # whatever a stranger's network raises when it is looked into or copied
        return None if out_of_memory(error) else []


def folded(network: nn.Module, pairs: Sequence[Pair]) -> nn.Module:
    """Return a copy of a network with batch normalisations folded.

    Args:
        network: the network; left as it is.
        pairs: what `foldable` found in it.

    Raises:
        ValueError: a copy of it shares layers with it.
    """
    own = copy.deepcopy(network)
    if set(own.modules()) & set(network.modules()):
        raise ValueError("a copy of the network shares layers with it")
    for first, second in pairs:
        convolution: Any = own.get_submodule(first)
        normalisation: Any = own.get_submodule(second)
        scale = normalisation.weight.double() / (normalisation.running_var.double() + normalisation.eps).sqrt()
        shift = normalisation.bias.double() - normalisation.running_mean.double() * scale
        if convolution.bias is not None:
            shift = shift + convolution.bias.double() * scale
        weight = convolution.weight.double() * scale.view(-1, 1, 1, 1)
        convolution.weight = nn.Parameter(weight.to(convolution.weight), requires_grad=False)
        convolution.bias = nn.Parameter(shift.to(convolution.weight), requires_grad=False)
        parent, _, name = second.rpartition(".")
        setattr(own.get_submodule(parent), name, nn.Identity())
    return own


def _sequences(network: nn.Module, images: Tensor) -> tuple[list[Pair], Tensor]:
    """Return the pairs by what the graph of one pass says, and the logits of that pass."""
    made: dict[str, list[Any]] = {}
    taken: dict[str, list[Any]] = {}
    with contextlib.ExitStack() as stack:
        for name, module in network.named_modules():
            if _plain(module, nn.Conv2d):
                stack.enter_context(_noted(module, made.setdefault(name, []), output=True))
            elif _plain(module, nn.BatchNorm2d) and module.affine and module.running_mean is not None:
                stack.enter_context(_noted(module, taken.setdefault(name, []), output=False))
        logits = network(images.detach().requires_grad_())
    uses = _uses(logits.grad_fn)
    makers = {node: name for name, nodes in made.items() for node in nodes if node is not None}
    weights = [id(module.weight) for module in network.modules() if type(module) is nn.Conv2d]
    pairs = []
    for name, nodes in taken.items():
        before = {makers.get(node, "") for node in nodes}
        first = before.pop() if len(before) == 1 else ""
        alone = bool(first) and all(uses.get(node) == 1 for node in made[first]) and len(made[first]) == len(nodes)
        if alone and weights.count(id(network.get_submodule(first).weight)) == 1:
            pairs.append((first, name))
    return pairs, logits.detach()


def _kind(module: nn.Module) -> str:
    return type(module).__name__


def _plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is of a kind and nothing else happens when it is called."""
    return type(module) is kind and not module._forward_hooks and not module._forward_pre_hooks and not module.training


@contextlib.contextmanager
def _noted(module: nn.Module, nodes: list[Any], *, output: bool) -> Iterator[None]:
    """Collect the node of the graph that made a module's input, or its output."""
    handle = module.register_forward_hook(
        lambda _, inputs, outputs: nodes.append((outputs if output else inputs[0]).grad_fn)
    )
    try:
        yield
    finally:
        handle.remove()


def _uses(root: Any) -> dict[Any, int]:
    """Return how often the result of each node of a graph is used."""
    uses: dict[Any, int] = {}
    seen, left = {root}, [root]
    while left:
        for node, _ in left.pop().next_functions:
            if node is None:
                continue
            uses[node] = uses.get(node, 0) + 1
            if node not in seen:
                seen.add(node)
                left.append(node)
    return uses
