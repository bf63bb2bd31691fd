"""The tolerance against engines that share no code with PyTorch: above each one's error, and near it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.onnx import onnx_artefact
from vggbench.artefacts.weights import weights_artefact
from vggbench.models.layers import mac_layers
from vggbench.models.spec import ModelSpec, make_spec
from vggbench.parity.check import check
from vggbench.parity.metrics import amplification
from vggbench.parity.reference import reference_artefact
from vggbench.parity.tolerance import tolerance

SMALL = {"input_size": 32, "num_classes": 10, "classifier_width": 64}
NETWORKS = {
    "plain": make_spec(config="8,8,M,16,16,M,32,32@1,M", **SMALL),
    "batch norm": make_spec(config="32,32,M,64,64,M,128,128,M", batch_norm=True, **SMALL),
    "response norm": make_spec(config="8,M,16,M,32,32,M", local_response_norm="literal", **SMALL),
}


class Case:
    """One network's exported file and reference."""

    def __init__(self, spec: ModelSpec, folder: Path) -> None:
        weights = weights_artefact(spec, folder)
        self.artefact: Artefact = onnx_artefact(spec, folder, weights)
        with np.load(reference_artefact(spec, folder, weights).path) as arrays:
            self.inputs, self.logits = arrays["inputs"], arrays["logits"]
        self.lengths = [layer.reduction_length for layer in mac_layers(spec)]

    def margin(self, observed: np.ndarray, precision: str) -> float:
        """Return how many times the error fits into the tolerance; the check itself must have passed."""
        verdict = check(observed, self.logits, tolerance(precision, self.lengths, amplification(self.logits)))
        assert verdict.reasons == ()
        assert verdict.metrics is not None
        return verdict.tolerance / verdict.metrics.passing_tolerance


@pytest.fixture(scope="module", params=NETWORKS.values(), ids=NETWORKS.keys())
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp("exports"))


@pytest.mark.slow
@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"])
def test_onnxruntime_fp32(case: Case, level: str) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(case.artefact.path, options, providers=["CPUExecutionProvider"])
    assert 2 < case.margin(session.run(["logits"], {"input": case.inputs})[0], "fp32") < 60


@pytest.mark.parametrize(("hint", "precision", "most"), [("f32", "fp32", 60), ("bf16", "bf16", 20)])
def test_openvino(case: Case, hint: str, precision: str, most: float) -> None:
    import openvino

    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("OpenVINO lists no BF16 among this CPU's capabilities")
    model = core.read_model(case.artefact.path)
    model.reshape({"input": list(case.inputs.shape)})
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    assert 2 < case.margin(compiled({"input": case.inputs})["logits"], precision) < most
