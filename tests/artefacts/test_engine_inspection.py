"""What inspectors say of an engine, in the forms of TensorRT 10 and 11, shortened to what is read of them.

Not recorded on a GPU. The convolution of 10 has the form of the sample in NVIDIA's documentation of the inspector
(10.16, "Engine Tools"), its layers of Myelin and the tensors' words that of inspections in public projects; `I/O
Tensors` in place of `Bindings`, and `Datatype` beside `Format`, are as its guide "Migrating IEngineInspector Usage from
TensorRT 10.x to 11.x" (11.3) describes them, and the names of the tensors' entries those that the builder of TensorRT
for RTX 1.7.1 logs.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from vggbench.artefacts.engine_inspection import read_inspection, type_named
from vggbench.artefacts.engine_layers import Tensor, check_types, product_layers, product_types
from vggbench.errors import ExportError

CONVOLUTION = "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc_tilesize128x64x32"


def tensor(kind: str, words: str, *dimensions: int) -> dict[str, Any]:
    """Return a tensor as 10 has it, or as 11 does where the type stands by itself."""
    if words:
        return {"Name": "t", "Location": "Device", "Dimensions": dimensions, "Format/Datatype": words}
    strides = {"Strides": [1] * len(dimensions), "StrideOrder": [0] * len(dimensions)}
    return {"Name": "t", "Dimensions": dimensions, **strides, "Datatype": kind, "Format": "(NCHW) Row major"}


def ten(words: str = "Channel major FP16 format where channel % 8 == 0", kind: str = "Half") -> dict[str, Any]:
    convolution = {
        "Name": "features.0 + features.2",
        "LayerType": "CaskConvolution",
        "Inputs": [tensor(kind, words, -1, 3, 32, 32)],
        "Outputs": [tensor(kind, words, -1, 8, 32, 32)],
        "ParameterType": "Convolution",
        "Kernel": [3, 3],
        "OutMaps": 8,
        "Weights": {"Type": kind, "Count": 216},
        "Bias": {"Type": "Float", "Count": 8},
        "TacticName": CONVOLUTION,
        "TacticValue": "0x11bde0e1d9f2f35d",
        "Metadata": "[ONNX Layer: features.0]\u001e[ONNX Layer: features.2]",
    }
    product = {
        "Name": "__myl_Fc_myl0_1",
        "LayerType": "gemm",
        "Inputs": [tensor(kind, words, -1, 64), tensor(kind, words, 64, 10)],
        "Outputs": [tensor("Float", "Row major linear FP32", -1, 10)],
        "TacticName": "sm80_xmma_gemm_f16f16_f16f16_f16_tn_n_tilesize64x64x32",
        "Metadata": "[ONNX Layer: classifier.6]",
    }
    reformat = {"Name": "Reformatting CopyNode", "LayerType": "Reformat", "Inputs": [], "Outputs": [], "Metadata": ""}
    return {"Layers": [reformat, convolution, product], "Bindings": ["input", "logits"]}


def eleven(kind: str) -> dict[str, Any]:
    convolution = {
        "Name": "__myl_Conv_myl0_0",
        "LayerType": "correlation",
        "Inputs": [tensor(kind, "", -1, 3, 32, 32)],
        "Constants": [tensor(kind, "", 8, 3, 3, 3), tensor("Float", "", 1, 8, 1, 1)],
        "Outputs": [tensor("Float", "", -1, 8, 32, 32)],
        "TacticName": CONVOLUTION,
        "StreamId": 0,
        "Metadata": "[ONNX Layer: features.0]",
    }
    product = convolution | {
        "Name": "__myl_Fc_myl0_1",
        "LayerType": "gemm",
        "Inputs": [tensor(kind, "", -1, 64)],
        "Constants": [tensor(kind, "", 64, 10)],
        "Metadata": "[ONNX Layer: classifier.6]",
    }
    tensors = [{"Name": "input", "IOMode": "Input", "DataType": "Float", "Dimensions": [-1, 3, 32, 32]}]
    return {"Layers": [convolution, product], "I/O Tensors": tensors, "Engine Metadata": {"Multi-Device": "Disabled"}}


WEIGHTS = {"features.0": 216, "classifier.6": 640}


def types(inspection: dict[str, Any]) -> dict[str, str]:
    return product_types(read_inspection(json.dumps(inspection)), WEIGHTS)


@pytest.mark.parametrize(
    ("inspection", "found"),
    [
        (ten(), "Half"),
        (ten("Row major linear FP32", "Float"), "Float"),
        (ten("Thirty-two wide channel vectorized row major Int8 format.", "Int8"), "Int8"),
        (ten("Row major linear BF16", "BFloat16"), "BFloat16"),
        (ten("Half"), "Half"),
        *[(eleven(kind), kind) for kind in ("Float", "Half", "BFloat16", "Int8", "FP8")],
    ],
)
def test_products_multiply_in_the_types_that_either_form_names(inspection: dict[str, Any], found: str) -> None:
    assert types(inspection) == dict.fromkeys(WEIGHTS, found)


def test_a_layer_that_lists_no_weights_is_known_by_what_it_does() -> None:
    layers = read_inspection(json.dumps(ten()))
    found = product_layers(layers, WEIGHTS)
    assert {name: layer and layer.name for name, layer in found.items()} == {
        "features.0": "features.0 + features.2",
        "classifier.6": "__myl_Fc_myl0_1",
    }
    assert found["features.0"].constants == (Tensor("Half", 216),)
    assert found["features.0"].tactic == CONVOLUTION
    assert product_layers(layers, {"features.9": 1}) == {"features.9": None}


def test_a_kernel_that_rounds_to_tf32_is_told_by_its_name() -> None:
    inspection = eleven("Float")
    for layer in inspection["Layers"]:
        layer["TacticName"] = "sm80_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nhwc"
    found = types(inspection)
    assert set(found.values()) == {"TF32"}
    macs = dict.fromkeys(WEIGHTS, 1)
    assert check_types(found, dict.fromkeys(WEIGHTS, "tf32"), macs) == 1
    with pytest.raises(ExportError, match="ran in TF32 and not in Float"):
        check_types(found, dict.fromkeys(WEIGHTS, "fp32"), macs)


def test_weights_alone_in_another_type_are_seen() -> None:
    inspection = eleven("Half")
    inspection["Layers"][0]["Constants"][0]["Datatype"] = "Int8"
    assert types(inspection)["features.0"] == "Half+Int8"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("not JSON", "is not JSON"),
        ("[]", "lists no layers"),
        ('{"Layers": []}', "lists no layers"),
        ('{"Layers": ["features.0 + features.2"]}', "names of layers only; .* without detailed profiling verbosity"),
    ],
)
def test_what_proves_nothing_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ExportError, match=complaint):
        read_inspection(text)


def test_words_without_a_type_are_kept() -> None:
    assert type_named("Unknown") == "Unknown"
