"""ONNX's own reference evaluator: an oracle, not an engine.

It evaluates a file operator by operator in numpy, in the types that the file says, and no optimiser is in the way. So
what a typed file computes can be told on any machine, and what an engine makes of the file be held against it. Its
times are those of numpy. `onnx_operators` says how products are accumulated.

What ran is read from the arrays themselves: every node is watched while a request is made.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.quantization import LAYOUTS
from vggbench.backends.base import (
    Available,
    Evidence,
    FileForm,
    LayerEvidence,
    LayerTime,
    Options,
    SessionContext,
    Support,
    Unavailable,
    quantizer_layout,
    tensor_specs,
)
from vggbench.backends.onnx_operators import ACCUMULATION, operators

_PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
_PRECISION_NAMES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64"}
_EIGHT_BIT_NAMES = {"uint8": "int8", "int8": "int8", "float8_e4m3fn": "fp8"}
_PRODUCTS = {"Conv", "Gemm", "MatMul"}
_DEQUANTIZER = "DequantizeLinear"
_PLACE = "numpy"


class OnnxReferenceBackend:
    """`onnx.reference.ReferenceEvaluator`."""

    name = "onnx-reference"
    artefact_kind = "onnx"
    option_values: Mapping[str, tuple[str, ...]] = {"layout": ("", *LAYOUTS)}

    def availability(self, device: str) -> Available | Unavailable:
        """Import onnx and say its version."""
        if device != "cpu":
            return Unavailable(f"onnx-reference evaluates on the CPU only, not on {device}", "use --device cpu")
        try:
            import onnx.reference
            import threadpoolctl  # noqa: F401 - which sets numpy's threads
        except (ImportError, OSError) as error:
            return Unavailable(f"onnx-reference lacks a library: {error}", "pip install onnx threadpoolctl")
        return Available(str(onnx.__version__))

    def supports(self, precision: str, device: str) -> Support:  # noqa: ARG002 - the CPU is the only device
        """Say yes to the types that a file can have: it evaluates what the file says."""
        if precision in _PRECISIONS:
            return Support(True)
        if precision == "tf32":
            return Support(False, "a file has no tf32: it is a mode of NVIDIA's GPUs")
        return Support(False, f"onnx-reference is given no {precision} file")

    def file_form(self, precision: str, options: Options) -> FileForm:
        """Go by the file's types."""
        return FileForm(precision, quantizer_layout(precision, options))

    def open(
        self,
        artefact: Artefact,
        *,
        device: str,  # noqa: ARG002 - availability refused all but the CPU
        precision: str,  # noqa: ARG002 - the file's types decide, and evidence reads them back
        batch_size: int,
        threads: int,
        in_flight: int,
        options: Options,  # noqa: ARG002 - they decided which file it is
    ) -> OnnxReferenceSession:
        """Read the whole file into memory."""
        return OnnxReferenceSession(artefact, batch_size, threads, in_flight)


