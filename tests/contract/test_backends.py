"""What every backend must do: one that passes this can be measured."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from tests.contract.conftest import THREADS, Opener
from tests.fakes import fake_cell
from vggbench.backends.base import Unavailable
from vggbench.backends.registry import BACKENDS, find_backend
from vggbench.measure.profiling import profile_requests
from vggbench.measure.validity import judge_evidence, precision_shares
from vggbench.models.layers import mac_layers
from vggbench.parity.check import check
from vggbench.results.layers import layer_names


def infer(session, slot, batch):
    session.stage(slot, batch)
    session.enqueue(slot)
    session.wait(slot)
    return session.fetch(slot)


def test_outputs_agree_with_the_reference(opener: Opener):
    inputs = opener.inputs
    with opener() as session:
        outputs = np.concatenate([infer(session, 0, inputs[start : start + 2]) for start in range(0, 8, 2)])
    verdict = check(outputs, opener.logits, opener.found.tolerance)
    assert verdict.passed, verdict.reasons


def test_specs_say_what_goes_in_and_comes_out(opener: Opener):
    inputs = opener.inputs
    with opener() as session:
        assert session.input_spec.shape == inputs[:2].shape
        output = infer(session, 0, inputs[:2])
        assert output.shape == session.output_spec.shape == (2, 10)
        assert output.dtype == np.float32


def test_evidence_proves_the_request(opener: Opener):
    with opener() as session:
        session.stage(0, opener.inputs[:2])
        session.enqueue(0)
        session.wait(0)
        evidence = session.evidence()
    found = judge_evidence(
        evidence, precision=opener.precision, device=opener.device, batch_size=2, threads=THREADS, macs=opener.macs
    )
    assert found == []
    assert next(iter(precision_shares(evidence))) == opener.precision
    assert sum(layer.macs for layer in evidence.layers) >= 2 * opener.macs


def test_a_fetched_output_stays_when_the_slot_is_used_again(opener: Opener):
    inputs = opener.inputs
    with opener() as session:
        first = infer(session, 0, inputs[:2])
        kept = first.copy()
        second = infer(session, 0, inputs[2:4])
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)


def test_a_request_may_be_repeated_on_one_staged_input(opener: Opener):
    with opener() as session:
        first = infer(session, 0, opener.inputs[:2])
        session.enqueue(0)
        session.wait(0)
        assert np.allclose(session.fetch(0), first, rtol=1e-6, atol=1e-6)  # threads may sum in another order


def test_the_callers_batch_is_not_changed(opener: Opener):
    batch = opener.inputs[:2].copy()
    kept = batch.copy()
    with opener() as session:
        infer(session, 0, batch)
    assert np.array_equal(batch, kept)


def test_slots_served_by_threads_of_their_own_do_not_mix(opener: Opener):
    inputs, logits = opener.inputs, opener.logits

    with opener(in_flight=2) as session:
        assert session.slots == 2

        def serve(slot):
            batch = np.ascontiguousarray(inputs[2 * slot : 2 * slot + 2])
            return [infer(session, slot, batch) for _ in range(5)]

        with ThreadPoolExecutor(2) as pool:
            outputs = list(pool.map(serve, range(2)))
    for slot, repeated in enumerate(outputs):
        images = np.array([2 * slot, 2 * slot + 1])
        for output in repeated:
            verdict = check(output, logits, opener.found.tolerance, images)
            assert verdict.passed, (slot, verdict.reasons)


def test_threads_are_the_total_over_the_slots(opener: Opener):
    with opener(in_flight=2) as session:
        session.stage(0, opener.inputs[:2])
        assert session.evidence().threads == THREADS


@pytest.mark.parametrize("batch_size", [1, 5])
def test_any_batch_size_runs_as_itself(opener: Opener, batch_size: int):
    inputs = opener.inputs
    with opener(batch_size=batch_size) as session:
        output = infer(session, 0, np.ascontiguousarray(inputs[:batch_size]))
        evidence = session.evidence()
    assert output.shape[0] == batch_size == evidence.batch_size


def test_a_closed_session_may_be_closed_again(opener: Opener):
    session = opener()
    session.close()
    session.close()


@pytest.mark.parametrize("name", BACKENDS)
def test_unknown_devices_and_precisions_are_refused_with_a_reason(name: str):
    backend = find_backend(name)
    state = backend.availability("tpu")
    assert isinstance(state, Unavailable)
    assert "tpu" in state.reason
    assert state.remedy
    if name != "null":
        support = backend.supports("fp4", "cpu")
        assert not support.supported
        assert "fp4" in support.reason


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_knows_its_name_and_what_it_opens(name: str):
    backend = find_backend(name)
    assert backend.name == name
    assert backend.artefact_kind in {"weights", "onnx", "script"}


def test_channels_last_computes_the_same_and_says_so(opener: Opener):
    if "memory_format" not in find_backend(opener.backend).option_values:
        pytest.skip(f"{opener.backend} has no memory format")
    with opener(memory_format="channels_last") as session:
        output = infer(session, 0, opener.inputs[:2])
        assert session.evidence().flags["memory_format"] == "channels_last"
    assert check(output, opener.logits, opener.found.tolerance, np.array([0, 1])).passed


def test_evidence_is_plain_data(opener: Opener):
    with opener() as session:
        session.stage(0, opener.inputs[:2])
        evidence = session.evidence()
    assert pickle.loads(pickle.dumps(evidence)) == evidence


def test_a_profile_has_every_layer_of_the_network_within_its_requests(opener: Opener):
    cell = replace(fake_cell(spec=opener.spec, precision=opener.precision), batch_size=2)
    with opener() as session:
        infer(session, 0, opener.inputs[:2])
        session.evidence()
        session.start_profiling()
        output = infer(session, 0, opener.inputs[2:4])
        assert check(output, opener.logits, opener.found.tolerance, np.array([2, 3])).passed
        profile = profile_requests(session, [opener.inputs[:2]], 5)
    layers = [layer.name for layer in mac_layers(opener.spec)]
    assert [name for name in layer_names(profile.layers, cell) if name] == layers
    assert len(profile.samples_ns) == 5
    inside = sum(sum(time.samples_ns) for time in profile.layers)
    # The profilers count whole microseconds.
    assert 0 < inside <= sum(profile.samples_ns) * 1.02 + 5 * 2000 * len(profile.layers)
