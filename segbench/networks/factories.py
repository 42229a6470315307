"""Networks of the user's own code: file.py:factory and package.module:factory."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from segbench.components.modules import by_factory, from_file, import_module, importable
from segbench.config.network import Convention
from segbench.errors import SegbenchError, failing, unknown
from segbench.networks.loaded import Loaded, with_weights
from segbench.networks.walk import networks_within


class FunctionNetwork(nn.Module):
    """A function as a network: the networks inside it are in eval mode, move to devices and have a state as its parts.

    Args:
        function: images -> output.
    """

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.inside = nn.ModuleList(networks_within(function))

    def forward(self, images: Tensor) -> Any:
        """Call the function."""
        return self.function(images)


def as_network(made: Any) -> nn.Module:
    """Return a network, or a function as one."""
    return made if isinstance(made, nn.Module) else FunctionNetwork(made)


def from_factory(module: str, name: str, weights: str | None, num_classes: int | None) -> Loaded:
    """Run a factory of the user's code, or take a network or a class that it names.

    Raises:
        SegbenchError: there is no such name, or the code fails.
    """
    spec = f"{module}:{name}"
    path = Path(module)
    folder = (path.parent if path.suffix == ".py" else Path()).resolve()
    with importable(folder) as fresh:
        found = from_file(path) if path.suffix == ".py" else import_module(module)
        if not hasattr(found, name):
            names = {key: None for key, value in vars(found).items() if callable(value) and not key.startswith("_")}
            raise SegbenchError(f"{spec}: {unknown('function or class', name, names)}")
        made = getattr(found, name)
        takes_weights = False
        if not isinstance(made, nn.Module):
            known = {"num_classes": num_classes, "weights": weights}
            with failing(f"{spec}: the factory failed"):
                parameters = inspect.signature(made).parameters
                takes_weights = weights is not None and "weights" in parameters
                made = made(**{key: value for key, value in known.items() if key in parameters and value is not None})
    if not callable(made):
        raise SegbenchError(f"{spec}: the factory returned a {type(made).__name__}, not a network")
    if weights is not None and not takes_weights and not isinstance(made, nn.Module):
        raise SegbenchError(f"{weights}: weights need an nn.Module, got a {type(made).__name__}")
    network = as_network(made)
    names = by_factory.setdefault((folder, spec), {found.__name__: None})
    names.update(dict.fromkeys(fresh))
    modules = tuple(sys.modules[own] for own in names if own in sys.modules)
    loaded = Loaded(network, Convention(), {"factory": name}, modules=modules)
    return loaded if takes_weights else with_weights(loaded, weights)
