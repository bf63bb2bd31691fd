"""Where a torch session's requests run: on the host, at once, or on the streams and tensors of a CUDA device.

A place holds each slot's input and output; what runs there is a callable of one batch. Imports torch inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from vggbench.backends.cuda_slots import CudaSlots

if TYPE_CHECKING:
    import torch

Run = Callable[["torch.Tensor"], tuple["torch.Tensor", ...]]
_WARM_UP = 3  # requests before one is captured: in the first, libraries choose kernels, load them and allocate


class Place(Protocol):
    """What a session needs of where it runs; `stage`, `wait` and `fetch` as a session has them."""

    timeline: str
    device_slots: CudaSlots | None
    # How many the session's threads are divided among: requests that compute on the host share them.
    shares: int

    def stage(self, slot: int, batch: NDArray[np.float32]) -> None:
        """Put the batch where requests of the slot read it."""
        ...

    def batch(self, slot: int) -> torch.Tensor | None:
        """Return what was staged; None if nothing was and there is no room for it yet."""
        ...

    @contextmanager
    def at(self, slot: int) -> Iterator[None]:
        """Run what torch is asked inside as the slot's requests are run."""
        ...

    def request(self, slot: int, run: Run) -> None:
        """Start a request; its first output is the slot's."""
        ...

    def wait(self, slot: int) -> None:
        """Block until the slot's request is over."""
        ...

    def fetch(self, slot: int) -> NDArray[np.float32]:
        """Return the slot's output as a copy."""
        ...

    def close(self) -> None:
        """Let go of the memory."""
        ...


class HostPlace:
    """The CPU: inputs are views of the caller's arrays, and a request is over when it returns."""

    timeline = "host"
    device_slots: CudaSlots | None = None

    def __init__(self, slots: int) -> None:
        self.shares = slots
        self._inputs: list[torch.Tensor | None] = [None] * slots
        self._outputs: list[torch.Tensor | None] = [None] * slots

    def stage(self, slot: int, batch: NDArray[np.float32]) -> None:
        """View the array as a tensor."""
        import torch

        self._inputs[slot] = torch.from_numpy(batch)

    def batch(self, slot: int) -> torch.Tensor | None:
        """Return the view."""
        return self._inputs[slot]

    @contextmanager
    def at(self, slot: int) -> Iterator[None]:  # noqa: ARG002 - all slots compute on the same cores
        """Record nothing for gradients."""
        import torch

        with torch.inference_mode():
            yield

    def request(self, slot: int, run: Run) -> None:
        """Run the forward pass to its end."""
        import torch

        staged = self._inputs[slot]
        assert staged is not None, "stage comes before enqueue"
        with torch.inference_mode():  # not `at`, which would add its own microsecond to what is timed
            self._outputs[slot] = run(staged)[0]

    def wait(self, slot: int) -> None:
        """Return at once: the forward pass is over."""

    def fetch(self, slot: int) -> NDArray[np.float32]:
        """Return the logits as a copy."""
        logits = self._outputs[slot]
        assert logits is not None, "enqueue comes before fetch"
        return np.array(logits.numpy(), dtype=np.float32)

    def close(self) -> None:
        """Keep what the caller still may fetch: it is the caller's memory."""


class CudaPlace:
    """A CUDA device: each slot has a stream and tensors of its own, and may have a graph that a request replays."""

    timeline = "cuda"
    shares = 1  # host threads only enqueue

    def __init__(self, device: str, slots: int, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> None:
        self.slots = CudaSlots(device, slots, input_shape, output_shape)
        self.device_slots: CudaSlots | None = self.slots
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def stage(self, slot: int, batch: NDArray[np.float32]) -> None:
        """Start the copy to the device."""
        self.slots.stage(slot, batch)

    def batch(self, slot: int) -> torch.Tensor | None:
        """Return the slot's input on the device."""
        return self.slots.input(slot)

    @contextmanager
    def at(self, slot: int) -> Iterator[None]:
        """Enqueue on the slot's stream."""
        import torch

        with torch.inference_mode(), torch.cuda.stream(self.slots.stream(slot)):
            yield

    def request(self, slot: int, run: Run) -> None:
        """Enqueue the forward pass, or replay the graph of it."""
        import torch

        with torch.inference_mode(), torch.cuda.stream(self.slots.stream(slot)):
            if slot in self._graphs:
                self._graphs[slot].replay()
            else:
                self.slots.put_output(slot, run(self.slots.input(slot))[0])

    def capture(self, run: Run) -> None:
        """Make a graph of a request of every slot; its output stays where the graph writes it."""
        import torch

        for slot in range(len(self.slots)):
            for _ in range(_WARM_UP):
                self.request(slot, run)
            self.wait(slot)
            graph, stream = torch.cuda.CUDAGraph(), self.slots.stream(slot)
            with torch.inference_mode(), torch.cuda.graph(graph, stream=stream):
                logits = run(self.slots.input(slot))[0]
            self.slots.put_output(slot, logits)
            self._graphs[slot] = graph

    def wait(self, slot: int) -> None:
        """Block until the stream is through."""
        self.slots.wait(slot)

    def fetch(self, slot: int) -> NDArray[np.float32]:
        """Return the logits as a copy on the host."""
        return self.slots.fetch(slot)

    def close(self) -> None:
        """Give the memory back to the device: the next session in this process is another cell's."""
        import torch

        self.slots.close()
        self._graphs = {}
        torch.cuda.empty_cache()
