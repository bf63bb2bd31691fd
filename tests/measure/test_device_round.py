"""A whole round of the torch backend as it is on a GPU: the worker's own code, on the stand-in of torch's CUDA calls.

The stand-in computes on the CPU, so the row says `fallback`; NVML is a fake module.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import cuda_stand_in
from tests.cuda_stand_in import ALLOCATED_BYTES, CudaStandIn
from tests.fakes import SPEC, InlineWorker, fake_plan, fake_request
from tests.measure.test_gpu_state import fake_nvml, refuse
from vggbench.backends import torch_eager
from vggbench.backends.registry import check_options, find_backend
from vggbench.environment import gpus
from vggbench.measure import rounds
from vggbench.measure.conditions import Conditions
from vggbench.measure.device_memory import process_memory
from vggbench.measure.disturbance import sum_up
from vggbench.measure.gpu_state import GpuState
from vggbench.measure.request import Timing
from vggbench.measure.rounds import run_round
from vggbench.plan import Cell
from vggbench.preparation import materials
from vggbench.results.rows import derive_rows
from vggbench.runner import new_info, prepare_all

torch = pytest.importorskip("torch")
CELL = Cell(
    spec=SPEC,
    backend="torch",
    options=check_options(find_backend("torch"), {}, "cuda"),
    precision="fp32",
    device="cuda",
    batch_size=2,
    threads=2,
    in_flight=2,
)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


def process(pid: int, used: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=used)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, inline_workers: None) -> CudaStandIn:
    monkeypatch.setattr(torch_eager, "unusable", lambda _device: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpus._handle.cache_clear()
    running = [process(1, 9 << 20), process(os.getpid(), 5 << 20)]
    nvml = fake_nvml(
        nvmlDeviceGetComputeRunningProcesses=lambda _handle: running,
        nvmlDeviceGetName=lambda _handle: "NVIDIA Made Up",
        nvmlDeviceGetTotalEnergyConsumption=refuse,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    return cuda_stand_in.install(monkeypatch)


def request_of(cell: Cell, exports: Path):
    return fake_request(cell, exports, timing=Timing.of_seconds(0.02))


def test_a_round_has_the_devices_time_the_hosts_and_the_copies(machine: CudaStandIn, exports: Path):
    record = run_round(request_of(CELL, exports))
    assert record.failure is None, record.failure
    latency, throughput = record.sessions
    assert latency.timeline == throughput.timeline == "cuda"
    assert latency.parity.passed
    kinds = [block.kind for block in latency.blocks]
    assert kinds == ["warmup", "compute", "compute", "compute", "end_to_end", "host", "copy_in", "copy_out"]
    assert [block.kind for block in throughput.blocks] == ["throughput"]
    for block in latency.blocks:
        assert len(block.enqueue_ns) == (len(block.samples_ns) if block.kind == "compute" else 0)
        assert block.wrong == ""
        assert block.conditions is not None
        assert block.conditions.gpu == block.conditions.gpu_before
        assert block.conditions.gpu.temperature_c == 61
    assert len(machine.backlogs_ns) > 10
    assert (record.device_memory_bytes, record.device_allocated_bytes) == (5 << 20, ALLOCATED_BYTES)


def test_a_row_has_them_as_columns(machine: CudaStandIn, exports: Path):
    plan = fake_plan(CELL)
    kept, _found = prepare_all(plan, exports, lambda _cell: None)
    info = replace(new_info(plan, {"torch": "2"}), prepared=kept)
    (row,) = derive_rows(info, [run_round(request_of(CELL, exports))])
    assert row.timing == "cuda"
    assert (row.device_memory_mib, row.device_allocated_mib) == (5, 3)
    assert row.device_name == "NVIDIA Made Up"
    for value in (row.latency_ms, row.host_latency_ms, row.enqueue_ms, row.copy_in_ms, row.copy_out_ms):
        assert value is not None
        assert value > 0
    assert row.held_back_by in {"gpu-bound", "launch-bound", "copy-bound"}
    assert row.status == "fallback"  # the stand-in is no GPU
    assert "cuda was asked" in str(row.reasons)


def test_both_edges_of_every_block_are_looked_at():
    hot = GpuState(sm_clock_mhz=1980, memory_clock_mhz=1, power_w=1.0, temperature_c=80, slowdowns=("power cap",))
    cool = replace(hot, temperature_c=40, slowdowns=())
    blocks = [
        Conditions(wall_s=2.0, cpus=1, own_cpu_s=1.0, gpu=after, gpu_before=before)
        for before, after in ((hot, cool), (cool, hot), (hot, hot), (cool, cool))
    ]
    found = sum_up(blocks)
    assert found.gpu_temperature_c == 80
    assert found.slowdowns == (("power cap", 3),)  # blocks, not edges


def test_the_batches_of_an_engine_share_a_process_within_a_round(machine: CudaStandIn, exports: Path, monkeypatch):
    started: list[InlineWorker] = []

    class Worker(InlineWorker):
        def __init__(self, **options) -> None:
            super().__init__(**options)
            started.append(self)

    monkeypatch.setattr(rounds, "WorkerClient", Worker)
    small, large = (request_of(replace(CELL, batch_size=size), exports) for size in (1, 3))
    with rounds.executor_of("cuda") as execute:
        first, second = execute(small), execute(large)
        assert len(started) == 1
        assert [record.sessions[0].evidence.batch_size for record in (first, second)] == [1, 3]
        assert first.sessions[0].import_s == second.sessions[0].import_s  # it was imported once, for both
        execute(replace(large, round=1))
        assert len(started) == 2
        execute(replace(large, round=1, precision="tf32"))
        assert len(started) == 3
    with rounds.executor_of("cpu") as execute:
        assert execute is rounds.run_round


def test_a_process_that_broke_is_not_shared(machine: CudaStandIn, exports: Path, monkeypatch):
    good = request_of(CELL, exports)
    with rounds.executor_of("cuda") as execute:
        assert execute(replace(good, reference_sha256="00")).failure is not None
        assert execute(good).failure is None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.19 GiB. GPU 0 has\nmore"),
            "out of memory at batch 2: OutOfMemoryError: CUDA out of memory. Tried to allocate 9.19 GiB",
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "out of memory at batch 2: RuntimeError: cuDNN error"),
        (
            RuntimeError("BFCArena: Available memory of 12 is smaller than requested bytes of 99"),
            "out of memory at batch 2: RuntimeError: BFCArena",
        ),
    ],
)
def test_memory_that_runs_out_is_a_failure_at_its_batch(
    machine: CudaStandIn, exports: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
):
    request = request_of(CELL, exports)

    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(torch_eager.TorchSession, "enqueue", fail)
    failure = run_round(request).failure
    assert failure is not None
    assert (failure.stage, failure.status) == ("open", "failed")
    assert failure.reason.startswith(said)
    assert failure.reason.endswith("; use a smaller --batch-size")


def test_another_error_is_told_as_it_is(machine: CudaStandIn, exports: Path, monkeypatch: pytest.MonkeyPatch):
    request = request_of(CELL, exports)

    def fail(*_arguments: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch_eager.TorchSession, "enqueue", fail)
    failure = run_round(request).failure
    assert failure is not None
    assert failure.reason == "RuntimeError: CUDA error: an illegal memory access was encountered"


@pytest.mark.parametrize(
    ("running", "used"),
    [
        ([process(os.getpid(), 7)], 7),
        ([process(99, 8)], 8),  # numbered as outside of a container
        ([process(98, 8), process(99, 9)], None),
        ([process(os.getpid(), None)], None),
        ([], None),
    ],
)
def test_nvml_tells_what_this_process_holds(machine: CudaStandIn, running: list, used: int | None):
    sys.modules["pynvml"].nvmlDeviceGetComputeRunningProcesses = lambda _handle: running
    assert process_memory("cuda") == used
    assert process_memory("cpu") is None


def test_the_materials_are_those_of_any_device(exports: Path):
    on_cpu = replace(CELL, device="cpu", options={"memory_format": "contiguous"})
    assert materials(CELL, exports).artefact == materials(on_cpu, exports).artefact
