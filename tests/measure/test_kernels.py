"""The kernels compute what their work is counted for, in every library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.fakes import InlineWorker
from vggbench.backends.base import Unavailable
from vggbench.backends.registry import find_backend
from vggbench.measure import ceilings, kernels
from vggbench.measure.kernels import Kernel, make_kernel, repeat
from vggbench.measure.product_models import DATA_SCALE, DATA_ZERO, WEIGHT_SCALE, in_eight_bits

TINY = {"GEMM_SIDE": 16, "CHANNELS": 4, "SIDE": 6, "COPY_BYTES": 1 << 12}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TINY.items():
        monkeypatch.setattr(kernels, name, value)


def expected(kernel: str) -> Any:
    data, weights = kernels._operands(kernel)
    if kernel == "gemm":
        return data @ weights
    padded = np.pad(data[0], ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.einsum("cyxij,ocij->oyx", windows, weights)[None]


@pytest.mark.parametrize("kernel", ["gemm", "convolution"])
@pytest.mark.parametrize("library", ceilings.LIBRARIES)
def test_a_product_is_the_product(tiny: None, library: str, kernel: str) -> None:
    state = find_backend(library).availability("cpu")
    if isinstance(state, Unavailable):
        pytest.skip(state.reason)
    made = make_kernel(library, kernel, "fp32", "cpu", 1)
    np.testing.assert_allclose(np.asarray(made.run()), expected(kernel), rtol=1e-4, atol=1e-4)
    assert made.work == {"gemm": 2 * 16**3, "convolution": 2 * 4 * 4 * 9 * 36}[kernel]


@pytest.mark.parametrize("kernel", ["gemm", "convolution"])
@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
def test_a_product_in_eight_bits(tiny: None, monkeypatch: pytest.MonkeyPatch, library: str, kernel: str) -> None:
    """Sums of 8-bit products are exact, so that the result is off by one rounding, of half a step."""
    eight, kept, step = in_eight_bits(*kernels._operands(kernel))
    wide = (eight.astype(np.float32) - DATA_ZERO) * DATA_SCALE, kept.astype(np.float32) * WEIGHT_SCALE
    made = make_kernel(library, kernel, "int8", "cpu", 1)
    found = (np.asarray(made.run()).astype(np.float32) - DATA_ZERO) * step
    monkeypatch.setattr(kernels, "_operands", lambda _kernel: wide)
    exact = np.clip(expected(kernel), -128 * step, 127 * step)
    np.testing.assert_allclose(found, exact, atol=0.501 * step, rtol=0)
    assert len(np.unique(found)) > 20


@pytest.mark.parametrize("threads", [1, 2])
def test_a_copy_copies_all_that_it_counts(tiny: None, threads: int) -> None:
    made = make_kernel("numpy", "copy", "", "cpu", threads)
    pairs = made.run()
    assert all(np.array_equal(source, target) and target.any() for source, target in pairs)
    assert made.work == 2 * sum(source.nbytes for source, _target in pairs) == 2 * TINY["COPY_BYTES"]


@pytest.mark.parametrize(("library", "kernel"), [("abacus", "gemm"), ("torch", "sort")])
def test_a_kernel_that_nobody_knows(library: str, kernel: str) -> None:
    with pytest.raises(ValueError, match=f"there is no {kernel} through {library}"):
        make_kernel(library, kernel, "fp32", "cpu", 1)


def test_the_warm_up_is_not_counted() -> None:
    calls: list[int] = []
    samples = repeat(Kernel(lambda: calls.append(1), 1.0), seconds=0)
    assert len(samples) == kernels.LEAST_REPETITIONS
    assert len(calls) == kernels.LEAST_REPETITIONS + kernels.WARM_UP


def test_every_library_gives_the_ceilings_of_what_it_does_natively(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "WorkerClient", InlineWorker)
    found = ceilings.measure_ceilings(device="cpu", threads=1, precisions=["fp32", "bf16"], seconds=0)
    assert [ceiling.kernel for ceiling in found if ceiling.quantity == "bandwidth"] == ["copy"]
    native = {(ceiling.library, ceiling.precision) for ceiling in found if ceiling.quantity == "compute"}
    assert ("torch", "fp32") in native
    assert ("onnxruntime", "bf16") not in native
    assert all(0 < ceiling.low <= ceiling.rate <= ceiling.high for ceiling in found)


def test_a_library_that_is_missing_has_none_and_the_others_have(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "WorkerClient", InlineWorker)
    monkeypatch.setattr(ceilings, "LIBRARIES", ("torch", "abacus"))
    found = ceilings.measure_ceilings(device="cpu", threads=1, precisions=["fp32"], seconds=0)
    assert {ceiling.library for ceiling in found} == {"numpy", "torch"}
