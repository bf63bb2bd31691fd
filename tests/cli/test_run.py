"""`vggbench run` on the fake backend."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.conftest import CommandLine, Said
from tests.fakes import ARGUMENTS, InlineWorker
from vggbench.backends.base import Support
from vggbench.backends.fake import FakeBackend
from vggbench.cli.results import judge
from vggbench.errors import PRECEDENCE, VggbenchError
from vggbench.measure.validity import STATUSES
from vggbench.results.columns import COLUMNS, Row
from vggbench.results.journal import JOURNAL_NAME, read_journal
from vggbench.results.run_info import FILE_NAME

pytestmark = pytest.mark.usefixtures("inline_workers")

QUICK = ("--rounds", "2", "--time-budget-s", "0.05", "--threads", "1", "--no-roofline")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def run(command_line: CommandLine, folder: Path, fake_exports: Path) -> Callable[..., Said]:
    """Return a function that runs the tiny network, two quick rounds; `backends` are the fake's, with their faults."""

    def call(*arguments: object, backends: str = "fake") -> Said:
        places = ("--output", folder, "--exports", fake_exports)
        return command_line("run", *ARGUMENTS, *QUICK, "--backend", backends, *places, *arguments)

    return call


@pytest.fixture
def no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        FakeBackend, "supports", lambda _self, precision, _device: Support(precision == "fp32", "no bf16 here")
    )


def rounds_of(folder: Path) -> list[tuple[str, int]]:
    return [(record.cell_id, record.round) for record in read_journal(folder / JOURNAL_NAME)]


def test_a_run_prints_a_table_best_first_and_where_it_is(run, folder: Path):
    said = run("--precision", "fp32", backends="fake:latency_ms=4,fake:latency_ms=2")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].split()[:4] == ["variant", "backend", "precision", "batch"]
    assert "latency_ms=2" in lines[2]
    assert "2.00" in lines[2]
    assert "latency_ms=4" in lines[3]
    assert "no interval: 2 rounds, 6 are needed" in lines[4]
    assert lines[-1] == f"written to {folder}: results.csv, summary.md, samples.parquet"
    assert {path.name for path in folder.iterdir()} >= {FILE_NAME, JOURNAL_NAME, "results.csv", "summary.md"}


def test_progress_is_on_stderr_line_by_line(run):
    lines = run("--precision", "fp32").err.splitlines()
    assert lines[0] == "preparing custom fake fault=none fp32 batch 1"
    assert lines[1] == "trying several requests in flight on custom fake fault=none fp32 batch 1"
    assert lines[2].startswith("[1/2] custom fake fault=none fp32 batch 1: 1 ms, about ")
    assert lines[3] == "[2/2] custom fake fault=none fp32 batch 1: 1 ms"


@pytest.mark.slow
def test_json_is_all_of_stdout_with_the_csvs_names_and_values(run, folder: Path):
    said = run("--json", "--batch-size", "1,2")
    rows = json.loads(said.out)
    assert [list(row) for row in rows] == [list(COLUMNS)] * 4
    with (folder / "results.csv").open(newline="") as file:
        stored = list(csv.DictReader(file))
    assert [row["cell_id"] for row in rows] == [row["cell_id"] for row in stored]
    assert [row["latency_ms"] for row in rows] == [float(row["latency_ms"]) for row in stored]


@pytest.mark.slow
def test_the_products_of_repeated_and_comma_separated_options(run):
    arguments = ("--precision", "fp32,bf16", "--batch-size", "3", "--batch-size", "1, 2")
    rows = json.loads(run("--json", *arguments).out)
    expected = [(precision, size) for precision in ("fp32", "bf16") for size in (3, 1, 2)]
    assert [(row["precision"], row["batch_size"]) for row in rows] == expected


# What a run ends in


