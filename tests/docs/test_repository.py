"""The files around the code agree with each other: CI, the hooks of a commit, and the version."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_ci_runs_what_contributing_names() -> None:
    named = set(re.findall(r"^(make \w+) +#", read("CONTRIBUTING.md"), re.MULTILINE))
    assert named == {"make test", "make check", "make slow", "make docs"}
    jobs: dict[str, Any] = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]
    steps = [step.get("run") for job in jobs.values() for step in job["steps"]]
    assert named <= set(steps)
    assert named <= set(read(".ci/run").splitlines())
    targets = set(re.findall(r"^(\w+):", read("Makefile"), re.MULTILINE))
    assert {command.removeprefix("make ") for command in named} <= targets


def test_hooks_call_the_ruff_of_make_check() -> None:
    (repo,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert repo["repo"] == "local"
    assert "VENV := .venv\nBIN := $(VENV)/bin" in read("Makefile")
    assert "$(BIN)/ruff check" in read("Makefile")
    assert all(hook["entry"].startswith(".venv/bin/ruff ") for hook in repo["hooks"])


def test_one_version_everywhere() -> None:
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert yaml.safe_load(read("CITATION.cff"))["version"] == version
    unreleased, newest = re.findall(r"^## (.+)$", read("CHANGELOG.md"), re.MULTILINE)[:2]
    assert unreleased == "Unreleased"
    assert newest.partition(" - ")[0] == version
