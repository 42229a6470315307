"""segbench: robustness benchmarks for semantic segmentation."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segbench.api import Result, attack, evaluate, load_model
    from segbench.protocols.predict import predict

__all__ = ["Result", "attack", "evaluate", "load_model", "predict"]

_HOMES = {name: "segbench.api" for name in ("Result", "attack", "evaluate", "load_model")} | {
    "predict": "segbench.protocols.predict"
}

_SIBLINGS = ("attacks", "defenses", "model_zoo", "reports")


def _guard() -> None:
    """Stop where a stranger's package has the name of one of ours: a mixture of the two would be worse."""
    for name in _SIBLINGS:
        spec = find_spec(name)
        origin = Path(spec.origin).parent if spec is not None and spec.origin else None
        if origin is None or not (origin / "base.py" if name != "reports" else origin / "records.py").is_file():
            found = origin or (next(iter(spec.submodule_search_locations or ["?"])) if spec else "nowhere")
            raise SystemExit(
                f"segbench needs its own package {name!r}, but Python finds {found}; "
                f"run from another folder, or rename that {name!r}"
            )


_guard()


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: the command line starts without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
