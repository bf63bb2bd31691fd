"""The reference of a quantised file, and what is seen of a file that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.artefacts.networks import narrow, run_onnx
from tests.artefacts.quantized_files import KINDS, OTHER, SPEC, changed, quantized
from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.weights import weights_artefact
from vggbench.data.synthetic import images
from vggbench.errors import ArtefactError, CellError
from vggbench.models.spec import ModelSpec
from vggbench.parity import quantized_reference
from vggbench.parity.check import check
from vggbench.parity.metrics import compare
from vggbench.parity.quantized_reference import outputs, quantized_reference_artefact, rounded
from vggbench.parity.reference import reference_artefact
from vggbench.parity.tolerance import LARGEST, LEAST_SPREAD, SPREAD_MARGIN, spread_tolerance


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


def exact(exports: Path, spec: ModelSpec = SPEC) -> Artefact:
    return reference_artefact(spec, exports, weights_artefact(spec, exports))


def arrays_of(exports: Path, artefact: Artefact, spec: ModelSpec = SPEC) -> dict[str, np.ndarray]:
    with np.load(quantized_reference_artefact(spec, exports, artefact, exact(exports, spec)).path) as stored:
        return dict(stored)


def onnxs_own(path: Path, inputs: np.ndarray) -> np.ndarray:
    """Return what ONNX's reference implementation makes of the file, in the types it says."""
    from onnx.reference import ReferenceEvaluator

    return np.asarray(ReferenceEvaluator(onnx.load(path)).run(["logits"], {"input": inputs})[0])


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "layout"), KINDS)
def test_it_is_what_another_implementation_makes_of_the_file(exports: Path, precision: str, layout: str):
    """In fp32, where a value in the middle of two numbers of a grid may fall to the other side: hence few images."""
    artefact = quantized(exports, precision, layout)
    inputs = images(2, SPEC.input_size, 4)
    ours, perturbed = outputs(artefact.path, inputs)
    theirs = onnxs_own(artefact.path, inputs)
    near = np.abs(ours - theirs).max()
    assert near < 0.25 * np.abs(perturbed - ours).max()
    assert ours.dtype == np.float64


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "layout"), KINDS)
def test_what_is_stored(exports: Path, precision: str, layout: str):
    arrays = arrays_of(exports, quantized(exports, precision, layout))
    assert set(arrays) == {"inputs", "logits", "exact_logits", "spread"}
    with np.load(exact(exports).path) as module:
        np.testing.assert_array_equal(arrays["inputs"], module["inputs"])
        np.testing.assert_array_equal(arrays["exact_logits"], module["logits"])
    cost = compare(arrays["logits"], arrays["exact_logits"]).signal_error
    assert 0.005 < cost < (LARGEST if precision == "int8" else 1)
    assert cost / 4 < arrays["spread"] < 4 * cost, "roundings perturbed by as much as they are wrong"


@pytest.mark.slow
def test_it_is_computed_once_for_a_file_and_a_module(exports: Path, monkeypatch: pytest.MonkeyPatch):
    made = quantized_reference_artefact(SPEC, exports, quantized(exports, "int8", "ort"), exact(exports))
    monkeypatch.setattr(quantized_reference, "outputs", None)
    assert quantized_reference_artefact(SPEC, exports, quantized(exports, "int8", "ort"), exact(exports)) == made


@pytest.mark.slow
def test_a_file_that_was_edited_is_not_evaluated(exports: Path, tmp_path: Path):
    artefact = quantized(exports, "fp8", "trt")
    copy = changed(artefact, tmp_path / "copy", lambda _: None)
    with pytest.raises(ArtefactError):
        quantized_reference_artefact(SPEC, tmp_path, copy, exact(exports))


