"""PyTorch in eager mode on the CPU: opens a weights artefact and builds the module from its spec."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact
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
from vggbench.backends.torch_precision import fp32_means, read_switches, set_switches
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
    option_values: Mapping[str, tuple[str, ...]] = {"memory_format": ("contiguous", "channels_last")}

    def availability(self, device: str) -> Available | Unavailable:
        """Import torch and say its version."""
        if device != "cpu":
            return Unavailable(f"torch is measured on the CPU only, not on {device}", "use --device cpu")
        try:
            import torch
        except (ImportError, OSError) as error:
            return Unavailable(f"torch cannot be imported: {error}", "pip install 'torch>=2.11'")
        return Available(str(torch.__version__))

    def supports(self, precision: str, device: str) -> Support:  # noqa: ARG002 - the CPU is the only device
        """Say no to a short type where oneDNN has no native instructions for it."""
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
        device: str,  # noqa: ARG002 - availability refused all but the CPU
        precision: str,
        batch_size: int,
        threads: int,
        in_flight: int,
        options: Options,
    ) -> TorchSession:
        """Load the weights file into the module; short types cast convolutions and linear layers once, here."""
        return TorchSession(load_network(artefact, precision, options), batch_size, threads, in_flight)


@dataclass(frozen=True, slots=True)
class Network:
    """The module of a weights artefact, in the precision and memory format that were asked for.

    Attributes:
        outputs: values that the module makes of an image; None for the spec's classes.
    """

    module: Any
    spec: ModelSpec
    dtype: torch.dtype
    memory_format: torch.memory_format
    outputs: int | None = None

    def __call__(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the fp32 logits of an fp32 NCHW batch, and the probabilities where the spec asks for them."""
        # torch's stubs do not know `memory_format` beside a dtype.
        logits = self.module.logits(batch.to(self.dtype, memory_format=self.memory_format)).float()
        return (logits, logits.softmax(dim=1)) if self.spec.outputs == "probabilities" else (logits,)


def load_network(artefact: Artefact, precision: str, options: Options) -> Network:
    """Load the weights file into the module, and set the process's switches; short types are cast once, here."""
    import torch

    from vggbench.models.weights import load_module

    set_switches(precision)
    spec = ModelSpec.from_json(artefact.spec)
    module, outputs = _until(load_module(spec, artefact.path), options.get(UNTIL, ""))
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    if dtype != torch.float32:
        _cast_products(module, dtype)
    channels_last = options.get("memory_format") == "channels_last"
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    module = module.to(memory_format=memory_format) if channels_last else module
    return Network(module, spec, dtype, memory_format, outputs)


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
    """One network; inputs are views of the caller's arrays."""

    timeline = "host"

    def __init__(self, network: Network, batch_size: int, threads: int, in_flight: int) -> None:
        spec = network.spec
        self.slots = in_flight
        self.input_spec = TensorSpec("input", "float32", (batch_size, 3, spec.input_size, spec.input_size))
        self.output_spec = TensorSpec("logits", "float32", (batch_size, network.outputs or spec.num_classes))
        self._network: Network | None = network
        self._run: Callable[[torch.Tensor], tuple[torch.Tensor, ...]] = network
        self._inputs: list[torch.Tensor | None] = [None] * in_flight
        self._outputs: list[torch.Tensor | None] = [None] * in_flight
        self._threads = max(1, threads // in_flight)  # all slots together use no more than asked
        self._thread = threading.local()
        self._once_a_thread()

    def stage(self, slot: int, batch: NDArray[np.float32]) -> None:
        """View the array as a tensor."""
        import torch

        self._inputs[slot] = torch.from_numpy(batch)

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
        """Run the forward pass to its end."""
        import torch

        self._once_a_thread()
        staged = self._inputs[slot]
        assert staged is not None, "stage comes before enqueue"
        with torch.inference_mode():
            self._outputs[slot] = self._run(staged)[0]

    def wait(self, slot: int) -> None:
        """Return at once: the forward pass is over."""

    def fetch(self, slot: int) -> NDArray[np.float32]:
        """Return the logits as a copy."""
        logits = self._outputs[slot]
        assert logits is not None, "enqueue comes before fetch"
        return np.array(logits.numpy(), dtype=np.float32)

    def evidence(self) -> Evidence:
        """Run one forward pass and record what each product was dispatched with."""
        import torch

        layers: list[LayerEvidence] = []
        batches: list[int] = []
        batch = self._any_batch()
        with _recording(layers, batches), torch.inference_mode():
            self._run(batch)
        return Evidence(
            device=str(batch.device),
            threads=torch.get_num_threads() * self.slots,
            batch_size=batches[0] if len(set(batches)) == 1 else 0,
            layers=tuple(layers),
            placements={str(batch.device): len(layers)},
            flags=self._flags(),
        )

    def _any_batch(self) -> torch.Tensor:
        """Return the first slot's staged batch, zeros if there is none."""
        import torch

        staged = self._inputs[0]
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
        """Drop the network."""
        self._network = None
        self._run = _closed


class ModuleWatch:
    """Stopwatches around the modules of a network that have no others in them, each of which runs once a request.

    Hooks rather than torch's profiler, which knows operators and not whose they are. Where work is queued on a device,
    each module waits for its end: exact for the module, and slower for the request.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self._modules = [(name, layer) for name, layer in network.named_modules() if not any(layer.children())]
        self._started_ns = 0
        self._found: dict[str, tuple[list[int], int]] = {name: ([], 0) for name, _ in self._modules}
        self._hooks: list[Any] = []

    def __enter__(self) -> ModuleWatch:
        for name, layer in self._modules:
            self._hooks.append(layer.register_forward_pre_hook(self._start))
            self._hooks.append(layer.register_forward_hook(self._stopper(name)))
        return self

    def __exit__(self, *_exc: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _start(self, _layer: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        _finish(inputs[0])
        self._started_ns = time.perf_counter_ns()

    def _stopper(self, name: str) -> Callable[[Any, Any, torch.Tensor], None]:
        def stop(_layer: Any, _inputs: Any, output: torch.Tensor) -> None:
            _finish(output)
            self._found[name][0].append(time.perf_counter_ns() - self._started_ns)
            self._found[name] = self._found[name][0], output.numel()

        return stop

    def layer_times(self) -> tuple[LayerTime, ...]:
        """Return the modules that have run, in the network's order."""
        import torch

        times = []
        for name, layer in self._modules:
            samples, outputs = self._found[name]
            product = isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear))
            times.append(
                LayerTime(
                    name=name,
                    operation=type(layer).__name__,
                    macs=outputs * math.prod(layer.weight.shape[1:]) if product else 0,
                    weights=layer.weight.numel() if product else 0,
                    samples_ns=tuple(samples),
                )
            )
        return tuple(found for found in times if found.samples_ns)


def _finish(tensor: torch.Tensor) -> None:
    """Wait for a device that works through a queue."""
    import torch

    if tensor.device.type != "cpu":
        torch.accelerator.synchronize()


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
        placement=str(result.device),
        macs=result.numel() * int(per_output),
    )


BACKEND = TorchBackend()
