"""The search itself, on chains that are made up: exact wherever the fault lies, and whatever later layers do to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.parity.test_metrics import noise, reference
from vggbench.parity.bisect import Expected, first_departure
from vggbench.parity.tolerance import LARGEST, tolerance


class Chain:
    """So many layers, of which some have an error of their own and some prefixes pass; counts what is run."""

    def __init__(self, count: int, passing: set[int], departing: set[int]) -> None:
        self.count, self.passing, self.departing = count, passing, departing
        self.run: set[int] = set()

    def search(self) -> int | None:
        return first_departure(self.count, self._passes, self._departs)

    def _passes(self, depth: int) -> bool:
        assert 1 <= depth <= self.count
        self.run.add(depth)
        return depth in self.passing

    def _departs(self, depth: int) -> bool:
        self.run |= {depth, depth - 1} - {0}
        return depth in self.departing


@given(st.integers(1, 200), st.data())
def test_one_fault_that_stays_visible_is_found_in_log_n_builds(count: int, data: st.DataObject) -> None:
    fault = data.draw(st.integers(1, count))
    chain = Chain(count, set(range(1, fault)), {fault})
    assert chain.search() == fault
    assert len(chain.run) <= math.ceil(math.log2(count)) + 1


@given(st.integers(1, 60), st.data())
def test_a_fault_that_later_layers_damp_is_still_found_exactly(count: int, data: st.DataObject) -> None:
    """Any of the prefixes behind it may pass; the whole fails."""
    fault = data.draw(st.integers(1, count))
    damped = data.draw(st.sets(st.integers(fault, count))) - {count}
    assert Chain(count, set(range(1, fault)) | damped, {fault}).search() == fault


@given(st.integers(2, 60), st.data())
def test_of_several_faults_in_the_open_the_first_is_found(count: int, data: st.DataObject) -> None:
    faults = data.draw(st.sets(st.integers(1, count), min_size=1))
    assert Chain(count, set(range(1, min(faults))), faults).search() == min(faults)


def test_an_error_that_no_layer_has_alone_is_nobodys() -> None:
    assert Chain(8, {1, 2, 3, 4, 5}, set()).search() is None


def test_what_passes_when_it_is_cut_behind_its_last_layer_is_asked_nothing_more() -> None:
    chain = Chain(8, set(range(1, 9)), {3})
    assert chain.search() is None
    assert chain.run == {4, 6, 7, 8}


def test_tolerance_of_a_prefix_is_that_of_a_network_that_ends_there() -> None:
    outputs = reference(common=30.0)
    part = Expected(outputs, (10,), [27, 72], [2.0, 3.0])
    whole = np.linalg.norm(outputs) / math.sqrt(8) / np.sqrt(((outputs - outputs.mean(axis=0)) ** 2).sum() / 7)
    assert whole > 3
    assert part.tolerance("fp32") == pytest.approx(tolerance("fp32", [27, 72], [2.0, whole]))
    assert part.own_tolerance("fp32") == pytest.approx(tolerance("fp32", [72, 72], [whole, whole]))
    assert Expected(outputs, (10,), [], []).tolerance("bf16") == pytest.approx(tolerance("bf16", [1], whole))


def test_own_error_is_of_the_signal_and_of_what_was_handed() -> None:
    outputs = reference()
    part = Expected(outputs, (10,), [27], [2.0])
    continued = outputs + noise((8, 10))
    assert part.own_error(continued.astype(np.float32), continued) < 1e-6
    spread = math.sqrt(((outputs - outputs.mean(axis=0)) ** 2).sum() / 7)
    assert part.own_error(continued, outputs) == pytest.approx(np.linalg.norm(noise((8, 10))) / math.sqrt(8) / spread)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_own_error_of_what_is_no_number_is_beyond_every_tolerance(bad: float) -> None:
    outputs = reference()
    observed = outputs.copy()
    observed[0, 0] = bad
    assert Expected(outputs, (10,), [27], [2.0]).own_error(observed, outputs) == math.inf > LARGEST
