"""PyTorch in eager mode: opens a weights artefact and builds the module from its spec.

Options beside `memory_format`, both on a CUDA device alone:

    cudnn_benchmark   cuDNN times its algorithms for every convolution before the first request is over
    cuda_graph        a request is captured when the session opens, and replayed by one call from then on
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact
from vggbench.backends import cuda_slots
from vggbench.backends.base import (
    Available,
    Evidence,
    FileForm,
    LayerEvidence,
    LayerTime,
    Options,
    SessionContext,
    Support,
    TensorSpec,
    Unavailable,
)
from vggbench.backends.cuda_device import named, native_on, unusable
from vggbench.backends.torch_places import CudaPlace, HostPlace, Place, Run
from vggbench.backends.torch_precision import fp32_means, read_switches, set_switches
from vggbench.backends.torch_watch import ModuleWatch
from vggbench.environment.cpu import has_arithmetic
from vggbench.models.spec import ModelSpec

if TYPE_CHECKING:
    import torch

    from vggbench.models.vgg import VGG

# An option that no cell has: the name of the last layer to run, for the search for a layer that departs.
UNTIL = "until"


class TorchBackend:
    """Eager PyTorch."""

    name = "torch"
    artefact_kind = "weights"
    devices = ("cpu", "cuda")
    option_values: Mapping[str, tuple[str, ...]] = {
        "memory_format": ("contiguous", "channels_last"),
        "cudnn_benchmark": ("", "on"),
        "cuda_graph": ("", "on"),
    }
    cuda_options: Mapping[str, tuple[str, ...]] = {"cudnn_benchmark": ("on",), "cuda_graph": ("on",)}

    def availability(self, device: str) -> Available | Unavailable:
        """Import torch and say its version, or why it cannot compute on the device."""
        missing = unusable(device)
        if missing is not None:
            return missing
        import torch

        return Available(str(torch.__version__))

    def supports(self, precision: str, device: str) -> Support:
        """Say no to a short type where oneDNN has no native instructions for it, or a GPU none at all."""
        if device != "cpu":
            known = precision in ("fp32", "tf32", "fp16", "bf16")
            return native_on(precision, device) if known else Support(False, f"PyTorch has no {precision} convolution")
        if precision == "fp32":
            return Support(True)
        if precision in ("fp16", "bf16"):
            native = _onednn_supports(precision) and has_arithmetic(precision)
            return Support(native, "" if native else f"this CPU has no native {precision} instructions for oneDNN")
        if precision == "tf32":
            return Support(False, "PyTorch on a CPU has no tf32: it is a mode of NVIDIA's GPUs")
        return Support(False, f"PyTorch's eager mode on a CPU has no {precision} convolution")

    def file_form(self, precision: str, options: Options) -> FileForm:  # noqa: ARG002 - it casts what it loads
        """Load the one weights file, whatever the precision."""
        return FileForm()

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
    ) -> TorchSession:
        """Load the weights file into the module; short types cast convolutions and linear layers once, here."""
        network = load_network(artefact, precision, options, device)
        return TorchSession(network, batch_size, threads, in_flight, options)


@dataclass(frozen=True, slots=True)
class Network:
    """The module of a weights artefact, in the precision and memory format that were asked for.

    Attributes:
        outputs: values that the module makes of an image; None for the spec's classes.
        device: where the module is, as cells call it.
    """

    module: Any
    spec: ModelSpec
    dtype: torch.dtype
    memory_format: torch.memory_format
    outputs: int | None = None
    device: str = "cpu"

    def __call__(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the fp32 logits of an fp32 NCHW batch, and the probabilities where the spec asks for them."""
        # torch's stubs do not know `memory_format` beside a dtype.
        logits = self.module.logits(batch.to(self.dtype, memory_format=self.memory_format)).float()
        return (logits, logits.softmax(dim=1)) if self.spec.outputs == "probabilities" else (logits,)


def load_network(artefact: Artefact, precision: str, options: Options, device: str = "cpu") -> Network:
    """Load the weights file into the module, and set the process's switches; short types are cast once, here."""
    import torch

    from vggbench.models.weights import load_module

    set_switches(precision, cudnn_benchmark=options.get("cudnn_benchmark") == "on")
    spec = ModelSpec.from_json(artefact.spec)
    module, outputs = _until(load_module(spec, artefact.path), options.get(UNTIL, ""))
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    if dtype != torch.float32:
        _cast_products(module, dtype)
    channels_last = options.get("memory_format") == "channels_last"
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    module = module.to(memory_format=memory_format) if channels_last else module
    if device != "cpu":
        module = module.to(cuda_slots.torch_device(device))
    return Network(module, spec, dtype, memory_format, outputs, device)


def _until(module: VGG, last: str) -> tuple[torch.nn.Module, int | None]:
    """Return the network up to a layer and how many values that makes of an image; without one, the whole."""
    if not last:
        return module, None
    from vggbench.models.vgg import Prefix
    from vggbench.models.weights import output_shapes

    return Prefix(module, last), math.prod(output_shapes(module.spec)[last])


def _onednn_supports(precision: str) -> bool:
    import torch

    asks = {
        "bf16": torch.ops.mkldnn._is_mkldnn_bf16_supported,
        "fp16": torch.ops.mkldnn._is_mkldnn_fp16_supported,
    }
    return bool(asks[precision]())


def _cast_products(module: torch.nn.Module, dtype: torch.dtype) -> None:
    """Cast convolutions and linear layers; batch norm keeps its fp32 statistics, as autocast would."""
    import torch

    for layer in module.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            layer.to(dtype)


