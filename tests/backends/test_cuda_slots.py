"""The slots on the stand-in of torch's CUDA calls; a GPU gets the same questions in tests/gpu."""

from __future__ import annotations

import numpy as np
import pytest

from tests import cuda_stand_in
from tests.cuda_stand_in import CudaStandIn
from vggbench.backends.cuda_slots import END, START, CudaSlots

INPUT, OUTPUT = (2, 3, 4, 4), (2, 5)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> CudaStandIn:
    return cuda_stand_in.install(monkeypatch, scripted=True)


def batch(value: float) -> np.ndarray:
    return np.full(INPUT, value, dtype=np.float32)


def test_every_slot_has_a_stream_and_tensors_of_its_own(machine: CudaStandIn):
    slots = CudaSlots("cuda:1", 3, INPUT, OUTPUT)
    assert len(slots) == 3
    assert [slots.stream(slot) for slot in range(3)] == machine.streams
    assert len({slots.input(slot).data_ptr() for slot in range(3)}) == 3
    assert (tuple(slots.input(0).shape), tuple(slots.output(0).shape)) == (INPUT, OUTPUT)


def test_what_is_staged_arrives_and_what_was_made_is_fetched(machine: CudaStandIn):
    slots = CudaSlots("cuda", 2, INPUT, OUTPUT)
    addresses = [slots.input(slot).data_ptr() for slot in range(2)]
    given = [batch(1), slots.pin([batch(2)])[0]]
    for slot, values in enumerate(given):
        slots.stage(slot, values)
        slots.wait(slot)
        slots.output(slot).fill_(10 * slot)
        assert np.array_equal(slots.input(slot).numpy(), values)
    assert addresses == [slots.input(slot).data_ptr() for slot in range(2)]  # engines are bound to them
    assert [slots.fetch(slot)[0, 0] for slot in range(2)] == [0, 10]


def test_a_fetched_output_is_a_copy(machine: CudaStandIn):
    slots = CudaSlots("cuda", 1, INPUT, OUTPUT)
    first = slots.fetch(0)
    slots.output(0).fill_(7)
    assert (first[0, 0], slots.fetch(0)[0, 0]) == (0, 7)


def test_a_library_may_put_its_own_output_in_place(machine: CudaStandIn):
    import torch

    slots = CudaSlots("cuda", 1, INPUT, OUTPUT)
    slots.put_output(0, torch.full(OUTPUT, 3.0))
    assert slots.fetch(0)[1, 4] == 3


def test_pinned_batches_go_without_a_detour(machine: CudaStandIn):
    slots = CudaSlots("cuda", 1, INPUT, OUTPUT)
    original = batch(1)
    (pinned,) = slots.pin([original])
    original[:] = 9
    assert pinned[0, 0, 0, 0] == 1
    slots.stage(0, pinned)
    assert slots._slots[0].buffer is None
    slots.stage(0, original)
    assert slots._slots[0].buffer is not None


def test_the_buffer_is_not_filled_before_the_batch_before_has_left_it(machine: CudaStandIn):
    slots = CudaSlots("cuda", 1, INPUT, OUTPUT)
    slots.stage(0, batch(1))
    machine.streams[0].work(50)
    before = machine.host.now_ns()
    slots.stage(0, batch(2))
    assert machine.host.now_ns() == before + 50


def test_events_behind_a_backlog_span_the_work_alone(machine: CudaStandIn):
    slots = CudaSlots("cuda", 1, INPUT, OUTPUT)
    slots.hold_back(0, 1000)
    slots.record(0, START)
    machine.host.pass_ns(300)  # the host is slow to enqueue it
    machine.streams[0].work(40)
    slots.record(0, END)
    assert not slots.has_begun(0)
    slots.wait(0)
    assert slots.has_begun(0)
    assert slots.elapsed_ns(0) == 40
    assert machine.backlogs_ns == [1000]


def test_without_a_backlog_the_device_waits_for_the_host(machine: CudaStandIn):
    slots = CudaSlots("cuda", 1, INPUT, OUTPUT)
    slots.record(0, START)
    assert slots.has_begun(0)
    machine.host.pass_ns(300)
    machine.streams[0].work(40)
    slots.record(0, END)
    slots.wait(0)
    assert slots.elapsed_ns(0) == 340


def test_what_waits_for_the_device_by_itself_is_found_out(machine: CudaStandIn):
    slots = CudaSlots("cuda", 1, INPUT, OUTPUT)
    assert slots.runs_ahead(0, lambda slot: machine.streams[slot].work(40))
    assert not slots.runs_ahead(0, lambda slot: machine.streams[slot].synchronize())


def test_closing_waits_for_what_is_under_way(machine: CudaStandIn):
    slots = CudaSlots("cuda", 1, INPUT, OUTPUT)
    machine.streams[0].work(70)
    slots.close()
    assert machine.host.now_ns() == 70
    slots.close()
