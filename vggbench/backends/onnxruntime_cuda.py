"""ONNX Runtime on a CUDA device: sessions of its CUDA and its TensorRT provider, bound to the tensors of each slot.

A slot has an `InferenceSession` of its own, since a session has one stream: the slot's. No other provider is listed and
falling back to the CPU is forbidden, so that a node which the provider does not take fails the opening. Whether `Run`
returns before the device is through is tried out, once it has run: only then are requests timed by events.

Imports onnxruntime and torch inside functions; torch first, whose CUDA libraries then serve both.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact
from vggbench.backends.base import (
    Evidence,
    LayerEvidence,
    LayerTime,
    Options,
    SessionContext,
    Support,
    Unavailable,
    tensor_specs,
)
from vggbench.backends.cuda_device import native_on, unusable
from vggbench.backends.cuda_slots import CudaSlots
from vggbench.backends.onnxruntime_events import Profiler, product_evidence, session_options
from vggbench.environment.gpus import canonical_device, gpu_index
from vggbench.models.layers import mac_layers
from vggbench.models.network_file import NetworkFile, network_from_json

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
DEVICE_TYPE = "cuda"  # of the memory that is bound
_NO_PROFILE = "onnxruntime's profiler times launches on a GPU, not kernels; profile with --backend torch"
_OVERRIDE = "NVIDIA_TF32_OVERRIDE"  # what NVIDIA's libraries read once: 0 forbids tf32 whatever they are told
_PARSER_LIBRARIES = ("libnvinfer.so.10", "libnvonnxparser.so.10")

# Options of the CUDA provider that may be chosen, by its own names, with their values; any where there are none.
CUDA_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "cudnn_conv_algo_search": ("", "EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "cudnn_conv_use_max_workspace": ("", "0", "1"),
    "enable_cuda_graph": ("", "1"),
    "fuse_conv_bias": ("", "1"),
    "prefer_nhwc": ("", "1"),
    "gpu_mem_limit": (),
}
TENSORRT_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "trt_builder_optimization_level": ("", "0", "1", "2", "3", "4", "5"),
    "trt_cuda_graph_enable": ("", "1"),
    "trt_max_workspace_size": (),
    "trt_auxiliary_streams": (),
}
_NOT_IN_CUDA = {
    "bf16": "has no max pooling of bf16",
    "int8": "computes int8 in fp32 between the quantisers",
    "fp8": "computes fp8 in fp32 between the quantisers",
}


@dataclass(frozen=True, slots=True)
class Provider:
    """Which provider, and how it is told: its name, the precision of the cell, and the options that were chosen."""

    name: str
    precision: str
    chosen: Options

    def options(self, device: str, stream: int) -> dict[str, str]:
        """Return the provider's options for a slot: on its stream, with tf32 as the precision says."""
        shared = {**self.chosen, "device_id": str(gpu_index(device) or 0), "user_compute_stream": str(stream)}
        if self.name == CUDA:
            shared["use_tf32"] = "1" if self.precision == "tf32" else "0"
        return shared


def cuda_unavailable(device: str, provider: str) -> Unavailable | None:
    """Return why a provider cannot be used on a CUDA device; None if its libraries are there."""
    missing = unusable(device)
    if missing is not None:
        return missing
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        return Unavailable(f"onnxruntime cannot be imported: {error}", "pip install onnxruntime-gpu")
    if provider not in onnxruntime.get_available_providers():
        text = f"this onnxruntime {onnxruntime.__version__} is built without its {provider}"
        return Unavailable(text, "pip uninstall onnxruntime, pip install onnxruntime-gpu")
    return _other_cuda(onnxruntime) or (_no_tensorrt() if provider == TENSORRT else None)


def _other_cuda(onnxruntime: Any) -> Unavailable | None:
    """Return that torch and this library want libraries of different CUDAs, of which one process has one."""
    import torch

    theirs, ours = str(getattr(onnxruntime, "cuda_version", "") or ""), str(torch.version.cuda)
    if not theirs or theirs.partition(".")[0] == ours.partition(".")[0]:
        return None
    text = f"onnxruntime-gpu {onnxruntime.__version__} is built for CUDA {theirs}, torch {torch.__version__} for {ours}"
    return Unavailable(text, f"install a torch for CUDA {theirs.partition('.')[0]}, or an onnxruntime-gpu for {ours}")