@pytest.mark.parametrize(
    ("backends", "code", "message"),
    [
        ("fake", 0, ""),
        ("fake:fault=wrong", 1, "vggbench: 1 of 1 rows failed parity; their reasons are above"),
        ("fake:fault=nan,fake", 1, "vggbench: 1 of 2 rows failed parity; their reasons are above"),
        ("fake:fault=open", 5, "vggbench: 1 of 1 rows failed; their reasons are above"),
        ("fake:fault=open,fake:fault=shape", 1, "vggbench: 1 of 2 rows failed parity; their reasons are above"),
        ("fake:fault=precision", 0, ""),
        ("fake:fault=fallback", 0, ""),
    ],
)
def test_rows_decide_the_exit_code(run, backends: str, code: int, message: str):
    said = run("--precision", "fp32", backends=backends)
    assert said.code == code
    if message:
        assert said.message == message


@pytest.mark.parametrize(
    ("backends", "code"), [("fake", 0), ("fake:fault=precision", 5), ("fake,fake:fault=fallback", 5)]
)
def test_strict_wants_every_row_ok(run, backends: str, code: int):
    said = run("--strict", "--precision", "fp32", backends=backends)
    assert said.code == code
    if code:
        assert "rows are not ok and --strict was asked" in said.message


def test_the_verdict_comes_after_json_too(run):
    said = run("--json", "--precision", "fp32", backends="fake:fault=wrong")
    assert said.code == 1
    assert json.loads(said.out)[0]["status"] == "parity_failed"


def test_nothing_but_unsupported_cells_is_4(run, no_bf16: None):
    said = run("--precision", "bf16")
    assert (said.code, said.message) == (
        4,
        "vggbench: every cell is unsupported here; their reasons are above",
    )
    assert "unsupported: no bf16 here" in said.out


def test_an_unsupported_cell_beside_others_counts_only_with_strict(run, folder: Path, no_bf16: None):
    assert run("--precision", "fp32,bf16").code == 0
    assert run("--precision", "fp32,bf16", "--strict", "--output", folder.with_name("strict")).code == 5


def test_precisions_not_asked_for_are_those_that_are_native(run, no_bf16: None):
    said = run("--strict", "--json")
    assert said.code == 0
    assert [row["precision"] for row in json.loads(said.out)] == ["fp32"]


@given(st.lists(st.sampled_from(STATUSES), min_size=1), st.booleans())
def test_the_code_is_the_first_that_applies(statuses: list[str], strict: bool):
    code = 0
    try:
        judge([Row(status=status) for status in statuses], strict=strict)
    except VggbenchError as error:
        code = error.exit_code
        assert "\n" not in str(error)  # noqa: PT017 - either is right
    apply = {
        1: "parity_failed" in statuses,
        4: set(statuses) == {"unsupported"},
        5: bool({"failed", "timeout"} & set(statuses)) or (strict and set(statuses) != {"ok"}),
    }
    assert code == next((candidate for candidate in PRECEDENCE if apply.get(candidate)), 0)


# What is wrong with a request


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch-size", "0"), "batch size is 0; it must be from 1 to 4096"),
        (("--batch-size", "-1"), "batch size is -1; it must be from 1 to 4096"),
        (("--batch-size", "1000000"), "batch size is 1000000; it must be from 1 to 4096"),
        (("--batch-size", "two"), "batch size is 'two'; it must be a whole number"),
        (("--batch-size", "1.5"), "batch size is '1.5'; it must be a whole number"),
        (("--batch-size", "9" * 5000), "it must be a whole number"),
        (("--batch-size", "1,,2"), "an item is empty in '1,,2'; write a,b,c"),
        (("--batch-size", ""), "an item is empty in ''; write a,b,c"),
        (("--precision", "fp32,"), "an item is empty in 'fp32,'; write a,b,c"),
        (("--precision", "fp4"), "unknown precision 'fp4'; it can be fp32, tf32, fp16, bf16, int8, fp8"),
        (("--threads", "0"), "threads is 0; this process may use from 1 to"),
        (("--threads", "100000"), "threads is 100000; this process may use from 1 to"),
        (("--device", "cuda"), "device 'cuda' cannot be measured"),
        (("--rounds", "0"), "rounds is 0; it must be from 1"),
        (("--replicas", "0"), "replicas is 0; it must be from 1 to 100"),
        (("--rounds", "1000000"), "rounds is 1000000; it must be from 1"),
        (("--time-budget-s", "0"), "time budget is 0 s; it must be more than 0"),
        (("--time-budget-s", "nan"), "time budget is nan s; it must be more than 0"),
        (("--time-budget-s", "inf"), "time budget is inf s; it must be more than 0"),
        (("--variant", "vgg17"), "vgg16"),
        (("--input-size", "2"), "input size 2 is too small"),
        (("--backend", "fake:fault"), "write options as fake:name=value"),
        (("--backend", "fake:fault=odd"), "option fault of fake is 'odd'; it can be none, open"),
        (("--backend", "fake:speed=9"), "backend fake has no option 'speed'; it knows: latency_ms, fault"),
        (("--backend", "onnxrunime"), "unknown backend 'onnxrunime'; did you mean onnxruntime or "),
    ],
)
def test_a_wrong_request_is_2_in_one_line_and_leaves_nothing(run, folder: Path, arguments, message: str):
    said = run(*arguments)
    assert said.code == 2
    assert said.err.startswith("vggbench: ")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not folder.exists()


