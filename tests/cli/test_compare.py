"""`vggbench compare`: what it reads, refuses, prints, and ends in."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.cli.conftest import CommandLine
from tests.fakes import fake_cell
from tests.results.made import changed, failed_parity, info, record, rounds, session
from vggbench.measure.records import Failure, RoundRecord
from vggbench.plan import Cell
from vggbench.results.journal import JOURNAL_NAME
from vggbench.results.run_info import FILE_NAME, write_run_info

CELL = fake_cell()
OTHER = fake_cell(batch_size=3)
STEADY = (1.0, 1.004, 0.998, 1.002, 0.997)
Store = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a function that stores a run of cells that took so many ms each, and returns its folder."""

    def make(name: str, *latencies_ms: float, cells: Sequence[Cell] = (CELL,), count: int = 6, **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        write_run_info(folder, info(*cells, rounds=count, **changes))
        made = [found for cell, ms in zip(cells, latencies_ms, strict=False) for found in rounds(cell, [ms] * count)]
        write_journal(folder, made)
        return folder

    return make


def write_journal(folder: Path, records: Sequence[RoundRecord]) -> None:
    lines = [json.dumps(found.to_json()) for found in records]
    (folder / JOURNAL_NAME).write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def bases(store: Store, tmp_path: Path) -> Path:
    """Return a folder of five runs."""
    for number, factor in enumerate(STEADY):
        store(f"bases/{number}", 10 * factor)
    return tmp_path / "bases"


def edited(folder: Path, path: Sequence[str | int], value: Any) -> Path:
    file = folder / FILE_NAME
    file.write_text(json.dumps(changed(json.loads(file.read_text()), path, value)))
    return folder


def benchmark_file(path: Path, median_s: float = 0.01, **changes: Any) -> Path:
    """Write what pytest-benchmark writes, as far as it is read."""
    document = {
        "machine_info": {
            "node": "a",
            "machine": "x86_64",
            "system": "Linux",
            "release": "6.1",
            "python_version": "3.11.7",
            "python_implementation": "CPython",
            "cpu": {"brand_raw": "A processor", "count": 2},
        },
        "commit_info": {"id": "c0ffee", "dirty": False},
        "benchmarks": [{"fullname": "benchmarks/test_x.py::test_x", "stats": {"median": median_s, "rounds": 9}}],
        "version": "5.2.3",
        **changes,
    }
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("latency_ms", "code", "verdict"), [(10.0, 0, "PASS"), (12.0, 1, "REGRESSED"), (8.0, 0, "IMPROVED")]
)
def test_a_folder_of_base_runs_is_enough_for_a_verdict(
    command_line: CommandLine, store: Store, bases: Path, latency_ms: float, code: int, verdict: str
) -> None:
    said = command_line("compare", bases, store("candidate", latency_ms))
    assert said.code == code
    assert f"1 cells compared: 1 {verdict}" in said.out
    assert (said.message == "vggbench: 1 slower of 1 cells; their reasons are above") == (code == 1)


def test_base_runs_may_be_named_one_by_one(command_line: CommandLine, store: Store, bases: Path) -> None:
    said = command_line("compare", *sorted(bases.iterdir()), store("candidate", 10.0) / FILE_NAME)
    assert said.code == 0


def test_one_base_run_is_inconclusive_at_most(command_line: CommandLine, store: Store) -> None:
    runs = store("base", 10.0), store("candidate", 20.0)
    said = command_line("compare", *runs)
    assert said.code == 3
    assert "2.000" in said.out
    assert "1 base runs do not show how much two runs differ" in said.out
    assert said.message == "vggbench: 1 inconclusive of 1 cells; their reasons are above"
    assert command_line("compare", *runs, "--inconclusive", "pass").code == 0


def test_limits_are_in_percent(command_line: CommandLine, store: Store, bases: Path) -> None:
    candidate = store("candidate", 10.6)
    assert command_line("compare", bases, candidate).code == 1
    assert command_line("compare", bases, candidate, "--tolerance-percent", 8, "--budget-percent", 10).code == 0
    said = command_line("compare", bases, candidate, "--budget-percent", "0.5")
    assert said.code == 2
    assert said.message == "vggbench: the budget is 0.005; it must be more than the tolerance of 0.01 and less than 1"


