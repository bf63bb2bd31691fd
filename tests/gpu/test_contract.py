"""What every backend must do, on a GPU: the same tests as on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.conftest import Opener, make_opener
from tests.contract.test_backends import (  # noqa: F401 - they are collected here, and get the opener below
    test_a_closed_session_may_be_closed_again,
    test_a_fetched_output_stays_when_the_slot_is_used_again,
    test_a_request_may_be_repeated_on_one_staged_input,
    test_any_batch_size_runs_as_itself,
    test_channels_last_computes_the_same_and_says_so,
    test_evidence_is_plain_data,
    test_evidence_proves_the_request,
    test_outputs_agree_with_the_reference,
    test_slots_served_by_threads_of_their_own_do_not_mix,
    test_specs_say_what_goes_in_and_comes_out,
    test_the_callers_batch_is_not_changed,
    test_threads_are_the_total_over_the_slots,
)
from vggbench.backends.registry import REAL_BACKENDS, runs_on

VARIATIONS = ("torch:cuda_graph=on", "torch:cudnn_benchmark=on", "onnxruntime:prefer_nhwc=1")
CASES = [
    pytest.param((text, precision), id=f"{text}-{precision}")
    for text in (*(name for name in REAL_BACKENDS if runs_on(name, "cuda")), *VARIATIONS)
    for precision in ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")
]


@pytest.fixture(params=CASES)
def opener(request: pytest.FixtureRequest, gpu: str, exports: Path) -> Opener:
    return make_opener(*request.param, exports, gpu)