def _no_tensorrt() -> Unavailable | None:
    """Load what the provider is linked with, from the system or from TensorRT's wheel; return that it is missing."""
    for name in _PARSER_LIBRARIES:
        if not any(_loaded(path) for path in (name, *map(str, _wheel_files(name)))):
            text = f"onnxruntime's TensorRT provider needs {name}, of TensorRT 10, which cannot be loaded"
            return Unavailable(text, "pip install 'vggbench[trt10]'")
    return None


def _wheel_files(name: str) -> list[Path]:
    spec = importlib.util.find_spec("tensorrt_libs")
    return [Path(folder) / name for folder in (spec.submodule_search_locations if spec else None) or []]


def _loaded(path: str) -> bool:
    try:
        ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def cuda_supports(precision: str, device: str, provider: str) -> Support:
    """Say what a provider computes natively on the device."""
    if provider == CUDA and precision in _NOT_IN_CUDA:
        return Support(False, f"ONNX Runtime's CUDA provider {_NOT_IN_CUDA[precision]}")
    if precision in ("int8", "fp8"):
        text = f"what ONNX Runtime's TensorRT provider computes {precision} in cannot be read back"
        return Support(False, f"{text}; measure it with the backend tensorrt")
    known = precision in ("fp32", "tf32", "fp16", "bf16")
    return native_on(precision, device) if known else Support(False, f"ONNX Runtime has no {precision}")


def forbid_fallback(settings: Any) -> None:
    """Let opening fail where a node would run on the CPU, which ONNX Runtime does without a word otherwise."""
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")


def forbid_tf32(precision: str) -> None:
    """Set for this process whether TensorRT may use tf32; `RuntimeError` if its libraries have read otherwise before.

    The provider builds with TensorRT's defaults, which allow it, and has no option for it.
    """
    wanted = "0" if precision == "fp32" else None
    if _LOADED and os.environ.get(_OVERRIDE) != wanted:
        raise RuntimeError(f"{_OVERRIDE} was read with another value in this process; measure {precision} in its own")
    if wanted is None:
        os.environ.pop(_OVERRIDE, None)
    else:
        os.environ[_OVERRIDE] = wanted
    _LOADED.add(TENSORRT)


_LOADED: set[str] = set()


