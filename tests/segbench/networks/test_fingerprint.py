"""Whatever a network is made of: when it changes, the network is another one."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from segbench.components import imports as sources
from segbench.components import specs
from segbench.config.network import external_network
from segbench.datasets.digits import Digits
from segbench.networks.factories import as_network
from segbench.networks.fingerprint import fingerprint
from segbench.networks.load import open_external
from segbench.plan.data import Data

PROJECT = {
    "net.py": """
        import json
        from pathlib import Path
        import numpy as np
        import torch
        from torch import nn
        from helper import shift
        from sizes import WIDTH
        from deep.inner import scale
        import named

        def told(folder):
            return json.loads((Path(__file__).parent / folder / "config.json").read_text())["s"]

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, WIDTH, 1)
                self.register_buffer("hidden", torch.tensor(told("a")), persistent=False)
                self.other = told("b")

            def forward(self, images):
                return shift(self.conv(images)) * scale() * self.hidden + self.other

        def build(num_classes):
            torch.manual_seed(0)
            table = np.load(Path(__file__).parent / "table.npy")
            network = Net()
            return lambda images: network(images) * float(table[0]) + named.offset()
        """,
    "helper.py": """
        from pathlib import Path
        AT_IMPORT = float((Path(__file__).parent / "at_import.txt").read_text())
        def shift(logits):
            return logits + AT_IMPORT + 0.5
        """,
    "sizes.py": "WIDTH = 11  # 3\n",
    "deep/__init__.py": "",
    "deep/inner.py": """
        def scale():
            from .innermost import FACTOR
            return FACTOR
        """,
    "deep/innermost.py": "FACTOR = 2.0\n",
    "named.py": """
        import importlib
        chosen = importlib.import_module("chosen_by_name")
        def offset():
            return chosen.OFFSET
        """,
    "chosen_by_name.py": "OFFSET = 1.0\n",
    "at_import.txt": "0.25",
    "a/config.json": '{"s": 1.5}',
    "b/config.json": '{"s": 2.5}',
}


def write_project(folder: Path) -> Path:
    for name, text in PROJECT.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.strip("\n").split("\n")
        margin = len(lines[0]) - len(lines[0].lstrip())
        path.write_text("\n".join(line[margin:] if line.strip() else "" for line in lines) + "\n")
    np.save(folder / "table.npy", np.array([3.0, 4.0]))
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project")


def digest(load: str, **entry: Any) -> str:
    bound = specs.bound("dataset", "digits(train=2, val=2, dev=2)")
    dataset: Digits = bound.make()
    external = external_network({"load": load, "name": "net", **entry})
    return open_external(external, Data(bound, "f00d"), dataset).cell.digest


def change(path: Path) -> None:
    """Change one byte of a file; its size and its times stay."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    places = [index for index, byte in enumerate(content) if chr(byte) in "1235"]
    content[places[-1]] = ord("4") if path.suffix != ".npy" else content[places[-1]] ^ 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("name", [*(name for name in PROJECT if name != "deep/__init__.py" and name != "net.py")])
def test_a_byte_of_any_file_that_was_used_makes_another_network(project: Path, name: str) -> None:
    if name in ("deep/inner.py", "named.py"):
        (project / name).write_text((project / name).read_text() + "# 1\n")
    before = digest(f"{project}/net.py:build")
    assert digest(f"{project}/net.py:build") == before
    change(project / name)
    assert digest(f"{project}/net.py:build") != before


def test_an_array_that_the_factory_reads_counts(project: Path) -> None:
    before = digest(f"{project}/net.py:build")
    np.save(project / "table.npy", np.array([3.5, 4.0]))
    assert digest(f"{project}/net.py:build") != before


def test_files_of_one_name_that_change_places_make_another_network(project: Path) -> None:
    before = digest(f"{project}/net.py:build")
    (project / "a/config.json").rename(project / "c.json")
    (project / "b/config.json").rename(project / "a/config.json")
    (project / "c.json").rename(project / "b/config.json")
    assert digest(f"{project}/net.py:build") != before


def test_the_folder_does_not_count_and_neither_does_what_was_not_read(project: Path, tmp_path: Path) -> None:
    before = digest(f"{project}/net.py:build")
    (project / "notes.txt").write_text("not read")
    shutil.copytree(project, tmp_path / "copy")
    assert digest(f"{tmp_path}/copy/net.py:build") == before


