"""PyTorch compiled by inductor: the eager backend's network behind `torch.compile`.

Compiling is done when a session opens, by its first call, for the session's batch size alone. Options beside
`memory_format`:

    mode        `torch.compile`'s own. On a CPU without CUDA graphs, which do nothing there: `max-autotune` tries
                generated matrix products against the library's, and only those with frozen weights. On a CUDA device
                `reduce-overhead` and `max-autotune` replay CUDA graphs, one request at a time
    freezing    inductor's: weights become constants of the graph, folded and laid out for oneDNN when it is compiled

Inductor keeps what it compiled in its own folder (`TORCHINDUCTOR_CACHE_DIR`) for the processes to come.
"""

from __future__ import annotations

import importlib.util
import math
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vggbench.artefacts.artefact import Artefact
from vggbench.backends.base import Available, Compilation, Evidence, LayerEvidence, LayerTime, Options, Unavailable
from vggbench.backends.cuda_device import named
from vggbench.backends.torch_eager import Network, TorchBackend, TorchSession, load_network
from vggbench.backends.torch_precision import fp32_means
from vggbench.errors import RequestError

_WITHOUT_GRAPHS = "max-autotune-no-cudagraphs"
_MODES = ("default", "max-autotune", "reduce-overhead", _WITHOUT_GRAPHS)
_GRAPH_MODES = ("max-autotune", "reduce-overhead")  # on a CUDA device
_GRAPH_CALLS = 3  # the first warms up, the second records the graph, the third replays it
Stopwatch = Callable[[Iterable[Any]], int]
# The profiler's name of a call into inductor's code.
_COMPILED_CALL = "## Call CompiledFxGraph"
_REQUEST = "vggbench request"  # our own mark around each request in a profile
# What products are called when they run, and where among their arguments are the data and the weights.
_PRODUCTS = {
    "aten::convolution": (0, 1),
    "aten::addmm": (1, 2),
    "aten::mm": (0, 1),
    "mkldnn::_convolution_pointwise": (0, 1),
    "mkldnn::_linear_pointwise": (0, 1),
    "mkl::_mkl_linear": (0, 2),  # 1 is the packed form of 2
}
_PRECISION_NAMES = {"float": "fp32", "c10::BFloat16": "bf16", "c10::Half": "fp16", "double": "fp64"}


class CompiledTorchBackend(TorchBackend):
    """`torch.compile` with inductor."""

    name = "torch-compile"
    option_values: Mapping[str, tuple[str, ...]] = {
        **TorchBackend.option_values,
        "mode": _MODES,
        "freezing": ("off", "on"),
    }
    cuda_options: Mapping[str, tuple[str, ...]] = {
        **TorchBackend.cuda_options,
        "mode": ("reduce-overhead", _WITHOUT_GRAPHS),
    }

    def availability(self, device: str) -> Available | Unavailable:
        """Import torch, and look for the compiler and the headers that inductor's code needs."""
        found = super().availability(device)
        if isinstance(found, Unavailable):
            return found
        return _missing_tool() or (None if device == "cpu" else _missing_triton()) or found

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
    ) -> CompiledTorchSession:
        """Load the network as the eager backend does, and compile it; raises what dynamo and inductor raise."""
        network = load_network(artefact, precision, options, device)
        return CompiledTorchSession(network, batch_size, threads, in_flight, options)


def _missing_tool() -> Unavailable | None:
    """Return what inductor lacks on this machine, if anything."""
    from torch._dynamo.eval_frame import is_dynamo_supported
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    if not is_dynamo_supported():
        return Unavailable("torch.compile does not know this Python", "use a Python that this torch supports")
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return Unavailable("inductor finds no C++ compiler", "install g++, or name another compiler in CXX")
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        return Unavailable(f"inductor needs {header}, which is missing", "install Python's headers (python3-dev)")
    return None


def _missing_triton() -> Unavailable | None:
    """Return that inductor cannot generate code for a GPU, if so."""
    if importlib.util.find_spec("triton") is None:
        return Unavailable("inductor needs triton for a GPU, and it is not installed", "pip install triton")
    return None


