"""What a command that needs no network waits for: no library that takes a second to import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("segbench", "attacks", "defenses", "model_zoo", "reports")
SLOW = {
    "diffusers", "matplotlib", "onnx", "onnxruntime", "pandas", "ray", "segmentation_models_pytorch", "sklearn", "timm",
    "torchvision", "transformers",
}  # fmt: skip
"""Libraries that take a second or more to import, and that most commands do without."""


def imported_at_once(body: list[ast.stmt]) -> Iterator[str]:
    """Yield what a module imports when it is imported itself: not in its functions, nor for types alone."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Try | ast.With | ast.ClassDef):
            yield from imported_at_once(node.body)
        elif isinstance(node, ast.If) and ast.unparse(node.test) != "TYPE_CHECKING":
            yield from imported_at_once([*node.body, *node.orelse])


def test_slow_libraries_are_imported_by_the_functions_that_need_them() -> None:
    found = []
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            names = list(imported_at_once(ast.parse(path.read_text(encoding="utf-8")).body))
            slow = [name for name in names if name.partition(".")[0] in SLOW]
            # `import scipy` is quick, and its parts are imported when they are first named.
            slow += [name for name in names if name.startswith("scipy.")]
            found += [f"{path.relative_to(ROOT)}: {name}" for name in slow]
    assert not found
