"""Narrow networks that export in a second, and how their files are run."""

import numpy as np

from vggbench.data.synthetic import images
from vggbench.models.spec import make_spec
from vggbench.models.weights import load_module
from vggbench.parity.reference import reference_logits

FIVE_POOLS = "8,M,16,M,16,16@1,M,32,M,32,M"


def narrow(**changes):
    return make_spec(config=FIVE_POOLS, **{"input_size": 32, "num_classes": 10, "classifier_width": 64} | changes)


def sample(spec, count=3):
    return images(count, spec.input_size, seed=7)


def run_onnx(path, inputs):
    """Return every output by name, computed by ONNX Runtime on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"input": inputs}), strict=True))


def run_openvino(path, inputs):
    """Return every output by name, computed by OpenVINO in fp32."""
    import openvino

    compiled = openvino.Core().compile_model(
        path, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )
    return {output.any_name: values for output, values in compiled({"input": inputs}).items()}


def exact_logits(spec, weights, inputs):
    logits, _amplifications = reference_logits(load_module(spec, weights.path), inputs)
    return logits


def signal_error(observed, reference):
    """Return the error relative to what the inputs change in the output."""
    signal = np.linalg.norm(reference - reference.mean(axis=0))
    return np.linalg.norm(observed - reference) / signal