class CompiledTorchSession(TorchSession):
    """One compiled network; every request that it does not run raises."""

    def _prepare(self) -> None:
        """Compile, and then capture what was compiled, where that was asked for."""
        assert self._network is not None, "the session is open"
        self._compile(self._network)
        super()._prepare()

    def _mode(self) -> str:
        """Return torch's name of the mode; `RequestError` for one that serves one request at a time and has several."""
        mode = self._options["mode"]
        if self.device_slots is None:
            return _WITHOUT_GRAPHS if mode == "max-autotune" else mode
        if mode in _GRAPH_MODES and (self.slots > 1 or self._options.get("cuda_graph")):
            raise RequestError(
                f"mode={mode} of torch-compile has a CUDA graph of its own, for one request at a time; take "
                f"mode=default or {_WITHOUT_GRAPHS} for several, or with cuda_graph=on"
            )
        return mode

    def _compile(self, network: Network) -> None:
        """Compile by a first call, with the threads and the batch size that are timed later."""
        import torch
        from torch._dynamo.utils import counters

        torch._dynamo.reset()  # graphs of an earlier session would count against this one's limit
        counters.clear()
        mode = self._mode()
        self._run = torch.compile(network.__call__, fullgraph=True, dynamic=False, mode=mode)
        batch = self._any_batch()  # outside of inference mode, like the batches that are staged: another kind of tensor
        start = time.perf_counter()
        # Not by `options`: dynamo reads it too, and only here, and else leaves inductor no constants to freeze.
        frozen = torch._inductor.config.patch(freezing=self._options["freezing"] == "on")
        replayed = self.device_slots is not None and mode in _GRAPH_MODES
        with self._place.at(0), frozen:
            for _ in range(_GRAPH_CALLS if replayed else 1):
                self._run(batch)
        self._place.wait(0)
        seconds = time.perf_counter() - start
        self.compilation = Compilation(seconds, _found_in_cache(counters["inductor"]))
        self._graphs = {
            "graphs": str(counters["stats"]["unique_graphs"]),
            "graph_breaks": str(sum(counters["graph_break"].values())),
        }

    def _set_up_thread(self) -> None:
        """Let nothing run otherwise than compiled, nor be compiled again while it is timed: it raises instead.

        torch keeps these settings per calling thread.
        """
        import torch

        super()._set_up_thread()
        torch._dynamo.config.suppress_errors = False
        torch._dynamo.config.error_on_recompile = True

    def evidence(self) -> Evidence:
        """Profile one request: what each product was called with, and whether inductor's code called it.

        On a GPU a product may be a kernel that inductor generated, or part of a graph that is replayed: neither is a
        call that a profile has shapes of. Where any is missing, the evidence is of what inductor was given: the whole
        network in one graph, without a break, and nothing else can run.
        """
        import torch
        from torch._inductor.utils import parallel_num_threads
        from torch.profiler import ProfilerActivity, profile

        batch = self._any_batch()
        with self._place.at(0), profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
            self._run(batch)
        self._place.wait(0)
        products = list(_outermost_products(profiler.events()))
        layers = tuple(_layer_evidence(event, index, batch.device.type) for index, event in enumerate(products))
        compiled = 1 if self.device_slots else parallel_num_threads()
        seen = Evidence(
            device=named(batch.device),
            threads=max(torch.get_num_threads(), compiled) * self._place.shares,
            batch_size=_batch_size([_data_shape(event) for event in products]),
            layers=layers,
            placements=_placements(layers),
            flags={**self._flags(), **self._graphs},
        )
        return self._with_unseen(seen) if self.device_slots else seen

    def _with_unseen(self, seen: Evidence) -> Evidence:
        """Take the products from what inductor was given where a profile has not all of them."""
        given = self._dispatched()
        if sum(layer.macs for layer in seen.layers) >= sum(layer.macs for layer in given.layers):
            return seen
        layers = tuple(replace(layer, placement="inductor") for layer in given.layers)
        flags = {**seen.flags, "products_seen": "as given to inductor"}
        return replace(seen, batch_size=given.batch_size, layers=layers, placements=_placements(layers), flags=flags)

    def layer_times(self, run: Callable[[], None], requests: int) -> tuple[LayerTime, ...]:
        """Profile the requests: products by their calls; what inductor generated beside them is one operation.

        Generated code has no events of its own, and no names of layers: it may be fused from several. On a GPU a call's
        time is that of the kernels it launched.
        """
        from torch.profiler import ProfilerActivity, profile, record_function

        on_gpu = self.device_slots is not None
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        with profile(activities=activities, record_shapes=True) as profiler:
            for _ in range(1 + requests):  # the profiler prepares itself in the first
                with record_function(_REQUEST):
                    run()
        marks = [event for event in profiler.events() if event.name == _REQUEST]
        return _layer_times(marks[-requests:], _kernels_ns if on_gpu else _elapsed_ns)

    def close(self) -> None:
        """Drop the network and what was compiled for it."""
        import torch

        super().close()
        torch._dynamo.reset()


