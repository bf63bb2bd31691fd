"""The kernels compute what their work is counted for, in every library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests import cuda_stand_in
from tests.fakes import InlineWorker
from vggbench.backends import torch_precision
from vggbench.backends.base import Unavailable
from vggbench.backends.registry import find_backend
from vggbench.measure import ceilings, gpu_kernels, kernels
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


def test_a_gpus_kernels_are_the_same_products_at_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the stand-in of torch's CUDA calls, which computes on the CPU."""
    torch = pytest.importorskip("torch")
    machine = cuda_stand_in.install(monkeypatch)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: machine.make_stream())
    for name, value in {"GEMM_SIDE": 16, "IMAGES": 2, "CHANNELS": 4, "SIDE": 6, "COPY_BYTES": 1 << 12}.items():
        monkeypatch.setattr(gpu_kernels, name, value)
    found = {kernel: make_kernel("torch", kernel, "fp32", "cuda:1", 1) for kernel in ("gemm", "convolution", "copy")}
    assert {kernel: tuple(made.run().shape) for kernel, made in found.items()} == {
        "gemm": (16, 16),
        "convolution": (2, 4, 6, 6),
        "copy": (1 << 10,),
    }
    works = {kernel: made.work for kernel, made in found.items()}
    assert works == {"gemm": 2 * 16**3, "convolution": 2 * 2 * 4 * 4 * 9 * 36, "copy": 2 << 12}
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    make_kernel("torch", "gemm", "tf32", "cuda", 1)
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    torch_precision.set_switches("fp32")


def test_a_gpus_ceilings_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, str, str]] = []

    class Worker(InlineWorker):
        def call(self, command: str, **arguments: Any) -> dict[str, Any]:
            if command == "probe":
                return {"precisions": dict.fromkeys(arguments["precisions"], "")}
            asked.append(tuple(arguments[name] for name in ("library", "kernel", "precision", "device")))
            return {"work": 1.0, "samples_ns": [1, 2, 3]}

    monkeypatch.setattr(ceilings, "WorkerClient", Worker)
    ceilings.measure_ceilings(device="cuda", threads=1, precisions=["int8", "tf32"])
    assert sorted(asked) == sorted(
        [
            ("torch", "copy", "", "cuda"),
            ("torch", "gemm", "tf32", "cuda"),
            ("torch", "convolution", "tf32", "cuda"),
        ]
    )
