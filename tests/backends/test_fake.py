"""The scripted backend does what its script says; its contract is in tests/contract."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import SPEC, fake_cell
from vggbench.backends.base import Available, Unavailable
from vggbench.backends.fake import BACKEND, FAULTS, FakeSession, fake_logits
from vggbench.data.synthetic import images
from vggbench.errors import RequestError
from vggbench.measure.validity import judge_evidence
from vggbench.models.layers import mac_layers
from vggbench.preparation import materials

BATCH = images(2, SPEC.input_size, seed=5)


def session(*, in_flight: int = 1, **options: str) -> FakeSession:
    return FakeSession(SPEC, "fp32", 2, 2, in_flight, options)


def timed(opened: FakeSession, slot: int = 0) -> int:
    start = opened.now_ns()
    opened.enqueue(slot)
    opened.wait(slot)
    return opened.now_ns() - start


def test_latencies_are_taken_in_turn():
    opened = session(latency_ms="1/2.5/3")
    assert [timed(opened) for _ in range(4)] == [1_000_000, 2_500_000, 3_000_000, 1_000_000]


def test_without_a_script_a_request_takes_a_millisecond():
    assert timed(session()) == 1_000_000


def test_slots_served_by_threads_run_side_by_side():
    opened = session(in_flight=2, latency_ms="2")
    both = threading.Barrier(2)

    def serve(slot: int) -> tuple[int, int]:
        both.wait()  # a thread of its own for each
        return timed(opened, slot), opened.now_ns()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(serve, range(2))) == [(2_000_000, 2_000_000)] * 2
    assert opened.now_ns() == 0


def test_waiting_again_takes_no_time():
    opened = session()
    timed(opened)
    now = opened.now_ns()
    opened.wait(0)
    assert opened.now_ns() == now


@pytest.mark.parametrize("text", ["", "a", "1/", "0", "-1", "nan", "inf", "1e308", "1e-9", "1/0"])
def test_latencies_that_are_none(text: str):
    with pytest.raises(RequestError, match="give positive numbers separated by /"):
        session(latency_ms=text)


@given(st.text(max_size=12))
def test_any_other_script_is_refused_in_one_line(text: str):
    with suppress(RequestError):
        assert timed(session(latency_ms=text)) > 0


def test_its_function_depends_on_images_and_seed():
    logits = fake_logits(BATCH, 5, seed=0)
    assert logits.shape == (2, 5)
    assert logits.dtype == np.float64
    assert not np.allclose(logits[0], logits[1])
    assert not np.allclose(logits, fake_logits(BATCH, 5, seed=1))


@pytest.mark.parametrize("size", [1, 3, 8, 9, 33])
def test_any_input_size_has_logits(size: int):
    assert np.isfinite(fake_logits(images(2, size, 0), 3, 0)).all()


def outputs(fault: str) -> np.ndarray:
    opened = session(fault=fault)
    opened.stage(0, BATCH)
    return opened.fetch(0)


def test_the_faults_of_outputs():
    right = outputs("none")
    assert np.allclose(right, fake_logits(BATCH, SPEC.num_classes, SPEC.seed), rtol=1e-5)
    assert not np.allclose(outputs("wrong"), right)
    assert np.isnan(outputs("nan")).any()
    assert np.ptp(outputs("constant"), axis=0).max() == 0
    assert outputs("shape").shape == (2, SPEC.num_classes - 1)


@pytest.mark.parametrize(
    ("fault", "statuses"),
    [
        ("none", set()),
        ("precision", {"precision_mismatch"}),
        ("fallback", {"fallback"}),
        ("batch", {"precision_mismatch", "failed"}),
    ],
)
def test_the_faults_of_evidence(fault: str, statuses: set[str]):
    macs = sum(layer.macs for layer in mac_layers(SPEC))
    findings = judge_evidence(
        session(fault=fault).evidence(), precision="fp32", device="cpu", batch_size=2, threads=2, macs=macs
    )
    assert {finding.status for finding in findings} == statuses


def test_the_faults_that_break(fake_exports: Path, monkeypatch: pytest.MonkeyPatch):
    artefact = materials(fake_cell(), fake_exports).artefact
    opening = {"device": "cpu", "precision": "fp32", "batch_size": 2, "threads": 2, "in_flight": 1}
    with pytest.raises(RuntimeError, match="opening fails"):
        BACKEND.open(artefact, **opening, options={"fault": "open"})
    with pytest.raises(RuntimeError, match="running fails"):
        session(fault="run").enqueue(0)
    killed = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    session(fault="crash").enqueue(0)
    assert killed == [(os.getpid(), 9)]

    def slept(_seconds: float) -> None:
        raise TimeoutError

    monkeypatch.setattr(time, "sleep", slept)
    with pytest.raises(TimeoutError):
        session(fault="hang").enqueue(0)


def test_the_faults_are_the_options():
    assert BACKEND.option_values["fault"] == FAULTS
    assert FAULTS[0] == "none"


def test_it_is_on_the_cpu_alone():
    assert isinstance(BACKEND.availability("cpu"), Available)
    assert isinstance(BACKEND.availability("cuda"), Unavailable)
    assert not BACKEND.supports("int8", "cpu").supported
