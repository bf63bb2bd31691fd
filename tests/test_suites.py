"""The plans in `benchmarks/suites/`, and `make gpu`, with a driver and an environment that only write down."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fakes import known, missing
from tests.meta.repository import ROOT
from vggbench.backends.base import PRECISIONS
from vggbench.measure.client import BackendProbe
from vggbench.models.configs import VARIANTS
from vggbench.plan import Cell, Pace, expand, read_plan_file
from vggbench.plan.order import schedule

SUITES = ROOT / "benchmarks" / "suites"
NATIVE = {"torch": {"fp32", "tf32", "fp16", "bf16"}, "onnxruntime": {"fp32", "tf32", "fp16"}}
LISTED = "GPU 0: NVIDIA H200 (UUID: GPU-1)"


def probe(name: str) -> BackendProbe:
    """What a GPU without TensorRT and without a compiler says."""
    if name not in NATIVE:
        return missing(name)
    return known(name, {each: "" if each in NATIVE[name] else "not native" for each in PRECISIONS})


def cells_of(name: str) -> tuple[Cell, ...]:
    file = read_plan_file(SUITES / f"{name}.toml")
    assert file.device == "cuda"
    return expand(file.cells, device="cuda", threads=2, probe=probe)


def counts(cells: Sequence[Cell]) -> tuple[int, int]:
    return len(cells), sum(not cell.unsupported for cell in cells)


def test_the_short_suite_is_about_24_cells_and_makes_what_can_be_made() -> None:
    cells = cells_of("gpu-short")
    assert counts(cells) == (24, 14)
    missing = {cell.unsupported for cell in cells if cell.backend == "onnxruntime-tensorrt"}
    assert missing == {"onnxruntime-tensorrt cannot be used: onnxruntime-tensorrt is not installed; install it"}


def test_the_short_suite_measures_what_says_most_first_and_under_four_seconds_a_round() -> None:
    file = read_plan_file(SUITES / "gpu-short.toml")
    assert file.rounds is not None
    assert file.round_seconds is not None
    assert file.round_seconds <= 4
    cells = cells_of("gpu-short")
    order = [cell for _, cell in schedule(cells, file.rounds, seed=0)]
    half = len(order) // 2
    assert {cell.precision for cell in order[:half]} == {"fp32", "fp16"}
    assert {cell.precision for cell in order[half:]} == {"tf32", "bf16"}
    plan = Pace(rounds=file.rounds, round_seconds=file.round_seconds, search_in_flight=False).plan(cells)
    assert (plan.round_seconds, plan.search_in_flight) == (file.round_seconds, False)


def test_the_longer_suite_has_all_of_the_short_one_and_more() -> None:
    short, longer = ({cell.id for cell in cells_of(name)} for name in ("gpu-short", "gpu"))
    assert short < longer
    kinds = {(cell.backend, cell.precision, cell.batch_size) for cell in cells_of("gpu")}
    assert {("torch-compile", "fp16", 256), ("torch", "fp8", 128), ("onnxruntime", "int8", 1)} < kinds


def test_the_night_has_every_variant() -> None:
    assert {cell.spec.variant for cell in cells_of("gpu-full")} == set(VARIANTS)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the script, the suite, tools, and an environment whose programs append what they are asked."""
    for folder in (".ci", "benchmarks/suites", "tools", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "gpu", tmp_path / ".ci")
    shutil.copy(SUITES / "gpu-short.toml", tmp_path / "benchmarks" / "suites")
    for name in ("bash", "basename", "cat", "dirname", "env", "grep", "head", "mkdir", "sh"):
        (tmp_path / "tools" / name).symlink_to(shutil.which(name) or name)
    program(tmp_path / ".ci/environment", 'echo "environment $* index=$PIP_NO_INDEX links=$PIP_FIND_LINKS" >> asked')
    program(tmp_path / ".venv/bin/python", 'echo "python $*" >> asked')
    program(tmp_path / ".venv/bin/vggbench", 'echo "vggbench $*" >> asked')
    return tmp_path


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def driver(clone: Path, text: str) -> None:
    program(clone / "tools" / "nvidia-smi", text)


def make_gpu(clone: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [str(clone / "tools" / "bash"), ".ci/gpu"],
        cwd=clone,
        env={**kept, "PATH": str(clone / "tools"), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def asked(clone: Path) -> list[str]:
    path = clone / "asked"
    return path.read_text().splitlines() if path.exists() else []


unix = pytest.mark.skipif(sys.platform == "win32", reason="needs bash")


@unix
@pytest.mark.parametrize(
    ("smi", "variables", "words"),
    [
        (None, {}, "there is no nvidia-smi here; measure the CPU with `make bench`"),
        ("echo 'Failed to initialize NVML: mismatch'; exit 18", {}, "says: Failed to initialize NVML: mismatch;"),
        ("exit 0", {}, "nvidia-smi lists none"),
        (f"echo '{LISTED}'", {"SUITE": "none.toml"}, "SUITE=none.toml: there is no such plan"),
        (f"echo '{LISTED}'", {"WHEELS": "none"}, "WHEELS=none: there is no such folder"),
    ],
)
def test_make_gpu_refuses_in_one_line_before_it_installs(
    clone: Path, smi: str | None, variables: dict[str, str], words: str
) -> None:
    if smi is not None:
        driver(clone, smi)
    ended = make_gpu(clone, **variables)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("vggbench: ")
    assert words in line
    assert asked(clone) == []


@unix
def test_make_gpu_tests_and_measures_and_goes_on_with_what_was_stopped(clone: Path) -> None:
    driver(clone, f"echo '{LISTED}'")
    ended = make_gpu(clone, ARGS="--rounds 1")
    assert (ended.returncode, ended.stderr) == (0, "")
    tests = "python -m pytest -p no:benchmark -m gpu tests/gpu"
    plan = "vggbench run --plan benchmarks/suites/gpu-short.toml --output reports/gpu-short --rounds 1"
    assert asked(clone) == ["environment test index= links=", tests, plan]
    (clone / "reports" / "gpu-short").mkdir(parents=True)
    (clone / "reports" / "gpu-short" / "run.json").touch()
    make_gpu(clone)
    assert asked(clone)[-1] == "vggbench run --resume --output reports/gpu-short"


@unix
def test_make_gpu_installs_from_wheels_without_network(clone: Path) -> None:
    driver(clone, f"echo '{LISTED}'")
    (clone / "wheels").mkdir()
    assert make_gpu(clone, WHEELS="wheels").returncode == 0
    assert asked(clone)[0] == f"environment test index=1 links={clone / 'wheels'}"


@unix
def test_make_gpu_makes_the_report_where_tests_fail_and_ends_with_their_code(clone: Path) -> None:
    driver(clone, f"echo '{LISTED}'")
    program(clone / ".venv/bin/python", "exit 1")
    assert make_gpu(clone).returncode == 1
    assert asked(clone)[-1].startswith("vggbench run --plan")