class TorchSession(SessionContext):
    """One network, on the host or on a CUDA device."""

    def __init__(
        self, network: Network, batch_size: int, threads: int, in_flight: int, options: Options | None = None
    ) -> None:
        spec = network.spec
        self.slots = in_flight
        self.input_spec = TensorSpec("input", "float32", (batch_size, 3, spec.input_size, spec.input_size))
        self.output_spec = TensorSpec("logits", "float32", (batch_size, network.outputs or spec.num_classes))
        self._network: Network | None = network
        self._options = options or {}
        self._run: Run = network
        self._place: Place = self._make_place(network.device)
        self.timeline = self._place.timeline
        self.device_slots = self._place.device_slots
        self._threads = max(1, threads // self._place.shares)  # all slots together use no more than asked
        self._thread = threading.local()
        self._once_a_thread()
        self._prepare()

    def _make_place(self, device: str) -> Place:
        if device == "cpu":
            return HostPlace(self.slots)
        return CudaPlace(device, self.slots, self.input_spec.shape, self.output_spec.shape)

    def _prepare(self) -> None:
        """Capture a request of each slot, where that was asked for; the first requests are then over."""
        if self._options.get("cuda_graph") == "on" and isinstance(self._place, CudaPlace):
            self._place.capture(self._run)

    def stage(self, slot: int, batch: NDArray[np.float32]) -> None:
        """Put the batch where the network reads it."""
        self._place.stage(slot, batch)

    def _once_a_thread(self) -> None:
        """Prepare the calling thread before its first request."""
        if not hasattr(self._thread, "ready"):
            self._set_up_thread()
            self._thread.ready = True

    def _set_up_thread(self) -> None:
        """Set this thread's share: torch keeps the number of threads per calling thread."""
        import torch

        torch.set_num_threads(self._threads)

    def enqueue(self, slot: int) -> None:
        """Run the forward pass, to its end on the host."""
        self._once_a_thread()
        self._place.request(slot, self._run)

    def wait(self, slot: int) -> None:
        """Block until the logits are there."""
        self._place.wait(slot)

    def fetch(self, slot: int) -> NDArray[np.float32]:
        """Return the logits as a copy."""
        return self._place.fetch(slot)

    def evidence(self) -> Evidence:
        """Run one forward pass and record what each product was dispatched with."""
        return self._dispatched()

    def _dispatched(self) -> Evidence:
        """Say what torch dispatches for the network as it is, compiled or not."""
        import torch

        assert self._network is not None, "the session is open"
        layers: list[LayerEvidence] = []
        batches: list[int] = []
        batch = self._any_batch()
        with _recording(layers, batches), self._place.at(0):
            self._network(batch)
        self._place.wait(0)
        return Evidence(
            device=named(batch.device),
            threads=torch.get_num_threads() * self._place.shares,
            batch_size=batches[0] if len(set(batches)) == 1 else 0,
            layers=tuple(layers),
            placements={named(batch.device): len(layers)},
            flags=self._flags(),
        )

    def _any_batch(self) -> torch.Tensor:
        """Return the first slot's staged batch, zeros if there is none."""
        import torch

        staged = self._place.batch(0)
        return staged if staged is not None else torch.zeros(self.input_spec.shape)

    def _flags(self) -> dict[str, str]:
        """Return torch's settings that decide what a product is computed in."""
        assert self._network is not None, "the session is open"
        return {
            **read_switches(),
            "memory_format": str(self._network.memory_format).removeprefix("torch."),
            "version": version("torch"),
        }

    def layer_times(self, run: Callable[[], None], requests: int) -> tuple[LayerTime, ...]:
        """Make the requests with a stopwatch around every module."""
        assert self._network is not None, "the session is open"
        with ModuleWatch(self._network.module) as watch:
            for _ in range(requests):
                run()
        return watch.layer_times()

    def close(self) -> None:
        """Drop the network, and what memory it has on a device."""
        self._network = None
        self._run = _closed
        self._place.close()


def _closed(_batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
    raise RuntimeError("the session is closed")


_PRECISION_NAMES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "float64": "fp64"}
_CONVOLUTIONS = {"convolution", "conv2d", "_convolution", "mkldnn_convolution"}
_PRODUCTS = {"linear", "addmm", "mm", "matmul", "bmm", "mkldnn_linear"}


def _recording(layers: list[LayerEvidence], batches: list[int]) -> Any:
    """Return a context in which every convolution and matrix product dispatched is appended to `layers`."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            name = func.overloadpacket.__name__
            if name in _CONVOLUTIONS or name in _PRODUCTS:
                layers.append(_layer_evidence(name, len(layers), args, result))
                batches.append(int(result.shape[0]))
            return result

    return Recorder()  # type: ignore[no-untyped-call]


def _layer_evidence(name: str, index: int, args: tuple[Any, ...], result: torch.Tensor) -> LayerEvidence:
    # addmm has the bias first, all others have the input and then the weights.
    data, weights = (args[1], args[2]) if name == "addmm" else (args[0], args[1])
    per_output = math.prod(weights.shape[1:]) if name in _CONVOLUTIONS else data.shape[-1]
    names = _PRECISION_NAMES | {"float32": fp32_means(result.device.type, name in _CONVOLUTIONS)}
    types = {names.get(str(tensor.dtype).removeprefix("torch."), str(tensor.dtype)) for tensor in (data, weights)}
    return LayerEvidence(
        name=f"{name}[{index}]",
        operation=name,
        precision=types.pop() if len(types) == 1 else "+".join(sorted(types)),
        placement=named(result.device),
        macs=result.numel() * int(per_output),
    )


BACKEND = TorchBackend()