def test_formats(
    command_line: CommandLine, store: Store, bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = store("candidate", 12.0)
    document = json.loads(command_line("compare", bases, candidate, "--format", "json").out)
    (found,) = document["cells"]
    assert (document["exit_code"], document["rule"]) == (1, {"tolerance": 0.01, "budget": 0.03})
    assert (found["verdict"], found["batch_size"], found["backend"]) == ("REGRESSED", 2, "fake")
    suite = ET.fromstring(command_line("compare", bases, candidate, "--format", "junit").out)[0]
    assert (suite.get("name"), suite.get("failures")) == ("vggbench compare", "1")
    assert command_line("compare", bases, candidate, "--format", "markdown").out.startswith("## vggbench compare: 1 ")
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert command_line("compare", bases, candidate, "--format", "github").out.startswith("::error title=REGRESSED ")
    assert summary.read_text().startswith("before\n## vggbench compare")


def test_github_without_a_summary_prints_the_page(
    command_line: CommandLine, store: Store, bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    said = command_line("compare", bases, store("candidate", 12.0), "--format", "github")
    assert said.out.startswith("## vggbench compare")
    assert "\n::error title=REGRESSED" in said.out


@pytest.mark.parametrize(("full", "message"), [(False, "cannot be written: "), (True, "is full: ")])
def test_a_summary_that_cannot_be_written_is_one_line(
    command_line: CommandLine,
    store: Store,
    bases: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    full: bool,
    message: str,
) -> None:
    summary = tmp_path / "summary.md" if full else tmp_path / "nowhere" / "summary.md"
    if full:
        summary.write_bytes(b"x" * 2**20)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    said = command_line("compare", bases, store("candidate", 10.0), "--format", "github")
    assert said.code == 2
    assert said.message.startswith(f"vggbench: GITHUB_STEP_SUMMARY {summary} {message}")


def test_another_driver_is_refused_unless_it_is_under_test(command_line: CommandLine, store: Store) -> None:
    candidate = edited(store("candidate", 10.0), ["environment", "system", "driver"], "580.1")
    base = store("base", 10.0)
    said = command_line("compare", base, candidate)
    assert (said.code, said.out) == (4, "")
    assert said.message == (
        f"vggbench: {base} and {candidate} differ in system.driver (none -> 580.1); name with --changed what is under "
        "test, and have the rest alike"
    )
    said = command_line("compare", base, candidate, "--changed", "torch,driver")
    assert said.code == 3
    assert said.out.startswith("system.driver: none -> 580.1\n")
    assert command_line("compare", base, candidate, "--changed", "nothing").code == 2


def test_cells_on_one_side_only_end_in_4(command_line: CommandLine, store: Store, bases: Path) -> None:
    said = command_line("compare", bases, store("candidate", 10.0, 10.0, cells=(CELL, OTHER)))
    assert said.code == 4
    assert f"{OTHER.title}: MISSING: base does not have it" in said.out
    assert said.message == "vggbench: 1 cells are on one side only; measure the same plan on both"


def test_a_cell_that_is_unsupported_here_is_not_a_cell(command_line: CommandLine, store: Store) -> None:
    nowhere = (fake_cell(unsupported="no fp32"),)
    said = command_line("compare", store("base", cells=nowhere), store("candidate", cells=nowhere))
    assert said.code == 4
    assert said.message.startswith("vggbench: no cell is on both sides")


def test_other_outputs_end_in_1(command_line: CommandLine, store: Store, bases: Path) -> None:
    candidate = store("candidate", 10.0)
    write_journal(candidate, [record(CELL, 0, session(CELL, parity=failed_parity("it is wrong")))])
    said = command_line("compare", bases, candidate)
    assert said.code == 1
    assert "INVALID: head: parity_failed: it is wrong" in said.out
    assert said.message == "vggbench: 1 with other outputs of 1 cells; their reasons are above"


def test_a_cell_that_failed_ends_in_5(command_line: CommandLine, store: Store, bases: Path) -> None:
    candidate = store("candidate", 10.0)
    write_journal(candidate, [record(CELL, 0, failure=Failure(stage="open", status="failed", reason="it crashed"))])
    said = command_line("compare", bases, candidate)
    assert said.code == 5
    assert "INVALID: head: failed: round 1 at open: it crashed" in said.out


def test_too_few_rounds_are_invalid(command_line: CommandLine, store: Store, bases: Path) -> None:
    said = command_line("compare", bases, store("candidate", 20.0, count=5))
    assert said.code == 3
    assert "INVALID: head: 5 rounds; 6 are needed" in said.out


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder.mkdir(), "holds no run: neither run.json"),
        (lambda folder: None, "cannot be read: No such file"),
        (lambda folder: folder.write_text("{"), "is not JSON"),
        (lambda folder: folder.write_text("[]"), "is neither a run's folder nor a file of pytest-benchmark"),
        (lambda folder: folder.write_text("{}"), "is not of pytest-benchmark"),
        (lambda folder: folder.write_bytes(b"\xff\xfe"), "is not JSON"),
    ],
)
def test_what_is_no_run_is_one_line(
    command_line: CommandLine, store: Store, tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / "foreign")
    for runs in ((tmp_path / "foreign", store("run", 10.0)), (tmp_path / "run", tmp_path / "foreign")):
        said = command_line("compare", *runs)
        assert (said.code, said.out) == (2, "")
        assert message in said.message
        assert len(said.err.splitlines()) == 1


