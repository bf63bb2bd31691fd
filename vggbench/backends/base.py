"""What a backend is: the two Protocols, and the plain data that crosses them.

The standard library and numpy only: workers import this in environments of other people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.quantization import QUANTIZED_PRECISIONS, layout_of
from vggbench.models.network_file import network_from_json
from vggbench.models.spec import IMAGE_CHANNELS

if TYPE_CHECKING:
    from vggbench.backends.cuda_slots import CudaSlots

Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8", "fp8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")
# What is measured where none is named, as far as it is native; with the others the default plan would take too long.
_DEFAULT_PRECISIONS: Mapping[str, tuple[Precision, ...]] = {
    "cpu": ("fp32", "bf16", "int8"),
    "cuda": ("fp32", "tf32", "fp16", "int8"),
}
Options = Mapping[str, str]


def default_precisions(device: str) -> tuple[Precision, ...]:
    """Return the precisions that are measured on a device where none is named."""
    return _DEFAULT_PRECISIONS.get(device.partition(":")[0], ())


@dataclass(frozen=True, slots=True)
class Available:
    """The backend can be used; `version` is its library's."""

    version: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The backend cannot be used here: why, and what to do about it."""

    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Support:
    """Whether a backend runs a precision natively on a device; `reason` is empty when it does."""

    supported: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FileForm:
    """Which of a network's files a backend opens for a precision.

    Attributes:
        precision: of the file's types; `fp32` where the backend is told the precision, or casts by itself.
        layout: where the backend wants the quantisers of an int8 or fp8 file; empty for the others.
    """

    precision: str = "fp32"
    layout: str = ""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, element type (numpy's name) and shape of an input or output as the session has it."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def tensor_specs(artefact: Artefact, batch_size: int) -> tuple[TensorSpec, TensorSpec]:
    """Return the input of an ONNX artefact, and the output that is held against the reference."""
    network = network_from_json(artefact.spec)
    image = batch_size, IMAGE_CHANNELS, network.input_size, network.input_size
    return (
        TensorSpec(network.input_name, "float32", image),
        TensorSpec(network.output_name, "float32", (batch_size, network.num_classes)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerEvidence:
    """What one convolution or matrix product was seen to do while it ran.

    Attributes:
        name: the layer's name in the backend's own graph.
        operation: the operation's name there.
        precision: what the arithmetic was done in (`fp32`, `bf16`, ...).
        placement: the provider or device that ran it.
        macs: multiply-accumulates of one request, from the shapes seen.
    """

    name: str
    operation: str
    precision: str
    placement: str
    macs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What really ran in a session: read back from the backend, never from the request.

    Attributes:
        device: where the work ran, as the backend names it.
        threads: total over the slots.
        batch_size: images in one request, from shapes seen while running.
        layers: every convolution and matrix product of one request.
        placements: number of graph nodes (all kinds) per provider or device.
        flags: further settings read back, by name.
    """

    device: str
    threads: int
    batch_size: int
    layers: tuple[LayerEvidence, ...]
    placements: Mapping[str, int]
    flags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTime:
    """How long one operation took while a session was profiled.

    Attributes:
        name: in the backend's own graph, without what the backend adds to a layer's name when it rewrites the graph.
        operation: the operation's name there.
        macs: multiply-accumulates of one request, from the shapes seen; 0 where it is no convolution or product.
        weights: elements of what it multiplies the data with; 0 likewise.
        samples_ns: one time a profiled request, in order; each their mean where the backend tells no more.
    """

    name: str
    operation: str
    macs: int
    weights: int
    samples_ns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Compilation:
    """What a backend compiled while it opened, apart from loading.

    Attributes:
        seconds: from the first call to compiled code that has run once.
        cached: whether all of it came from the backend's cache on disk; None where nothing was compiled.
    """

    seconds: float
    cached: bool | None