@pytest.mark.slow
def test_a_file_that_overflows_is_a_failed_cell(exports: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    broken = np.full((8, 10), np.nan)
    monkeypatch.setattr(quantized_reference, "outputs", lambda *_: (broken, broken))
    with pytest.raises(CellError, match="80 of the quantised reference's 80 outputs are not finite"):
        quantized_reference_artefact(SPEC, tmp_path, quantized(exports, "int8", "ort"), exact(exports))


@pytest.mark.parametrize(
    ("steps", "zero", "expected"),
    [
        ([-3.0, 0.4, 0.5, 1.5, 300.0], np.uint8(0), [0, 0, 0, 2, 255]),  # halves to the even one; the ends hold
        ([-3.0, 0.4, 1.5, 200.0], np.uint8(100), [97, 100, 102, 255]),
        ([-200.0, -0.6, 126.6, 200.0], np.int8(0), [-128, -1, 127, 127]),
    ],
)
def test_rounding_to_whole_numbers(steps: list[float], zero: Any, expected: list[int]):
    found = rounded(np.array(steps), np.asarray(zero), 0.0)
    assert (found.tolist(), found.dtype) == (expected, zero.dtype)


def test_rounding_to_fp8_and_a_step_of_it():
    kind = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.FLOAT8E4M3FN)
    zero = np.zeros((), dtype=kind)
    steps = np.array([1.0, 17.0, -17.1, 1000.0, 0.001, 0.0])
    assert rounded(steps, zero, 0.0).astype(np.float64).tolist() == [1.0, 16.0, -18.0, 448.0, 2.0**-9, 0.0]
    up = rounded(np.array([1.0, 16.0, 0.0]), zero, np.array([0.51, 0.51, 0.51])).astype(np.float64)
    assert up.tolist() == [1.125, 18.0, 2.0**-9], "by one step each, however large it is there"


def test_perturbed_roundings_move_by_half_a_step():
    steps = np.random.default_rng(0).uniform(0, 200, 100_000)
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, steps.shape)
    zero = np.asarray(np.uint8(0))
    moved = rounded(steps, zero, noise).astype(float) - rounded(steps, zero, 0.0)
    assert np.sqrt(np.mean(moved**2)) == pytest.approx(0.5, rel=0.02)
    unrelated = rounded(steps, zero, 0.0) - steps
    assert np.std(unrelated - np.roll(unrelated, 1)) == pytest.approx(np.sqrt(1 / 6), rel=0.02)


def test_the_tolerance_of_a_spread():
    assert spread_tolerance(0.1) == SPREAD_MARGIN * 0.1
    assert spread_tolerance(1.0) == spread_tolerance(np.inf) == LARGEST
    assert spread_tolerance(0.0) == LEAST_SPREAD
    with pytest.raises(ValueError, match="spread"):
        spread_tolerance(np.nan)


def doubled(name: str, other: str = "") -> Any:
    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[name + other] = tensors[name] * np.float32(2)

    return change


def moved(tensors: dict[str, np.ndarray]) -> None:
    """Move the zero point that the input is dequantised with by 40 of its 255 steps."""
    tensors["input/zero" + OTHER] = (tensors["input/zero"].astype(int) + 40).astype(np.uint8)


def exchanged(tensors: dict[str, np.ndarray]) -> None:
    """Give every channel of a convolution the scale of the next one, as a wrong axis would."""
    tensors["features.8.weight/scale"] = np.roll(tensors["features.8.weight/scale"], 1)
    tensors["features.4.weight/scale"] = np.roll(tensors["features.4.weight/scale"], 1)


def clipped(tensors: dict[str, np.ndarray]) -> None:
    """Let an activation reach a tenth of its range."""
    for name in ("features.2/scale", "features.3/scale"):
        if name in tensors:
            tensors[name] = tensors[name] / np.float32(10)


def per_tensor(tensors: dict[str, np.ndarray]) -> None:
    """Round all channels of a convolution to the scale that the largest would have if it were 16 times as large."""
    numbers, scales = (tensors[f"features.8.weight/{part}"] for part in ("quantized", "scale"))
    widest = 16 * scales.max()
    shape = (-1, *[1] * (numbers.ndim - 1))
    tensors["features.8.weight/quantized"] = np.rint(numbers * scales.reshape(shape) / widest).astype(np.int8)
    tensors["features.8.weight/scale"] = np.full_like(scales, widest)