@pytest.mark.parametrize("form", ["a.py file", "a module"])
def test_the_order_in_which_modules_are_met_does_not_count(
    project: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A second factory that uses the same modules finds them imported already.
    (project / "second.py").write_text((project / "net.py").read_text() + "# second\n")
    monkeypatch.chdir(project)
    first, second = ("net.py:build", "second.py:build") if form == "a.py file" else ("net:build", "second:build")
    one = [digest(first), digest(second)]
    (project / "sizes.py").write_text((project / "sizes.py").read_text() + "\n")  # everything is imported anew
    changed = [digest(second), digest(first)]
    (project / "sizes.py").write_text(PROJECT["sizes.py"])
    assert [digest(second), digest(first)] == one[::-1]
    assert set(changed).isdisjoint(one)


class Wrapped(nn.Module):
    def __init__(self, temperature: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.temperature = temperature

    def forward(self, images: Tensor) -> Any:
        return self.conv(images)


@dataclasses.dataclass
class Settings:
    size: Any


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


GLOBAL: Any = 0.0


def uses_a_global(images: Tensor) -> Any:
    return images * GLOBAL


def through_global(value: Any) -> Any:
    global GLOBAL
    GLOBAL = value
    return uses_a_global


def method_of(value: Any) -> Any:
    network = Wrapped(0)
    network.forward = functools.partial(lambda images, by: images, by=value)  # type: ignore[method-assign]
    return network


def hooked(value: Any) -> Any:
    network = Wrapped(0)
    network.register_forward_hook(lambda module, given, answer: answer * value)
    return network


def unsaved(value: Any) -> Any:
    network = Wrapped(0)
    network.register_buffer("mask", torch.tensor([float(value)]), persistent=False)
    return network


def from_class(value: Any) -> Any:
    return type("Made", (Wrapped,), {"strength": value, "__module__": __name__})(0)


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "an attribute": Wrapped,
    "a list in an attribute": lambda value: Wrapped([1, [value]]),
    "a dict in an attribute": lambda value: Wrapped({"a": {"b": value}}),
    "a key": lambda value: Wrapped({value: 1}),
    "a set": lambda value: Wrapped({value, "other"}),
    "a dataclass": lambda value: Wrapped(Settings(value)),
    "slots": lambda value: Wrapped(Slotted(value)),
    "an array": lambda value: Wrapped(np.array([value])),
    "a tensor that is no buffer": lambda value: Wrapped(torch.tensor([float(value)])),
    "a closure": lambda value: lambda images: images * value,
    "a default": lambda value: lambda images, by=value: images * by,
    "a partial": lambda value: functools.partial(lambda by, images: images, value),
    "a global": through_global,
    "a method of its own": method_of,
    "a hook": hooked,
    "a buffer that is not saved": unsaved,
    "an attribute of the class": from_class,
    "a path": lambda value: Wrapped(Path(f"folder/{value}")),
    "an inner network": lambda value: nn.Sequential(Wrapped(0), nn.Sequential(Wrapped(value))),
}


def hashes(made: Any) -> dict[str, str]:
    found = fingerprint(as_network(made))
    assert found.uncovered == ()
    return found.hashes


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    one=st.one_of(st.integers(-(2**40), 2**40), st.floats(-1e6, 1e6)),
    other=st.one_of(st.integers(-(2**40), 2**40), st.floats(-1e6, 1e6)),
)
def test_a_value_anywhere_in_a_network_counts(holder: Callable[[Any], Any], one: Any, other: Any) -> None:
    def made(value: Any) -> dict[str, str]:
        torch.manual_seed(0)
        return hashes(holder(value))

    assert made(one) == made(one)
    if float(np.float32(one)) != float(np.float32(other)):
        assert made(one) != made(other)


def test_weights_in_a_closure_count() -> None:
    torch.manual_seed(0)
    inner = nn.Conv2d(3, 3, 1)
    before = hashes(lambda images: inner(images))
    with torch.no_grad():
        inner.bias += 1  # type: ignore[operator]
    assert hashes(lambda images: inner(images)) != before


def test_whatever_cannot_be_hashed_is_named_and_never_found_again(tmp_path: Path) -> None:
    found = fingerprint(Wrapped(iter([1, 2])))
    assert found.uncovered == ("an object of type builtins.list_iterator",)
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef build():\n    net = nn.Conv2d(3, 11, 1)\n    net.left = iter([1])\n"
        "    return net\n"
    )
    assert digest(f"{tmp_path}/net.py:build") != digest(f"{tmp_path}/net.py:build")


def test_an_answer_that_changed_without_a_trace_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import segbench
    from segbench.errors import SegbenchError

    (tmp_path / "net.py").write_text(
        "import os\nfrom torch import nn\n\n"
        "class Net(nn.Conv2d):\n"
        "    def forward(self, images):\n"
        "        return super().forward(images) * float(os.environ['FACTOR'])\n\n"
        "def build(num_classes):\n    return Net(3, num_classes, 1)\n"
    )
    given = (f"{tmp_path}/net.py:build", "digits(size=32, train=2, val=2, dev=2, digits=[0])", ["clean"])
    monkeypatch.setenv("FACTOR", "1")
    first = segbench.evaluate(*given, store=tmp_path / "runs", force=True)
    assert first.records[0].answers
    assert segbench.evaluate(*given, store=tmp_path / "runs", force=True).records == first.records
    monkeypatch.setenv("FACTOR", "-1")
    with pytest.raises(SegbenchError, match="answers otherwise than when its results in"):
        segbench.evaluate(*given, store=tmp_path / "runs", force=True)


def test_a_configuration_beside_the_weights_counts(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    sizes = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 1, 1]}
    config = transformers.SegformerConfig(num_labels=11, decoder_hidden_size=8, **sizes)
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / "net")
    before = digest(f"hf:{tmp_path}/net")
    assert digest(f"hf:{tmp_path}/net") == before
    settings_file = tmp_path / "net" / "config.json"
    told = json.loads(settings_file.read_text())
    settings_file.write_text(json.dumps({**told, "layer_norm_eps": 0.5}))
    assert digest(f"hf:{tmp_path}/net") != before


def test_code_beside_the_packages_of_a_system_python_counts(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))  # as /usr is, with a project in /usr/src/app
    sources._inside.cache_clear()
    try:
        before = digest(f"{project}/net.py:build")
        change(project / "helper.py")
        assert digest(f"{project}/net.py:build") != before
    finally:
        monkeypatch.undo()
        sources._inside.cache_clear()
