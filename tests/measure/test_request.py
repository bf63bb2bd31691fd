from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import fake_cell, fake_request
from vggbench.measure.request import Timing


@given(st.floats(1e-6, 1e6))
def test_the_parts_of_a_round_take_its_time(seconds: float):
    timing = Timing.of_seconds(seconds)
    parts = timing.compute_block_s * timing.compute_blocks + timing.end_to_end_s + timing.throughput_s
    assert parts + timing.warmup_least_s == pytest.approx(seconds)
    assert timing.warmup_least_s < timing.warmup_most_s


@given(st.floats(1e-6, 1e6))
def test_the_longest_command_is_allowed_its_time(seconds: float):
    timing = Timing.of_seconds(seconds)
    parts = (timing.warmup_most_s, timing.compute_block_s, timing.end_to_end_s, timing.throughput_s)
    assert timing.longest_s >= max(parts)


def test_what_opens_a_session_crosses_as_json(fake_exports):
    opening = fake_request(fake_cell(), fake_exports).opening(3)
    assert opening["in_flight"] == 3
    assert json.loads(json.dumps(opening)) == opening