def test_another_schema_version_is_refused(command_line: CommandLine, store: Store) -> None:
    later = edited(store("later", 10.0), ["schema_version"], 99)
    said = command_line("compare", store("base", 10.0), later)
    assert said.code == 2
    assert said.message.endswith("has schema version 99, this vggbench reads 1")


def test_a_run_is_counted_once(command_line: CommandLine, store: Store) -> None:
    base = store("base", 10.0)
    for runs in ((base, base, store("candidate", 10.0)), (base, base / FILE_NAME)):
        said = command_line("compare", *runs)
        assert (said.code, said.message) == (2, f"vggbench: {base} is given twice; each run counts once")


def test_it_takes_two_runs_and_one_candidate(command_line: CommandLine, store: Store, bases: Path) -> None:
    base = store("base", 10.0)
    assert command_line("compare", base).message.startswith("vggbench: compare needs a base run and a candidate")
    said = command_line("compare", base, bases)
    assert (said.code, said.message) == (2, f"vggbench: {bases} holds 5 runs; the candidate is one")


def test_pytest_benchmarks_files_are_gated_by_the_same_rule(command_line: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    for number, factor in enumerate(STEADY):
        benchmark_file(folder / f"{number:04}_base.json", 0.01 * factor)
    same = benchmark_file(tmp_path / "same.json", 0.01)
    slow = benchmark_file(tmp_path / "slow.json", 0.012, commit_info={"id": "decaf", "dirty": True})
    assert command_line("compare", folder, same).code == 0
    assert "commit (c0ffee -> decaf-dirty)" in command_line("compare", folder, slow).message
    said = command_line("compare", folder, slow, "--changed", "commit")
    assert said.code == 1
    assert "benchmarks/test_x.py::test_x" in said.out


def test_a_run_and_a_file_of_pytest_benchmark_are_not_comparable(
    command_line: CommandLine, store: Store, tmp_path: Path
) -> None:
    said = command_line("compare", store("base", 10.0), benchmark_file(tmp_path / "x.json"))
    assert said.code == 4
    assert "is a run of vggbench" in said.message


@pytest.mark.parametrize(
    ("benchmarks", "message"),
    [
        ([{"fullname": "x", "stats": {"median": "1"}}], "the median of x is '1', not a number of seconds"),
        ([{"fullname": "x", "stats": {"median": 0}}], "the median of x is 0, not"),
        ([{"fullname": "x", "stats": {"median": float("nan")}}], "the median of x is nan, not"),
        ([{"fullname": "x"}], "benchmark 1 has no fullname or no stats"),
        (["x"], "benchmark 1 has no fullname"),
        ([{"fullname": "x", "stats": {"median": 1}}] * 2, "x stands in it twice"),
        ("x", "it has no list of benchmarks"),
    ],
)
def test_a_broken_file_of_pytest_benchmark_is_one_line(
    command_line: CommandLine, tmp_path: Path, benchmarks: Any, message: str
) -> None:
    broken = benchmark_file(tmp_path / "broken.json", benchmarks=benchmarks)
    said = command_line("compare", benchmark_file(tmp_path / "good.json"), broken)
    assert said.code == 2
    assert message in said.message


def test_an_empty_file_of_pytest_benchmark_is_never_green(command_line: CommandLine, tmp_path: Path) -> None:
    empty = [benchmark_file(tmp_path / f"{name}.json", benchmarks=[]) for name in "ab"]
    assert command_line("compare", *empty, "--inconclusive", "pass").code == 4