def _found_in_cache(counts: Mapping[str, int]) -> bool | None:
    """Return whether every graph came from inductor's cache; None if there was none."""
    hits, others = counts["fxgraph_cache_hit"], counts["fxgraph_cache_miss"] + counts["fxgraph_cache_bypass"]
    return hits > 0 and others == 0 if hits + others else None


def _placements(layers: Iterable[LayerEvidence]) -> dict[str, int]:
    """Count products by who ran them; inductor is named even with none, since all of it was asked of inductor."""
    counts = {"inductor": 0}
    for layer in layers:
        counts[layer.placement] = counts.get(layer.placement, 0) + 1
    return counts


def _outermost_products(events: Iterable[Any]) -> Iterator[Any]:
    """Yield the products that were called by something else than another product."""
    for event in events:
        if event.name in _PRODUCTS and not any(caller.name in _PRODUCTS for caller in _callers(event)):
            yield event


def _layer_times(requests: list[Any], taken_ns: Stopwatch) -> tuple[LayerTime, ...]:
    """Return the times of products and of generated code from the marks around requests."""
    inside = [list(_called(request)) for request in requests]
    products = list(zip(*(list(_outermost_products(events)) for events in inside), strict=True))
    times = [_product_time(index, calls, taken_ns) for index, calls in enumerate(products)]
    regions = [taken_ns(event for event in events if event.name.startswith(_COMPILED_CALL)) for events in inside]
    known = [sum(time.samples_ns[number] for time in times) for number in range(len(inside))]
    if not any(regions):
        return tuple(times)
    generated = tuple(max(0, region - product) for region, product in zip(regions, known, strict=True))
    name = "generated code"
    return (*times, LayerTime(name=name, operation="inductor", macs=0, weights=0, samples_ns=generated))


def _called(event: Any) -> Iterator[Any]:
    """Yield what an event called, directly or not, in the order in which it began."""
    for child in event.cpu_children:
        yield child
        yield from _called(child)


def _product_time(index: int, calls: tuple[Any, ...], taken_ns: Stopwatch) -> LayerTime:
    evidence = _layer_evidence(calls[0], index, "cpu")
    return LayerTime(
        name=evidence.name,
        operation=evidence.operation,
        macs=evidence.macs,
        weights=math.prod(calls[0].input_shapes[_PRODUCTS[calls[0].name][1]]),
        samples_ns=tuple(taken_ns([call]) for call in calls),
    )


def _elapsed_ns(events: Iterable[Any]) -> int:
    microseconds: float = sum(event.time_range.elapsed_us() for event in events)
    return round(1000 * microseconds)


def _kernels_ns(events: Iterable[Any]) -> int:
    microseconds: float = sum(event.device_time_total for event in events)
    return round(1000 * microseconds)


def _callers(event: Any) -> Iterator[Any]:
    caller = event.cpu_parent
    while caller is not None:
        yield caller
        caller = caller.cpu_parent


def _data_shape(event: Any) -> list[int]:
    shape: list[int] = event.input_shapes[_PRODUCTS[event.name][0]]
    return shape


def _batch_size(shapes: list[list[int]]) -> int:
    """Return the images in a request, 0 where products disagree: of every `(N, C, H, W)`, and the last product's rows.

    A 1x1 convolution may run as a matrix product with a row for every pixel, the last linear layer has one an image.
    """
    found = {shape[0] for shape in [*(shape for shape in shapes if len(shape) == 4), *shapes[-1:]]}
    return found.pop() if len(found) == 1 else 0


def _layer_evidence(event: Any, index: int, device_type: str) -> LayerEvidence:
    places = _PRODUCTS[event.name]
    data, weights = (event.input_shapes[place] for place in places)
    types = {event.input_dtypes[place] for place in places}
    names = _PRECISION_NAMES | {"float": fp32_means(device_type, "convolution" in event.name)}
    precisions = sorted(names.get(name, name) for name in types)
    compiled = any(caller.name.startswith(_COMPILED_CALL) for caller in _callers(event))
    return LayerEvidence(
        name=f"{event.name}[{index}]",
        operation=event.name,
        precision="+".join(precisions),
        placement="inductor" if compiled else "eager",
        macs=_macs(data, weights),
    )


def _macs(data: list[int], weights: list[int]) -> int:
    """Return the multiply-accumulates from shapes: a VGG's convolutions keep the size of `(N, C, H, W)`."""
    positions = data[0] * math.prod(data[2:])
    return positions * math.prod(weights)


BACKEND = CompiledTorchBackend()
