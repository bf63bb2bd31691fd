"""Workers that really crash, hang, run out of memory or print garbage: a row each, and the other cells go on."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import ARGUMENTS, fake_cell, fake_plan, fake_request
from tests.running import measured, start
from vggbench.measure.client import WorkerClient
from vggbench.measure.records import RoundRecord
from vggbench.measure.request import RoundRequest
from vggbench.measure.rounds import run_round
from vggbench.runner import Places, resume_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of other processes in Linux's way"),
]

KILLED = "the worker was killed by SIGKILL, perhaps by the kernel because memory ran out (try a smaller batch)"
FAULTS = {
    "crash": ("failed", KILLED),
    "segfault": ("failed", "the worker was killed by SIGSEGV"),
    "garbage": ("failed", "the worker wrote 'loading kernels\\n' where an answer belongs"),
    "memory": ("failed", "MemoryError: Unable to allocate 1.00 EiB"),
    "hang": ("timeout", "no answer within"),
}


def impatient(request: RoundRequest) -> RoundRecord:
    """Measure with a worker of its own; what hangs is not waited for as long as others may take on a busy machine."""
    hangs = request.options.get("fault") == "hang"
    return run_round(replace(request, timeout_s=0.5) if hangs else request)


def test_each_fault_is_a_row_with_stage_and_reason_and_the_other_cells_go_on(places: Places):
    broken = [fake_cell(fault=fault) for fault in FAULTS]
    sound = [fake_cell(), fake_cell(precision="bf16")]
    plan = fake_plan(sound[0], *broken, sound[1], rounds=2)
    rows = start(plan, places, execute=impatient)
    assert [row.status for row in rows] == ["ok", *(status for status, _ in FAULTS.values()), "ok"]
    assert [row.rounds for row in rows] == [2, 0, 0, 0, 0, 0, 2]
    for row, (fault, (_, reason)) in zip(rows[1:-1], FAULTS.items(), strict=True):
        assert row.reasons is not None
        stages = ("open", "start") if fault == "hang" else ("open",)
        assert any(row.reasons.startswith(f"round 1 at {stage}: {reason}") for stage in stages)
    before = measured(places)
    assert len(before) == 4 + len(FAULTS)
    resume_run(places, execute=impatient)
    assert measured(places) == before
    resume_run(places, retry_failed=True, execute=impatient)
    assert len(measured(places)) == len(before)  # they have failed again


class Starved(WorkerClient):
    """A worker that may take little more memory than it has when it is told to verify."""

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        if command == "verify":
            import resource

            lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
            taken = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmSize:"))
            resource.prlimit(self.pid, resource.RLIMIT_AS, (taken + 2**20, taken + 2**20))
        return super().call(command, **arguments)


def test_a_backend_that_gets_no_memory_is_a_failed_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vggbench.measure.rounds.WorkerClient", Starved)
    record = run_round(fake_request(fake_cell(backend="torch", batch_size=4096, threads=1), tmp_path))
    assert record.failure is not None
    assert (record.failure.stage, record.failure.status) == ("verify", "failed")
    assert "memory" in record.failure.reason.lower() or "allocate" in record.failure.reason.lower()


LIMITED = """
import resource, sys
from pathlib import Path
import pandas, pyarrow.parquet, torch, torch.onnx, onnx_ir, onnxscript, safetensors.torch
import vggbench.artefacts.graph, vggbench.artefacts.onnx, vggbench.models.vgg, vggbench.runner
from vggbench.__main__ import main
lines = Path("/proc/self/status").read_text().splitlines()
taken = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmSize:"))
resource.setrlimit(resource.RLIMIT_AS, (taken + 2**28, resource.RLIM_INFINITY))
main(sys.argv[1:])
"""


def limited(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `vggbench` with 256 MiB of memory beyond what its libraries take."""
    command = [sys.executable, "-c", LIMITED, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)


def test_an_export_needs_less_memory_than_its_largest_layer(tmp_path: Path):
    ended = limited("export", *ARGUMENTS[:-1], "9216", "--exports", tmp_path)  # 324 MiB in one layer
    assert ended.returncode == 0, ended.stderr
    assert Path(ended.stdout.strip()).is_file()


def test_a_cell_that_gets_no_memory_to_be_prepared_is_a_failed_row(tmp_path: Path):
    places = ("--exports", tmp_path / "exports", "--output", tmp_path / "run", "--json")
    plan = ("--backend", "fake,torch", "--precision", "fp32", "--rounds", "1", "--time-budget-s", "0.2")
    ended = limited("run", *ARGUMENTS[:-1], "16384", *plan, *places)
    assert ended.returncode == 5, ended.stderr
    assert "Traceback" not in ended.stderr
    rows = {row["backend"]: row for row in json.loads(ended.stdout)}
    assert rows["torch"]["status"] == "failed"
    assert rows["torch"]["reasons"].startswith("prepare: ")
    assert "memory ran out while it was made" in rows["torch"]["reasons"]
    assert rows["fake"]["rounds"] == 1
