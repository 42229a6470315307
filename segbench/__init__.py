"""segbench: robustness benchmarks for semantic segmentation."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

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
