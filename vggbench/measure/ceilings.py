"""Measures the machine's own ceilings: every kernel through every library that is here, each library in a worker.

The standard library and numpy; the libraries are in the workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from vggbench.measure.client import WorkerClient, WorkerFailure
from vggbench.measure.gpu_kernels import PRECISIONS as GPU_PRECISIONS
from vggbench.measure.kernels import PRECISIONS as KERNEL_PRECISIONS
from vggbench.measure.roofline import BANDWIDTH, COMPUTE, Ceiling
from vggbench.stats import median

LIBRARIES = ("torch", "onnxruntime", "openvino")
PRODUCTS = ("gemm", "convolution")
SECONDS = 0.5  # a kernel: the whole then takes under 20 s for fp32 and bf16 on two cores


def measure_ceilings(
    *, device: str, threads: int, precisions: Sequence[str], seconds: float = SECONDS
) -> list[Ceiling]:
    """Return every ceiling that could be measured; a library that is missing, or lacks a precision, has none."""
    products = [{"kernel": kernel, "precision": precision} for precision in precisions for kernel in PRODUCTS]
    copier, libraries = ("numpy", LIBRARIES) if device == "cpu" else ("torch", ("torch",))
    copied = _asked(copier, [{"kernel": "copy", "precision": ""}], device, threads, seconds)
    multiplied = [ceiling for library in libraries for ceiling in _asked(library, products, device, threads, seconds)]
    return [*copied, *multiplied]


def _asked(
    library: str, kernels: Sequence[dict[str, str]], device: str, threads: int, seconds: float
) -> Iterator[Ceiling]:
    """Ask one worker for all kernels of a library; what fails is left out, since ceilings are beside the point."""
    try:
        with WorkerClient() as worker:
            native = _native(worker, library, device, [kernel["precision"] for kernel in kernels])
            for kernel in kernels:
                if kernel["kernel"] == "copy" or kernel["precision"] in native:
                    found = worker.call(
                        "ceiling", library=library, device=device, threads=threads, seconds=seconds, **kernel
                    )
                    yield _ceiling(library, kernel, found)
    except WorkerFailure:
        return


def _native(worker: WorkerClient, library: str, device: str, precisions: Sequence[str]) -> set[str]:
    if library not in LIBRARIES:
        return set(precisions)
    products = KERNEL_PRECISIONS.get(library, precisions) if device == "cpu" else GPU_PRECISIONS
    known = sorted({*precisions} & {*products})
    found = worker.call("probe", backend=library, device=device, precisions=known)
    return {precision for precision, reason in found["precisions"].items() if not reason}


def _ceiling(library: str, kernel: dict[str, str], found: dict[str, Any]) -> Ceiling:
    rates = sorted(found["work"] * 1e9 / sample for sample in found["samples_ns"])
    return Ceiling(
        quantity=BANDWIDTH if kernel["kernel"] == "copy" else COMPUTE,
        precision=kernel["precision"],
        library=library,
        kernel=kernel["kernel"],
        rate=median(rates),
        low=rates[0],
        high=rates[-1],
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
