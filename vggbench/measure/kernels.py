"""One large matrix product, one fat 3x3 convolution and one large copy, through each library.

Runs in a worker. Imports a library inside the function that needs it; a product's operands are random, since zeros
and ones draw less power. Sizes are such that a repetition takes milliseconds on a fast device and well under a second
on two slow cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggbench.measure.product_models import int8_model, product_model

GEMM_SIDE = 2048  # 17 GFLOPs
CHANNELS, SIDE = 256, 56  # those of VGG's third block at 224 pixels: 3.7 GFLOPs
# What there is a product for; a ceiling of another precision is not measured.
PRECISIONS = {
    "torch": ("fp32", "bf16", "fp16"),
    "onnxruntime": ("fp32", "int8"),
    "openvino": ("fp32", "fp16", "bf16", "int8"),
}
COPY_BYTES = 512 << 20  # several times the largest caches
WARM_UP = 2  # repetitions: the first one allocates and chooses kernels, the second sees warm caches
LEAST_REPETITIONS = 5

Run = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Kernel:
    """Something to repeat: the call, which returns its product, and its work: FLOPs, or bytes read and written."""

    run: Run
    work: float


def make_kernel(library: str, kernel: str, precision: str, device: str, threads: int) -> Kernel:
    """Return a kernel of a library; raises what the library raises, `ValueError` for one that nobody knows."""
    if device != "cpu":
        from vggbench.measure.gpu_kernels import gpu_kernel

        return Kernel(*gpu_kernel(kernel, precision, device))
    if kernel == "copy":
        return _copy(threads)
    makers = {"torch": _torch_kernel, "onnxruntime": _onnxruntime_kernel, "openvino": _openvino_kernel}
    if library not in makers or kernel not in {"gemm", "convolution"}:
        raise ValueError(f"there is no {kernel} through {library}")
    flops = 2.0 * GEMM_SIDE**3 if kernel == "gemm" else 2.0 * CHANNELS**2 * 9 * SIDE**2
    return Kernel(makers[library](kernel, precision, threads), flops)


def repeat(kernel: Kernel, seconds: float) -> list[int]:
    """Return the nanoseconds of each repetition after the warm-up, until `seconds` are over and some are made."""
    for _ in range(WARM_UP):
        kernel.run()
    samples: list[int] = []
    deadline = time.perf_counter() + seconds
    while len(samples) < LEAST_REPETITIONS or time.perf_counter() < deadline:
        start = time.perf_counter_ns()
        kernel.run()
        samples.append(time.perf_counter_ns() - start)
    return samples


def _operands(kernel: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return data and weights."""
    random = np.random.default_rng(0)
    shapes = {
        "gemm": ((GEMM_SIDE, GEMM_SIDE), (GEMM_SIDE, GEMM_SIDE)),
        "convolution": ((1, CHANNELS, SIDE, SIDE), (CHANNELS, CHANNELS, 3, 3)),
    }[kernel]
    data, weights = (random.standard_normal(shape, dtype=np.float32) for shape in shapes)
    return data, weights


def _torch_kernel(kernel: str, precision: str, threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    data, weights = (torch.from_numpy(operand).to(dtype) for operand in _operands(kernel))
    product = torch.matmul if kernel == "gemm" else _torch_convolution

    def run() -> Any:
        with torch.inference_mode():
            return product(data, weights)

    return run


def _torch_convolution(data: Any, weights: Any) -> Any:
    from torch.nn import functional

    return functional.conv2d(data, weights, padding=1)


def _onnxruntime_kernel(kernel: str, precision: str, threads: int) -> Run:
    import onnxruntime

    content, data = _model_and_data(kernel, precision)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"data": data})[0]


def _model_and_data(kernel: str, precision: str) -> tuple[bytes, NDArray[Any]]:
    make = int8_model if precision == "int8" else product_model
    return make(kernel, *_operands(kernel))


def _openvino_kernel(kernel: str, precision: str, threads: int) -> Run:
    import openvino

    content, data = _model_and_data(kernel, precision)
    settings = {
        # In int8 the model's own types say what its product is computed in.
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(content), "CPU", settings)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(data))  # a copy: shared memory is not kept alive by it

    def run() -> Any:
        return request.infer()[0]

    return run


def _copy(threads: int) -> Kernel:
    """Copy by as many threads as asked, each its own part: numpy lets go of the interpreter while it copies."""
    count = COPY_BYTES // 8 // threads
    pairs = [(np.full(count, float(number)), np.zeros(count)) for number in range(1, threads + 1)]
    pool = ThreadPoolExecutor(threads)

    def run() -> Any:
        list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs))
        return pairs

    return Kernel(run, 2.0 * 8 * count * threads)