class OnnxReferenceSession(SessionContext):
    """One evaluator; a request takes its caller's thread, and numpy's own for its products."""

    timeline = "host"

    def __init__(self, artefact: Artefact, batch_size: int, threads: int, in_flight: int) -> None:
        import onnx
        import threadpoolctl
        from onnx.reference import ReferenceEvaluator

        self.slots = in_flight
        self.input_spec, self.output_spec = tensor_specs(artefact, batch_size)
        self._version = str(onnx.__version__)
        self._evaluator: Any = ReferenceEvaluator(onnx.load(artefact.path), new_ops=operators())
        self._limits: Any = threadpoolctl.threadpool_limits(max(1, threads // in_flight), user_api="blas")
        self._inputs: list[NDArray[np.float32] | None] = [None] * in_flight
        self._outputs: list[NDArray[np.float32] | None] = [None] * in_flight

    def stage(self, slot: int, batch: NDArray[np.float32]) -> None:
        """Keep the array itself."""
        self._inputs[slot] = batch

    def enqueue(self, slot: int) -> None:
        """Evaluate the request to its end."""
        batch = self._inputs[slot]
        assert batch is not None, "stage comes before enqueue"
        self._outputs[slot] = self._evaluate(batch)

    def _evaluate(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with np.errstate(all="ignore"):  # what overflows a type is infinite, and seen in the outputs
            (logits,) = self._evaluator.run([self.output_spec.name], {self.input_spec.name: batch})
        values: NDArray[np.float32] = logits
        return values

    def wait(self, slot: int) -> None:
        """Return at once: the request is over."""

    def fetch(self, slot: int) -> NDArray[np.float32]:
        """Return the logits as a copy."""
        logits = self._outputs[slot]
        assert logits is not None, "enqueue comes before fetch"
        return np.array(logits, dtype=np.float32)

    def evidence(self) -> Evidence:
        """Evaluate one request and look at the arrays that every node takes and makes."""
        staged = self._inputs[0]
        with _watching(self._evaluator) as nodes:
            logits = self._evaluate(np.zeros(self.input_spec.shape, np.float32) if staged is None else staged)
        return Evidence(
            device="cpu",
            threads=_blas_threads() * self.slots,
            batch_size=len(logits),
            layers=tuple(node.evidence(_grids(nodes)) for node in nodes if node.is_product),
            placements={_PLACE: len(nodes)},
            flags={"role": "oracle", "accumulation": ACCUMULATION, "version": self._version},
        )

    def layer_times(self, run: Callable[[], None], requests: int) -> tuple[LayerTime, ...]:
        """Make the requests with a stopwatch around every node."""
        with _watching(self._evaluator) as nodes:
            for _ in range(requests):
                run()
        return tuple(node.layer_time() for node in nodes)

    def close(self) -> None:
        """Drop the evaluator, and give numpy its threads back."""
        self._evaluator = None
        if self._limits is not None:
            self._limits.restore_original_limits()
            self._limits = None


def _blas_threads() -> int:
    """Return how many threads numpy's products use, read back; the most where there are several libraries."""
    import threadpoolctl

    return max(
        (int(found["num_threads"]) for found in threadpoolctl.threadpool_info() if found["user_api"] == "blas"),
        default=1,
    )


def _grids(nodes: Sequence[_Watched]) -> dict[str, str]:
    """Return the 8-bit type that each tensor was dequantised from, by name."""
    found = {node.node.onnx_node.output[0]: node.operands[0].dtype.name for node in nodes if node.is_dequantizer}
    return {name: _EIGHT_BIT_NAMES[dtype] for name, dtype in found.items() if dtype in _EIGHT_BIT_NAMES}


@dataclass(slots=True)
class _Watched:
    """A node of the evaluator, and what it was seen to do the last time it ran."""

    node: Any
    samples_ns: list[int] = field(default_factory=list)
    operands: tuple[NDArray[Any], ...] = ()
    result: NDArray[Any] | None = None

    @property
    def is_product(self) -> bool:
        """Whether it multiplies and accumulates."""
        return self.node.op_type in _PRODUCTS

    @property
    def is_dequantizer(self) -> bool:
        """Whether it makes floats of 8-bit numbers."""
        return bool(self.node.op_type == _DEQUANTIZER)

    def run(self, call: Callable[..., Any], *inputs: Any, **rest: Any) -> Any:
        """Run the node with a stopwatch."""
        start = time.perf_counter_ns()
        outputs = call(*inputs, **rest)
        self.samples_ns.append(time.perf_counter_ns() - start)
        if self.is_product or self.is_dequantizer:
            self.operands, self.result = inputs[:2], outputs[0]
        return outputs

    def evidence(self, grids: Mapping[str, str]) -> LayerEvidence:
        """Say what types it multiplied and made; or what both operands were just dequantised from."""
        assert self.result is not None, "it has run"
        dtypes = {array.dtype.name for array in (*self.operands, self.result)}
        names = set(self.node.onnx_node.input[:2])
        if names <= grids.keys():
            dtypes = {grids[name] for name in names}
        return LayerEvidence(
            name=self.node.onnx_node.name,
            operation=self.node.op_type,
            precision="+".join(sorted(_PRECISION_NAMES.get(name, name) for name in dtypes)),
            placement=_PLACE,
            macs=self._macs,
        )

    def layer_time(self) -> LayerTime:
        """Say how long it took each time."""
        return LayerTime(
            name=self.node.onnx_node.name,
            operation=self.node.op_type,
            macs=self._macs if self.is_product else 0,
            weights=self.operands[1].size if self.is_product else 0,
            samples_ns=tuple(self.samples_ns),
        )

    @property
    def _macs(self) -> int:
        assert self.result is not None, "it has run"
        data, weights = self.operands
        if self.node.op_type == "Conv":
            return int(self.result.size) * math.prod(weights.shape[1:])
        transposed = getattr(self.node, "transA", 0)
        return int(self.result.size) * int(data.shape[0 if transposed else -1])


@contextmanager
def _watching(evaluator: Any) -> Iterator[list[_Watched]]:
    """Watch the evaluator's nodes: each gets a `run` of its own in front of its class's, for as long as this lasts."""
    nodes = [_Watched(node) for node in evaluator.rt_nodes_]
    for watched in nodes:
        watched.node.run = _bind(watched, watched.node.run)
    try:
        yield nodes
    finally:
        for watched in nodes:
            del watched.node.run


def _bind(watched: _Watched, call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *inputs, **rest: watched.run(call, *inputs, **rest)


BACKEND = OnnxReferenceBackend()
