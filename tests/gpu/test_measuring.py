"""What only a GPU can show of how it is measured."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import numpy as np
import pytest

from tests.contract.conftest import Opener, make_opener
from tests.fakes import InlineWorker, fake_request
from vggbench.__main__ import main
from vggbench.backends.base import Session
from vggbench.backends.cuda_device import native_on
from vggbench.backends.registry import check_options, find_backend
from vggbench.measure import rounds
from vggbench.measure.device_latency import copy_in_block, copy_out_block, event_block
from vggbench.measure.gpu_state import read_gpu
from vggbench.measure.latency import compute_block
from vggbench.measure.request import Timing
from vggbench.measure.stopping import Enough
from vggbench.models.spec import make_spec
from vggbench.parity.check import check
from vggbench.plan import Cell

# Large enough for a request to take a millisecond or so: beside it, what a host adds is small.
VGG11 = make_spec("vgg11", input_size=224)
AGREE = 0.15  # of a request: the host's way there and back beside it
HOST_NS = 100_000  # what the host may add to a request


def enough() -> Enough:
    return Enough(least_s=0.3, least_samples=20)


def ring_of(session: Session) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return session.device_slots.pin(
        generator.standard_normal(session.input_spec.shape, dtype=np.float32) for _ in range(3)
    )


@pytest.fixture(params=["torch", "onnxruntime"])
def opener(request: pytest.FixtureRequest, gpu: str, exports: Path) -> Opener:
    return make_opener(request.param, "fp32", exports, gpu)


def cell_of(backend: str, precision: str, batch_size: int, **options: str) -> Cell:
    return Cell(
        spec=VGG11,
        backend=backend,
        options=check_options(find_backend(backend), options, "cuda"),
        precision=precision,
        device="cuda",
        batch_size=batch_size,
        threads=2,
        in_flight=2,
    )


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_tf32_is_off_where_fp32_was_asked_for(gpu: str, exports: Path, backend: str):
    """By its error: tf32 keeps 10 bits of a factor, fp32 keeps 23."""
    support = native_on("tf32", gpu)
    if not support.supported:
        pytest.skip(support.reason)
    errors = {}
    for precision in ("fp32", "tf32"):
        opener = make_opener(backend, precision, exports, gpu)
        with opener() as session:
            outputs = []
            for start in range(0, len(opener.inputs), 2):
                session.stage(0, np.ascontiguousarray(opener.inputs[start : start + 2]))
                session.enqueue(0)
                session.wait(0)
                outputs.append(session.fetch(0))
        errors[precision] = check(np.concatenate(outputs), opener.logits, 1.0).metrics.signal_error
    assert errors["fp32"] < 1e-4
    assert errors["tf32"] > 10 * errors["fp32"]


def test_the_devices_time_is_the_hosts_without_the_hosts_own(opener: Opener):
    with opener(batch_size=32) as session:
        ring = ring_of(session)
        compute_block(session, ring, enough(), kind="warmup")
        assert session.timeline == "cuda"
        events = event_block(session, ring, enough())
        host = compute_block(session, ring, enough(), kind="host")
    device_ns, host_ns = median(events.samples_ns), median(host.samples_ns)
    assert events.exposed <= 0.05 * len(events.samples_ns)
    assert device_ns <= 1.02 * host_ns
    longest_ns = max(device_ns, median(events.enqueue_ns))
    assert host_ns <= (1 + AGREE) * longest_ns + HOST_NS


def test_copies_take_as_long_as_their_bytes(opener: Opener):
    with opener(batch_size=32) as session:
        ring = ring_of(session)
        there = median(copy_in_block(session, ring, enough()).samples_ns)
        back = median(copy_out_block(session, ring, enough()).samples_ns)
    gigabytes_a_second = ring[0].nbytes / there
    assert 1 < gigabytes_a_second < 1000  # a bus, not a device's own memory and not a pageable copy
    assert 0 < back < there


def test_a_graph_is_enqueued_faster_than_its_kernels(gpu: str, exports: Path):
    taken = {}
    for text in ("torch", "torch:cuda_graph=on"):
        with make_opener(text, "fp32", exports, gpu)(batch_size=1) as session:
            ring = ring_of(session)
            compute_block(session, ring, enough(), kind="warmup")
            taken[text] = median(event_block(session, ring, enough()).enqueue_ns)
    assert taken["torch:cuda_graph=on"] < taken["torch"]


def test_onnxruntime_falls_back_to_nothing(gpu: str, exports: Path):
    with make_opener("onnxruntime", "fp32", exports, gpu)() as session:
        session.stage(0, np.zeros(session.input_spec.shape, dtype=np.float32))
        evidence = session.evidence()
    assert evidence.flags["providers"].split(",")[0] == "CUDAExecutionProvider"
    assert set(evidence.placements) == {"CUDAExecutionProvider"}
    assert {layer.placement for layer in evidence.layers} == {"CUDAExecutionProvider"}
    assert evidence.flags["use_tf32"] == "0"


def test_a_whole_round_is_of_what_was_asked(gpu: str, exports: Path):
    request = fake_request(cell_of("torch", "fp16", 8), exports, timing=Timing.of_seconds(1))
    record = rounds.run_round(request)
    assert record.failure is None, record.failure
    latency, throughput = record.sessions
    assert latency.parity.passed
    assert latency.evidence.device == gpu
    assert {layer.precision for layer in latency.evidence.layers} == {"fp16"}
    assert throughput.blocks[0].images > 0
    assert record.device_allocated_bytes > 200 << 20  # its weights in fp16


def test_memory_that_runs_out_is_a_row_at_its_batch(gpu: str, exports: Path, monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.setattr(rounds, "WorkerClient", InlineWorker)
    torch.cuda.set_per_process_memory_fraction(0.02)
    try:
        request = fake_request(cell_of("torch", "fp32", 256), exports, timing=Timing.of_seconds(0.1))
        failure = rounds.run_round(request).failure
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert failure is not None
    assert failure.status == "failed"
    assert failure.reason.startswith("out of memory at batch 256: ")


def test_a_gpu_tells_its_clock_and_temperature(gpu: str):
    state = read_gpu(gpu)
    assert state is not None
    assert state.temperature_c is None or 0 < state.temperature_c < 120


def test_a_gpu_that_is_not_there_is_2_in_one_line(gpu: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ending:
        main(["verify", "--device", "cuda:99", "--variant", "vgg11", "--exports", str(tmp_path)])
    assert ending.value.code == 2
    assert "device 'cuda:99' cannot be measured: there is no cuda:99" in capsys.readouterr().err
