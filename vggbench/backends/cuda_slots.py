"""The slots of a session on a CUDA device: for each a stream, fp32 tensors there, and pinned memory of the host.

Whatever computes - PyTorch, ONNX Runtime, TensorRT - reads a slot's input, writes its output and works on its stream:
so there is one way in, one way out, and one timeline that events are recorded on. Imports torch inside its functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

START, END = 0, 1  # the two events of a slot
# GPUs' multiprocessors are clocked at 1 to 2.6 GHz: a backlog may be a quarter shorter than asked, and is looked at.
_CYCLES_PER_NS = 2
_PROBE_NS = 100_000_000  # far longer than a host takes to enqueue any network that has run once


@dataclass(slots=True)
class _Slot:
    """What belongs to one slot.

    Attributes:
        buffer: pinned memory that a batch is copied to which is not in such memory; made when the first one comes.
        source: what the input is being copied from: it must stay until that is over.
        answer: pinned memory that the output is copied to.
        events: at which the stream was at `START` and at `END`.
    """

    stream: torch.cuda.Stream
    input: torch.Tensor
    output: torch.Tensor
    answer: torch.Tensor
    events: tuple[Any, Any]
    buffer: torch.Tensor | None = None
    source: torch.Tensor | None = None


class CudaSlots:
    """The slots of one session; each is served by one thread at a time, several slots by several threads.

    Shapes are those of a whole batch: `(N, 3, S, S)` in, `(N, classes)` out. Raises what torch raises, above all
    `torch.OutOfMemoryError`.
    """

    def __init__(self, device: str, slots: int, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> None:
        """Take the memory of every slot on `cuda` or `cuda:N`."""
        self.device = torch_device(device)
        self._input_shape = input_shape
        self._pinned: set[int] = set()
        reset_peak(self.device)
        self._slots = [self._make_slot(input_shape, output_shape) for _ in range(slots)]

    def _make_slot(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> _Slot:
        import torch

        cuda: Any = torch.cuda  # its stubs have no types
        stream = cuda.Stream(self.device)
        with torch.cuda.stream(stream):
            # Zeros: evidence may run a request before anything was staged.
            given = torch.zeros(input_shape, dtype=torch.float32, device=self.device)
            made = torch.zeros(output_shape, dtype=torch.float32, device=self.device)
            events = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        stream.synchronize()
        return _Slot(stream, given, made, pinned_tensor(output_shape), events)

    def __len__(self) -> int:
        return len(self._slots)

    def stream(self, slot: int) -> torch.cuda.Stream:
        """Return the stream that the slot's requests are enqueued on; its `cuda_stream` is the handle."""
        return self._slots[slot].stream

    def input(self, slot: int) -> torch.Tensor:
        """Return the tensor that `stage` fills: contiguous, at the same address for as long as the session lives."""
        return self._slots[slot].input

    def output(self, slot: int) -> torch.Tensor:
        """Return the tensor that `fetch` reads."""
        return self._slots[slot].output

    def put_output(self, slot: int, logits: torch.Tensor) -> None:
        """Let `fetch` read another tensor of the output's shape, of a library that allocates what it returns."""
        self._slots[slot].output = logits

    def pin(self, batches: Iterable[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Return copies of batches in pinned memory, which `stage` copies to the device without a detour."""
        import torch

        tensors = [pinned_tensor(batch.shape).copy_(torch.from_numpy(batch)) for batch in batches]
        self._pinned |= {tensor.data_ptr() for tensor in tensors}
        return [tensor.numpy() for tensor in tensors]

    def stage(self, slot: int, batch: NDArray[np.float32]) -> None:
        """Start copying a batch to the slot's input; what follows on the stream finds it there."""
        import torch

        here = self._slots[slot]
        source = torch.from_numpy(batch)
        here.source = source if source.data_ptr() in self._pinned else self._buffered(here, source)
        with torch.cuda.stream(here.stream):
            here.input.copy_(here.source, non_blocking=True)

    def _buffered(self, here: _Slot, source: torch.Tensor) -> torch.Tensor:
        if here.buffer is None:
            here.buffer = pinned_tensor(self._input_shape)
        here.stream.synchronize()  # an earlier batch may still be on its way out of it
        return here.buffer.copy_(source)

    def wait(self, slot: int) -> None:
        """Block until all that was enqueued on the slot's stream is over; raises what a kernel raised."""
        self._slots[slot].stream.synchronize()

    def copy_out(self, slot: int) -> None:
        """Start copying the slot's output to pinned memory."""
        import torch

        here = self._slots[slot]
        with torch.cuda.stream(here.stream):
            here.answer.copy_(here.output, non_blocking=True)

    def fetch(self, slot: int) -> NDArray[np.float32]:
        """Return the slot's output `(N, classes)` as a copy on the host."""
        self.copy_out(slot)
        self.wait(slot)
        return np.array(self._slots[slot].answer.numpy())

    def hold_back(self, slot: int, nanoseconds: int) -> None:
        """Keep the slot's stream busy for about so long, so that what follows is enqueued before it begins."""
        import torch

        with torch.cuda.stream(self._slots[slot].stream):
            cuda: Any = torch.cuda
            cuda._sleep(nanoseconds * _CYCLES_PER_NS)

    def record(self, slot: int, mark: int) -> None:
        """Note, on the slot's stream, when it comes to `START` or `END`."""
        here = self._slots[slot]
        here.events[mark].record(here.stream)

    def has_begun(self, slot: int) -> bool:
        """Say whether the stream has come to `START`, which was recorded."""
        return bool(self._slots[slot].events[START].query())

    def elapsed_ns(self, slot: int) -> int:
        """Return the time from `START` to `END` on the device, after `wait`; a tick of CUDA's is half a microsecond."""
        start, end = self._slots[slot].events
        milliseconds: float = start.elapsed_time(end)
        return round(milliseconds * 1e6)

    def runs_ahead(self, slot: int, enqueue: Callable[[int], None]) -> bool:
        """Say whether `enqueue`, which has run before, returns while the device is still held back.

        What waits for the device by itself cannot be timed by events behind a backlog.
        """
        self.wait(slot)
        self.hold_back(slot, _PROBE_NS)
        self.record(slot, START)
        enqueue(slot)
        ahead = not self.has_begun(slot)
        self.wait(slot)
        return ahead

    def peak_allocated_bytes(self) -> int:
        """Return the most that torch's allocator had given out since the slots were made, what came before included."""
        import torch

        return int(torch.cuda.max_memory_allocated(self.device))

    def close(self) -> None:
        """Let go of all memory, once nothing works on it any more."""
        for here in self._slots:
            here.stream.synchronize()
        self._slots = []


def torch_device(device: str) -> torch.device:
    """Return torch's device of `cuda` or `cuda:N`, always with its index."""
    import torch

    found = torch.device(device)
    return torch.device(found.type, found.index or 0)


def reset_peak(device: torch.device) -> None:
    """Let torch's allocator forget what it has given out before, but for what is in use."""
    import torch

    torch.cuda.reset_peak_memory_stats(device)


def pinned_tensor(shape: tuple[int, ...]) -> torch.Tensor:
    """Return an fp32 tensor in memory of the host that a GPU copies from and to by itself."""
    import torch

    return torch.zeros(shape, dtype=torch.float32, pin_memory=True)