MUTANTS = {
    "an activation's scale off by 2": doubled("features.3/scale", OTHER),
    "a weight's scales off by 2": doubled("features.0.weight/scale"),
    "a zero point moved": moved,
    "scales of other channels": exchanged,
    "weights rounded per tensor": per_tensor,
    "a range clipped to a tenth": clipped,
}


@pytest.mark.slow
@pytest.mark.parametrize("change", MUTANTS.values(), ids=MUTANTS.keys())
def test_a_wrong_file_is_seen(exports: Path, tmp_path: Path, change: Any):
    """As ONNX Runtime runs it in int8, against the reference of the right one."""
    artefact = quantized(exports, "int8", "ort")
    arrays = arrays_of(exports, artefact)
    tolerance = spread_tolerance(float(arrays["spread"]))

    def verdict(found: Artefact) -> Any:
        outputs = run_onnx(found.path, arrays["inputs"])["logits"]
        return check(outputs, arrays["logits"], tolerance, exact=arrays["exact_logits"])

    right, wrong = verdict(artefact), verdict(changed(artefact, tmp_path / "wrong", change))
    assert right.reasons == ()
    assert right.metrics.signal_error < tolerance / 1.5
    assert not wrong.passed
    assert wrong.metrics.signal_error > tolerance


def test_what_quantisation_cost_is_a_figure_of_its_own():
    logits = np.random.default_rng(0).standard_normal((8, 10))
    near, far = logits + 0.1, 5 * np.roll(logits, 1, axis=0)
    verdict = check(logits, logits, 0.1, exact=near)
    assert verdict.passed
    assert verdict.quantization_error == compare(logits, near).signal_error
    assert check(logits, logits, 0.1).quantization_error is None
    lost = check(logits, logits, 0.1, exact=far)
    assert not lost.passed
    (reason,) = lost.reasons
    assert reason.startswith("quantisation cost ")
    assert "all of it may be lost" in reason


@pytest.mark.slow
def test_a_network_whose_signal_no_grid_can_hold(tmp_path: Path):
    """Weights as PyTorch's own layers begin with them: what the images change is far below a step at the end."""
    import torch

    from vggbench.models.spec import make_spec

    shape = {"config": "8,8,M,8,8,M,8,8,8,M,8,8,8", "batch_norm": True, "input_size": 32, "num_classes": 10}
    shape["classifier_width"] = 64
    torch.manual_seed(0)
    from vggbench.models.vgg import VGG

    module = VGG(make_spec(**shape))
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.reset_parameters()
    torch.save(module.state_dict(), tmp_path / "begun.pth")
    spec = make_spec(weights=str(tmp_path / "begun.pth"), **shape)
    artefact = quantized(tmp_path, "int8", "ort", spec)
    arrays = arrays_of(tmp_path, artefact, spec)
    outputs = run_onnx(artefact.path, arrays["inputs"])["logits"]
    verdict = check(outputs, arrays["logits"], spread_tolerance(float(arrays["spread"])), exact=arrays["exact_logits"])
    flat = float(np.vdot(outputs, arrays["exact_logits"]))
    cosine = flat / np.linalg.norm(outputs) / np.linalg.norm(arrays["exact_logits"])
    assert cosine > 0.999, "the plain cosine sees nothing"
    assert verdict.quantization_error > 1
    assert not verdict.passed
    assert any("quantisation cost" in reason for reason in verdict.reasons)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [narrow(local_response_norm="literal"), narrow(input_size=192)], ids=["lrn", "pool"])
def test_networks_of_other_operators(tmp_path: Path, spec: ModelSpec):
    artefact = quantized(tmp_path, "int8", "ort", spec)
    arrays = arrays_of(tmp_path, artefact, spec)
    outputs = run_onnx(artefact.path, arrays["inputs"])["logits"]
    assert check(outputs, arrays["logits"], spread_tolerance(float(arrays["spread"]))).reasons == ()