def test_an_unknown_variant_is_told_the_nearest(command_line: CommandLine):
    said = command_line("run", "--variant", "vgg17_bn")
    assert said.code == 2
    assert "'vgg17_bn'" in said.message
    assert "vgg11_bn" in said.message or "vgg16_bn" in said.message


def test_a_backend_asked_for_by_name_that_is_not_there(run, folder: Path, monkeypatch: pytest.MonkeyPatch):
    class Broken(InlineWorker):
        def call(self, command: str, **arguments: Any) -> dict[str, Any]:
            return super().call(command, **arguments) | {
                "available": False,
                "reason": "it is gone",
                "remedy": "find it",
            }

    monkeypatch.setattr("vggbench.measure.client.WorkerClient", Broken)
    said = run()
    assert (said.code, said.err) == (2, "vggbench: backend fake cannot be used on cpu: it is gone; find it\n")
    assert not folder.exists()


def test_a_folder_with_a_run_and_a_folder_in_use(run, folder: Path):
    assert run("--precision", "fp32").code == 0
    before = (folder / FILE_NAME).read_bytes()
    said = run("--precision", "fp32")
    assert said.code == 2
    assert "holds a run already; continue it with --resume" in said.message
    with FileLock(folder / ".lock"):
        assert "is in use by another vggbench" in run().message
    assert (folder / FILE_NAME).read_bytes() == before


def test_without_a_folder_it_is_one_of_this_moment(
    command_line: CommandLine, fake_exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    said = command_line("run", *ARGUMENTS, *QUICK, "--backend", "fake", "--exports", fake_exports)
    assert said.code == 0
    (made,) = (tmp_path / "reports").iterdir()
    assert (made / "results.csv").exists()
    assert f"written to reports/{made.name}" in said.out


# Plan files


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(
        'rounds = 3\ntime_budget_s = 0.05\nthreads = 1\n[[cells]]\nconfig = "8,M,16,M"\ninput_size = 32\n'
        'num_classes = 5\nclassifier_width = 16\nbackend = "fake"\nprecision = "fp32"\nbatch_size = [1, 2]\n'
    )
    return path


def test_a_plan_file_says_it_all(command_line: CommandLine, plan_file: Path, folder: Path, fake_exports: Path):
    said = command_line("run", "--plan", plan_file, "--output", folder, "--exports", fake_exports, "--json")
    assert said.code == 0
    rows = json.loads(said.out)
    assert [(row["batch_size"], row["rounds"], row["threads"]) for row in rows] == [(1, 3, 1), (2, 3, 1)]


def test_the_command_lines_pace_goes_over_the_plan_files(
    command_line: CommandLine, plan_file: Path, folder: Path, fake_exports: Path
):
    arguments = ("--rounds", "1", "--time-budget-s", "4", "--output", folder, "--exports", fake_exports)
    said = command_line("run", "--plan", plan_file, *arguments)
    assert said.code == 0
    plan = json.loads((folder / FILE_NAME).read_text())["plan"]
    assert (plan["rounds"], plan["round_seconds"]) == (1, 2.0)


@pytest.mark.slow
def test_replicas_from_the_plan_file_and_from_the_command_line(
    command_line: CommandLine, plan_file: Path, tmp_path: Path, fake_exports: Path
):
    plan_file.write_text("replicas = 2\n" + plan_file.read_text())
    for number, (options, numbers) in enumerate([((), [1, 2, 1, 2]), (("--replicas", "1"), [None, None])]):
        arguments = ("--output", tmp_path / str(number), "--exports", fake_exports, "--no-roofline", "--json")
        said = command_line("run", "--plan", plan_file, *options, *arguments)
        assert said.code == 0
        assert [row["replica"] for row in json.loads(said.out)] == numbers


def test_cells_beside_a_plan_file_are_refused_by_their_options_names(command_line: CommandLine, plan_file: Path):
    said = command_line("run", "--plan", plan_file, "--lrn", "divided", "--seed", "3", "--batch-size", "1")
    assert said.code == 2
    expected = "--lrn, --seed, --batch-size cannot be given beside --plan; write it into the plan file"
    assert said.message == f"vggbench: {expected}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cells = [", "is not TOML"),
        ("", "cells: Field required"),
        ("[[cells]]\nbatchsize = 1", "'cells.0.batchsize' is no key here"),
        ("[[cells]]\nbatch_size = 'x'", "cells.0.batch_size.0: Input should be a valid integer, not 'x'"),
    ],
)
def test_a_wrong_plan_file(command_line: CommandLine, tmp_path: Path, text: str, message: str):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    said = command_line("run", "--plan", path)
    assert said.code == 2
    assert said.err.startswith(f"vggbench: plan {path}")
    assert message in said.message