class Session(Protocol):
    """A backend opened on one artefact, one device, one batch size, with a fixed number of slots.

    Batches are fp32 NCHW arrays `(batch_size, 3, input_size, input_size)`. A slot holds one request at a time:
    `stage`, `enqueue`, `wait`, `fetch`, in this order; after one `stage`, `enqueue` and `wait` may be repeated.
    Several slots are served by a thread of the caller's each, so `enqueue` may as well run the request to its end
    where the library's own call blocks: a latency then has no thread hop in it.
    """

    @property
    def input_spec(self) -> TensorSpec:
        """Return what `stage` takes."""
        ...

    @property
    def output_spec(self) -> TensorSpec:
        """Return what `fetch` gives."""
        ...

    @property
    def timeline(self) -> str:
        """Return `host` where requests are timed by the host's clock, `cuda` where by events on their streams."""
        ...

    @property
    def slots(self) -> int:
        """Return how many requests it can hold."""
        ...

    @property
    def compilation(self) -> Compilation | None:
        """Return what was compiled in opening, where the backend tells it apart from loading."""
        ...

    def stage(self, slot: int, batch: NDArray[np.float32]) -> None:
        """Put a batch onto the device without cast or layout change; where it stays in place, the session keeps it."""
        ...

    def enqueue(self, slot: int) -> None:
        """Start a request on the slot's staged input."""
        ...

    def wait(self, slot: int) -> None:
        """Block until the slot's fp32 logits are complete on the device; raises what the request raised."""
        ...

    def fetch(self, slot: int) -> NDArray[np.float32]:
        """Return the slot's logits `(batch_size, classes)` as a copy on the host."""
        ...

    def evidence(self) -> Evidence:
        """Say what really ran; called once, after opening and before anything is timed, and may run a request."""
        ...

    def start_profiling(self) -> None:
        """Become a session that can be profiled, opened again where it must be; nothing is staged then."""
        ...

    def layer_times(self, run: Callable[[], None], requests: int) -> tuple[LayerTime, ...]:
        """Return the operations of each of the newest `requests` calls of `run`, which makes one request on slot 0.

        They are in the order in which they run, and do not overlap. `run` may be called more often, to warm up the
        profiler. Called once, after `start_profiling`.
        """
        ...

    def close(self) -> None:
        """Release what the session holds."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Backend(Protocol):
    """What runs an artefact. Nothing touches a device or imports a library before these are called."""

    @property
    def name(self) -> str:
        """Return the name it has in options and tables."""
        ...

    @property
    def artefact_kind(self) -> str:
        """Return the kind of artefact it opens: `weights` or `onnx`."""
        ...

    @property
    def option_values(self) -> Mapping[str, tuple[str, ...]]:
        """Return the options it knows, each with its values, the default first: empty where it has none until given."""
        ...

    def availability(self, device: str) -> Available | Unavailable:
        """Import the library and say whether the device can be used."""
        ...

    def supports(self, precision: str, device: str) -> Support:
        """Say whether the precision runs natively: a backend that would widen or emulate it says no."""
        ...

    def file_form(self, precision: str, options: Options) -> FileForm:
        """Return what the file has to be that it opens for a precision."""
        ...

    def open(
        self,
        artefact: Artefact,
        *,
        device: str,
        precision: str,
        batch_size: int,
        threads: int,
        in_flight: int,
        options: Options,
    ) -> Session:
        """Open the artefact; raises what the library raises."""
        ...


def quantizer_layout(precision: str, options: Options) -> str:
    """Return where the quantisers of a file stand, by the option `layout`; empty for a file that has none."""
    return layout_of(precision, options.get("layout")) if precision in QUANTIZED_PRECISIONS else ""


class SessionContext:
    """The context manager half of a session: closes it on the way out."""

    compilation: Compilation | None = None
    # Streams and tensors of the slots on a CUDA device (`cuda_slots.CudaSlots`); None on a CPU.
    device_slots: CudaSlots | None = None

    def start_profiling(self) -> None:
        """Change nothing, unless a session says so."""

    def close(self) -> None:
        """Release what the session holds; nothing to do unless a session says so."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: Any) -> None:
        self.close()