class CudaOnnxRuntimeSession(SessionContext):
    """An InferenceSession a slot, bound to the slot's input and output on the device."""

    def __init__(
        self, artefact: Artefact, device: str, batch_size: int, threads: int, in_flight: int, provider: Provider
    ) -> None:
        if provider.name == TENSORRT:
            forbid_tf32(provider.precision)
        self.slots = in_flight
        self.input_spec, self.output_spec = tensor_specs(artefact, batch_size)
        self._memory = CudaSlots(device, in_flight, self.input_spec.shape, self.output_spec.shape)
        self.device_slots = self._memory
        self._artefact, self._device, self._provider, self._threads = artefact, device, provider, threads
        self._timeline = ""
        self._ran = False
        self._evidence: Evidence | None = None
        self._open()

    def _open(self) -> None:
        """Open the file for each slot, the first with the profiler on."""
        import onnxruntime

        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
        self._profiler = Profiler()
        self._settings = onnxruntime.RunOptions()
        self._settings.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._sessions = [self._opened(onnxruntime, slot) for slot in range(self.slots)]
        self._bindings = [self._bound(slot) for slot in range(self.slots)]

    def _opened(self, onnxruntime: Any, slot: int) -> Any:
        settings = session_options(self._threads, self._profiler if slot == 0 else None)
        forbid_fallback(settings)
        options = self._provider.options(self._device, self._memory.stream(slot).cuda_stream)
        providers = [(self._provider.name, options)]
        # Without `enable_fallback` a failed opening would be tried again on the CPU.
        return onnxruntime.InferenceSession(str(self._artefact.path), settings, providers=providers, enable_fallback=0)

    def _bound(self, slot: int) -> Any:
        session, number = self._sessions[slot], gpu_index(self._device) or 0
        binding, given, made = session.io_binding(), self._memory.input(slot), self._memory.output(slot)
        shape = self.input_spec.shape
        binding.bind_input(self.input_spec.name, DEVICE_TYPE, number, np.float32, shape, given.data_ptr())
        for output in session.get_outputs():
            if output.name == self.output_spec.name:
                shape = self.output_spec.shape
                binding.bind_output(output.name, DEVICE_TYPE, number, np.float32, shape, made.data_ptr())
            else:
                binding.bind_output(output.name, DEVICE_TYPE, number)
        return binding

    @property
    def timeline(self) -> str:
        """Return `cuda` where a request has run and was seen to return before the device began; else `host`."""
        if not self._timeline and self._ran:
            self._timeline = "cuda" if self._memory.runs_ahead(0, self.enqueue) else "host"
        return self._timeline or "host"

    def stage(self, slot: int, batch: NDArray[np.float32]) -> None:
        """Start the copy to the slot's tensor."""
        self._memory.stage(slot, batch)

    def enqueue(self, slot: int) -> None:
        """Let the provider enqueue the network on the slot's stream."""
        self._sessions[slot].run_with_iobinding(self._bindings[slot], self._settings)
        self._ran = True

    def wait(self, slot: int) -> None:
        """Block until the stream is through."""
        self._memory.wait(slot)

    def fetch(self, slot: int) -> NDArray[np.float32]:
        """Return the logits as a copy on the host."""
        return self._memory.fetch(slot)

    def evidence(self) -> Evidence:
        """Read the profile of the requests made so far, and the options as the provider has them."""
        if self._evidence is None:
            if not self._ran:
                self.enqueue(0)
            self.wait(0)
            events = self._profiler.end(self._sessions[0])
            self._evidence = self._read(events)
        return self._evidence

    def _read(self, events: list[dict[str, Any]]) -> Evidence:
        session = self._sessions[0]
        options = session.get_provider_options()[self._provider.name]
        nodes = [
            (assignment.ep_name, node)
            for assignment in session.get_provider_graph_assignment_info()
            for node in assignment.get_nodes()
        ]
        layers, batch_size = self._layers(events, nodes, options)
        places = dict(Counter(provider for provider, _node in nodes))
        alone = set(places) == {self._provider.name}
        return Evidence(
            device=canonical_device(f"cuda:{options.get('device_id')}") or "" if alone else "+".join(sorted(places)),
            threads=self._threads,
            batch_size=batch_size,
            layers=layers,
            placements=places,
            flags=self._flags(session, options),
        )

    def _layers(
        self, events: list[dict[str, Any]], nodes: list[tuple[str, Any]], options: Mapping[str, str]
    ) -> tuple[tuple[LayerEvidence, ...], int]:
        """Return the products, and the batch that they ran."""
        if self._provider.name == TENSORRT:
            return self._compiled_layers(nodes), self.input_spec.shape[0]
        means = "tf32" if options.get("use_tf32", "1") == "1" else "fp32"
        return product_evidence(events, self._artefact, fp32_means=means)

    def _compiled_layers(self, nodes: list[tuple[str, Any]]) -> tuple[LayerEvidence, ...]:
        """Return the network's products, by the file's types, where TensorRT has their nodes.

        The provider hands them over as a strongly typed network: what the file says is what they are computed in.
        """
        network = network_from_json(self._artefact.spec)
        if isinstance(network, NetworkFile):
            return ()
        taken = {node.name: (provider, node.op_type) for provider, node in nodes}
        typed = self._artefact.precision
        means = "fp32" if os.environ.get(_OVERRIDE) == "0" else "tf32"
        precision = means if typed == "fp32" else typed
        return tuple(
            LayerEvidence(
                name=layer.name,
                operation=taken[layer.name][1],
                precision=precision,
                placement=taken[layer.name][0],
                macs=layer.macs,
            )
            for layer in mac_layers(network, self.input_spec.shape[0])
            if layer.name in taken
        )

    def _flags(self, session: Any, options: Mapping[str, str]) -> dict[str, str]:
        import onnxruntime

        left_out = {"user_compute_stream", "has_user_compute_stream", "gpu_external_alloc", "gpu_external_free"}
        return {
            "providers": ",".join(session.get_providers()),
            "version": str(onnxruntime.__version__),
            "nvidia_tf32_override": os.environ.get(_OVERRIDE, ""),
            **{name: str(value) for name, value in options.items() if name not in left_out},
        }

    def start_profiling(self) -> None:
        """Refuse: the profiler's times are those of launching a kernel."""
        raise RuntimeError(_NO_PROFILE)

    def layer_times(self, run: Callable[[], None], requests: int) -> tuple[LayerTime, ...]:  # noqa: ARG002 - refused
        """Refuse, likewise."""
        raise RuntimeError(_NO_PROFILE)

    def close(self) -> None:
        """Drop the sessions before the memory that they are bound to."""
        self._bindings, self._sessions = [], []
        self._profiler.close()
        self._memory.close()