def test_a_missing_plan_file(command_line: CommandLine, tmp_path: Path):
    said = command_line("run", "--plan", tmp_path / "none.toml")
    assert said.code == 2
    assert "cannot be read: No such file or directory" in said.message


# Stopped and resumed


def interrupt_after(rounds: int) -> type[InlineWorker]:
    """Return a worker's stand-in that is interrupted in the round after so many."""
    opened = 0

    class Interrupted(InlineWorker):
        def call(self, command: str, **arguments: Any) -> dict[str, Any]:
            nonlocal opened
            opened += command == "open" and arguments["in_flight"] == 1
            if opened > 2 * rounds:
                raise KeyboardInterrupt
            return super().call(command, **arguments)

    return Interrupted


def test_a_stopped_run_is_130_and_goes_on_where_it_was(
    run, command_line: CommandLine, folder: Path, fake_exports: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr("vggbench.measure.rounds.WorkerClient", interrupt_after(1))
        said = run("--rounds", "3", "--precision", "fp32")
    assert said.code == 130
    done = rounds_of(folder)
    command = f"vggbench run --resume --output {folder} --exports {fake_exports}"
    assert said.message == f"vggbench: stopped after {len(done)} rounds; continue with: {command}"
    assert (folder / "summary.md").exists()
    resumed = command_line(*command.split()[1:])
    assert resumed.code == 0
    finished = rounds_of(folder)
    assert finished[: len(done)] == done
    assert sorted(number for _, number in finished) == [0, 1, 2]
    assert resumed.out.splitlines()[-1].startswith(f"written to {folder}")


def test_resuming_a_finished_run_prints_it_again(run, command_line: CommandLine, folder: Path, fake_exports: Path):
    first = run()
    again = command_line("run", "--resume", "--output", folder, "--exports", fake_exports)
    assert (again.code, again.out) == (0, first.out)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--rounds", "3"),
        ("--replicas", "2"),
        ("--time-budget-s", "3"),
        ("--variant", "vgg11"),
        ("--threads", "1"),
        ("--plan", "x"),
    ],
)
def test_resuming_takes_no_other_plan(command_line: CommandLine, folder: Path, arguments: tuple[str, str]):
    said = command_line("run", "--resume", "--output", folder, *arguments)
    assert said.code == 2
    assert "--resume continues the run's own plan" in said.message


def test_resuming_needs_a_folder_with_a_run(command_line: CommandLine, folder: Path):
    assert "--resume needs --output" in command_line("run", "--resume").message
    said = command_line("run", "--resume", "--output", folder)
    assert said.code == 2
    assert said.message == f"vggbench: {folder} holds no run: run.json is missing"
