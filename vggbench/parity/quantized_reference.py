"""What an int8 or fp8 session is held against: the file's own graph in float64, its quantisers rounding as they say.

Two distances are told apart by it. How far a backend is from this graph says whether the backend is right; how far it
is from PyTorch's module in float64 says what quantisation cost. The module's outputs are therefore stored beside the
graph's.

A backend that is right rounds to the same grids, but not always to the same numbers: what is near the middle between
two of them falls to either side by the last bit of a sum, and what has fallen otherwise once shifts what is rounded
later. How far that can go is measured here: the graph is evaluated a second time with every rounding perturbed by a
seeded number, uniform within half a step to either side, and the distance of the two outputs is the `spread`
(`tolerance.spread_tolerance` has what follows from it).

Imports onnx inside its functions, and not at all when the reference exists already.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact, check_files
from vggbench.artefacts.network_file import load_graph
from vggbench.artefacts.onnx_check import INPUT, LOGITS
from vggbench.artefacts.store import Request, Written, exists, prepare, tool_versions
from vggbench.backends.onnx_operators import operators
from vggbench.errors import CellError
from vggbench.models.spec import ModelSpec
from vggbench.parity.metrics import compare, has_signal
from vggbench.parity.reference import REFERENCE_FILE
from vggbench.parity.self_reference import evaluator

if TYPE_CHECKING:
    import onnx
    from onnx.reference.op_run import OpRun

SEED = 18540919  # of the perturbations
SCHEME = 1  # raised when the same file and images would give other arrays
_RANGES = {"uint8": (0, 255), "int8": (-128, 127)}
_FP8_LARGEST = 448.0
_FP8_FRACTION_BITS, _FP8_LEAST_EXPONENT = 3, -6


def quantized_reference_artefact(spec: ModelSpec, exports: Path, artefact: Artefact, exact: Artefact) -> Artefact:
    """Return the reference of an int8 or fp8 file, computed once and then found again.

    Its arrays are `inputs` (8, 3, S, S) fp32, `logits` (8, classes) float64 of the file's graph, `exact_logits` of the
    module, which `exact` has, and the number `spread`, relative to the signal of the logits; infinite where they have
    none. Raises `CellError` if a logit is not finite.
    """
    return prepare(_request(spec, artefact, exact), exports, lambda folder: _write(spec, artefact, exact, folder))


def is_made(spec: ModelSpec, exports: Path, artefact: Artefact, exact: Artefact) -> bool:
    """Whether the reference was computed already."""
    return exists(_request(spec, artefact, exact), exports)


def _request(spec: ModelSpec, artefact: Artefact, exact: Artefact) -> Request:
    return Request(
        kind="reference",
        format="reference",
        main=REFERENCE_FILE,
        spec=spec,
        precision="fp64",
        parent=artefact.sha256,
        material={"onnx": artefact.sha256, "exact": exact.sha256, "seed": SEED, "scheme": SCHEME},
    )


def _write(spec: ModelSpec, artefact: Artefact, exact: Artefact, folder: Path) -> Written:
    check_files(artefact)
    check_files(exact)
    with np.load(exact.path, allow_pickle=False) as stored:
        inputs, exact_logits = stored["inputs"], stored["logits"]
    logits, perturbed = outputs(artefact.path, inputs)
    if lost := int(np.count_nonzero(~np.isfinite(logits))):
        raise CellError(f"{spec.variant}: {lost} of the quantised reference's {logits.size} outputs are not finite")
    spread = spread_of(logits, perturbed)
    arrays = {"logits": logits, "exact_logits": exact_logits, "spread": np.float64(spread)}
    np.savez(folder / REFERENCE_FILE, inputs=inputs, **arrays)
    return Written(
        inputs=(("inputs", "float32", inputs.shape),),
        outputs=(("logits", "float64", logits.shape),),
        tools=tool_versions("onnx", "numpy"),
    )


def spread_of(plain: NDArray[np.float64], perturbed: NDArray[np.float64]) -> float:
    """Return how far perturbed outputs `(images, values)` are, relative to the signal; infinite where there is none."""
    return compare(perturbed, plain).signal_error if has_signal(plain) else np.inf


def outputs(path: Path, inputs: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a quantised file's logits in float64, as they are and with every rounding perturbed."""
    return evaluate(load_graph(path, with_data=True), INPUT, LOGITS, inputs)


def evaluate(
    model: onnx.ModelProto, start: str, end: str, inputs: NDArray[np.floating], batch: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what a quantised graph makes of the value `start`, called `end`, in float64; it uses up the graph.

    As it is, and with every rounding perturbed; so many images at a time.
    """
    noise = _Noise()
    compute = evaluator(model, [end], _operators(noise))
    batches = [inputs[first : first + batch] for first in range(0, len(inputs), batch)]
    plain = [compute({start: images})[end] for images in batches]
    noise.random = np.random.default_rng(SEED)
    perturbed = [compute({start: images})[end] for images in batches]
    return np.concatenate(plain), np.concatenate(perturbed)


class _Noise:
    """What is added before a rounding, in steps: nothing until there is a generator."""

    random: np.random.Generator | None = None

    def __call__(self, shape: tuple[int, ...]) -> float | NDArray[np.float64]:
        return 0.0 if self.random is None else self.random.uniform(-0.5, 0.5, shape)


def _operators(noise: _Noise) -> Sequence[type[OpRun]]:
    """Return what is computed otherwise than ONNX's own does: rounding in float64, and products that take too long."""
    return [*operators(), _quantize(noise), _dequantize()]


def _quantize(noise: _Noise) -> type[OpRun]:
    from onnx.reference.op_run import OpRun

    class QuantizeLinear(OpRun):
        def _run(self, x: Any, scale: Any, zero: Any, **_attributes: Any) -> tuple[NDArray[Any]]:
            return (rounded(x / scale, zero, noise(x.shape)),)

    return QuantizeLinear


def rounded(steps: NDArray[np.float64], zero: NDArray[Any], noise: float | NDArray[np.float64]) -> NDArray[Any]:
    """Return the numbers of the zero point's type that are nearest; `noise` is added, in steps of the grid there."""
    if zero.dtype.name in _RANGES:
        numbers: NDArray[Any] = np.clip(np.rint(steps + noise) + zero, *_RANGES[zero.dtype.name]).astype(zero.dtype)
        return numbers
    exponent = np.where(steps == 0, _FP8_LEAST_EXPONENT, np.frexp(steps)[1] - 1)
    step = np.ldexp(1.0, np.maximum(exponent, _FP8_LEAST_EXPONENT) - _FP8_FRACTION_BITS)
    floats: NDArray[Any] = np.clip(steps + noise * step, -_FP8_LARGEST, _FP8_LARGEST).astype(zero.dtype)
    return floats


def _dequantize() -> type[OpRun]:
    from onnx.reference.op_run import OpRun

    class DequantizeLinear(OpRun):
        def _run(self, x: Any, scale: Any, zero: Any, axis: int = 1, **_attributes: Any) -> tuple[NDArray[Any]]:
            shape = [-1 if place == axis else 1 for place in range(x.ndim)] if scale.ndim else []
            return ((x.astype(np.float64) - zero.astype(np.float64).reshape(shape)) * scale.reshape(shape),)

    return DequantizeLinear
