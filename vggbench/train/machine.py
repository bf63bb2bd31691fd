"""What a training runs on: device, threads, repeatable arithmetic. Imports torch inside its functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vggbench.environment.cpu import default_threads
from vggbench.errors import RequestError, TrainingError

DEVICES = ("cpu", "cuda")
# How torch says that memory ran out, of a GPU and of a CPU: its own error has a page.
OUT_OF_MEMORY = ("out of memory", "allocate memory")


def find_device(asked: str | None) -> str:
    """Return the device asked for, or a GPU where there is one; `RequestError` where it is not there."""
    import torch

    if asked is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if asked not in DEVICES:
        raise RequestError(f"device is {asked!r}; it can be {' or '.join(DEVICES)}")
    if asked == "cuda" and not torch.cuda.is_available():
        raise RequestError("device cuda: torch finds no GPU here; train with --device cpu")
    return asked


def check_precision(precision: str, device: str) -> None:
    """Raise `RequestError` for what a device does not train in."""
    if precision == "fp16" and device == "cpu":
        raise RequestError("precision fp16 is trained on a GPU only; a CPU takes bf16 or fp32")


def find_threads(asked: int | None) -> int:
    """Return torch's threads: those asked for, or the physical cores that this process may use."""
    if asked is not None and asked < 1:
        raise RequestError(f"threads is {asked}; it must be at least 1")
    return asked or default_threads()


def torch_version() -> str:
    """Return it."""
    import torch

    return str(torch.__version__)


@contextmanager
def torch_set_up(device: str, wanted_threads: int) -> Iterator[None]:
    """Set threads, strict fp32 and repeatable kernels for a training, and everything back as it was."""
    import torch

    threads = torch.get_num_threads()
    devices = [torch.cuda.current_device()] if device == "cuda" else []
    torch.set_num_threads(wanted_threads)
    try:
        with torch.random.fork_rng(devices), _strict_gpu(device):
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _strict_gpu(device: str) -> Iterator[None]:
    """fp32 without TF32, and kernels of cuDNN that give the same sums every time."""
    if device != "cuda":
        yield
        return
    import torch

    backends: Any = torch.backends  # torch's stubs do not know cuDNN's `conv`
    cuda, cudnn = backends.cuda, backends.cudnn
    before = cuda.matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.deterministic, cudnn.benchmark
    cuda.matmul.fp32_precision = cudnn.conv.fp32_precision = "ieee"
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cuda.matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.deterministic, cudnn.benchmark = before


@contextmanager
def memory_errors(batch_size: int) -> Iterator[None]:
    """Say in one line that memory ran out."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        raise TrainingError(
            f"memory ran out with batches of {batch_size} images; train with a smaller --batch-size"
        ) from None
