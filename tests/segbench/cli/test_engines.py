from __future__ import annotations

from pathlib import Path

import pytest

from segbench.cli.engines import engine_options, slurm_options
from segbench.config.load import load_matrix
from segbench.errors import MatrixError, SegbenchError


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (["partition=gpu,gres=gpu:1,time=4:00:00"], {"partition": "gpu", "gres": "gpu:1", "time": "4:00:00"}),
        (["exclude=n1,n2,qos=low"], {"exclude": "n1,n2", "qos": "low"}),
        (["partition=a", "cpus-per-task=4"], {"partition": "a", "cpus_per_task": "4"}),
        (["exclusive="], {"exclusive": ""}),
    ],
)
def test_options_of_sbatch(written: list[str], found: dict[str, str]) -> None:
    assert slurm_options(written) == found


def test_mistakes_say_what_instead() -> None:
    with pytest.raises(SegbenchError, match="expected KEY=VALUE"):
        slurm_options(["gpu"])
    with pytest.raises(SegbenchError, match="use --engine ray"):
        engine_options("slurm", "auto", None)
    with pytest.raises(SegbenchError, match="use --engine slurm"):
        engine_options("local", None, ["time=1"])


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("engine: dask", "engine"),
        ("slurm: {array: 1-4}", "segbench sets array"),
        ("slurm: {Partition: gpu}", "written like partition"),
        ("slurm: {time: 1.5}", "put times such as 4:00:00 and lists"),
        ("slurm: {time: 4:00:00}", "base 60"),
        ("slurm: {exclusive: null}", "true for an option without a value, got null"),
        ("slurm: {exclude: [n1, n2]}", "lists such as n1,n2 in quotes"),
        ("slurm: {quiet: true}", "does not tell segbench the number"),
        ("slurm: {test-only: true}", "does not tell segbench the number"),
        ("slurm: {array_parallelism: 0}", "whole number from 1 on, got '0'"),
        ("slurm: {array-parallelism: many}", "whole number from 1 on, got 'many'"),
    ],
)
def test_a_matrix_says_what_is_wrong_with_its_engine(written: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(f"runtime:\n  {written}\n")
    with pytest.raises(MatrixError, match=reason):
        load_matrix(str(path))


def test_a_matrix_names_its_engine(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        "recipe: {iterations: 1}\nruntime:\n  engine: slurm\n"
        "  slurm: {partition: gpu, time: '4:00:00', cpus_per_task: 8, exclusive: true}\n"
    )
    runtime = load_matrix(str(path)).runtime
    assert runtime.engine == "slurm"
    assert dict(runtime.slurm) == {"partition": "gpu", "time": "4:00:00", "cpus_per_task": "8", "exclusive": ""}
