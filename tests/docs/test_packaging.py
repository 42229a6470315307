"""The Dockerfile, the recipe for conda and the Makefile: they build what pyproject.toml says, and nothing they miss."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
INSTRUCTIONS = {"FROM", "ENV", "RUN", "COPY", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}
RENAMED = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
"""What conda-forge calls a package of the index."""


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.partition(" ")[2]) for line in text.splitlines() if line.strip()]


def stages() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    for word, rest in instructions():
        if word == "FROM":
            parent, name = rest.split(" AS ")
            found[name] = parent, []
        else:
            found[list(found)[-1]][1].append((word, rest))
    return found


def test_the_stages_of_the_dockerfile() -> None:
    assert {word for word, _ in instructions()} <= INSTRUCTIONS
    found = stages()
    assert {"cpu", "cuda", "check"} <= set(found)
    for parent, _ in found.values():
        assert parent in found or re.fullmatch(r"[a-z/]+:\d[\w.-]*", parent), f"{parent} names no version"
    for name in ("cpu", "cuda"):
        own = found[name][1]
        assert ("USER", "segbench") in own, "it does not run as root"
        assert [rest for word, rest in own if word == "ENTRYPOINT"] == ['["segbench"]']
    assert any("whl/cpu" in rest for _, rest in found["cpu"][1])
    assert not any("whl/cpu" in rest for _, rest in found["cuda"][1])
    parent, own = found["check"]
    assert parent == "cpu"
    assert any("segbench run quickstart" in rest for _, rest in own)


def test_ci_builds_the_targets() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    commands = " ".join(step.get("run", "") for step in jobs["container"]["steps"])
    targets = set(re.findall(r"--target (\S+)", commands))
    assert targets == {"check", "cuda"}
    assert targets <= set(stages())


def test_versions_of_torch_are_those_of_the_project(project: dict[str, Any]) -> None:
    wanted = {text for text in project["dependencies"] if text.startswith("torch")}
    for name in ("Dockerfile", "Makefile"):
        assert set(re.findall(r"torch(?:vision)?>=[\d.]+", (ROOT / name).read_text())) == wanted


def test_the_recipe_is_the_project(project: dict[str, Any]) -> None:
    text = (ROOT / "packaging" / "conda" / "meta.yaml").read_text()
    assert f'{{% set version = "{project["version"]}" %}}' in text
    plain = re.sub(r"\{\{.*?\}\}", "x", re.sub(r"\{%.*?%\}", "", text))
    recipe = yaml.safe_load(plain)
    wanted = {f"python {project['requires-python']}"}
    for dependency in project["dependencies"]:
        name, bound = re.split(r"(?=[><=])", dependency, maxsplit=1)
        wanted.add(f"{RENAMED.get(name, name)} {bound}")
    assert set(recipe["requirements"]["run"]) == wanted
    assert recipe["about"]["summary"] == project["description"]
    assert recipe["about"]["license"] == project["license"]
    assert recipe["build"]["entry_points"] == [f"segbench = {project['scripts']['segbench']}"]


@pytest.mark.parametrize(("driver", "index"), [(True, "https://example.org/cpu"), (False, "")])
def test_make_takes_the_usual_torch_where_it_should(tmp_path: Path, driver: bool, index: str) -> None:
    said = made(tmp_path, driver, f"CPU_INDEX={index}")
    assert "CPU build" not in said
    assert "pip install --quiet --disable-pip-version-check --editable .[tables]" in said


@pytest.mark.parametrize("offered", [True, False])
def test_make_takes_the_cpu_build_without_a_driver_and_says_so(tmp_path: Path, offered: bool) -> None:
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has an NVIDIA driver")
    said = made(tmp_path, False, "CPU_INDEX=https://example.org/cpu", offered=offered)
    assert "no NVIDIA driver is here: taking the CPU build of torch from https://example.org/cpu" in said
    assert "--index-url https://example.org/cpu torch>=2.6 torchvision>=0.21" in said
    assert ("taking the usual build" in said) == (not offered)
    assert said.index("--index-url") < said.index("--editable")


def made(folder: Path, driver: bool, *arguments: str, offered: bool = True) -> str:
    """Run `make install` with a Python that only prints what it is asked for."""
    (folder / "Makefile").write_text((ROOT / "Makefile").read_text())
    (folder / "pyproject.toml").touch()
    tools, venv = folder / "tools", folder / ".venv" / "bin"
    for place in (tools, venv):
        place.mkdir(parents=True)
    shown = f'#!/bin/sh\necho "$@"\ncase "$*" in *--index-url*) exit {int(not offered)};; esac\n'
    for path in (venv / "python", tools / "python3", *([tools / "nvidia-smi"] if driver else [])):
        path.write_text(shown)
        path.chmod(0o755)
    environment = {"PATH": f"{tools}:/usr/bin:/bin"}
    ran = subprocess.run(
        ["make", "install", "PYTHON=python3", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
