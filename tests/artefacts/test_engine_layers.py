"""Lists of layers as TensorRT for RTX 1.7.1 has written them, shortened to what is read of them."""

from __future__ import annotations

import pytest

from vggbench.artefacts.engine_layers import Tensor, census, check_types, product_types, read_layers
from vggbench.errors import ExportError

FOUR = "Format: (NHWC) Channel major format"


def tensor(dimensions: str, kind: str, name: str = "t") -> str:
    return (
        f"{{ Name: {name}, Dimensions: [{dimensions}], Strides: [36,1,12,4], StrideOrder: [3,0,2,1], "
        f"Datatype: {kind}, {FOUR} }}"
    )


def line(kind: str, inputs: str, constants: str, outputs: str, *nodes: str) -> str:
    names = "".join(f"[ONNX Layer: {node}]" for node in nodes)
    return (
        f"Name: some_{kind}_0, LayerType: {kind}, Inputs: [ {inputs}], Constants: [ {constants}], "
        f"Outputs: [ {outputs}], TacticName: __myelin_CASK_STUB, StreamId: 0, Metadata: {names}"
    )


EMPTY = (
    "Name: __mye1630_0_myl0_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , "
    "StreamId: 0, Metadata: "
)
END = "\n\nI/O Tensors:\n Name: input, IOMode: Input, DataType: Float, Dimensions: [-1,3,32,32]\n"
QUANTISED = [
    EMPTY,
    line("kgen", tensor("-1,3,32,32", "Float"), tensor("1", "Float"), tensor("-1,4,32,32", "Int8"), "features.0"),
    line(
        "correlation",
        tensor("-1,4,32,32", "Int8"),
        f"{tensor('8,4,3,3', 'Int8')}, {tensor('1,8,1,1', 'Float')}",
        tensor("-1,8,32,32", "Float"),
        "features.0",
        "input/dequantize",
    ),
    line("maxpool", tensor("-1,8,32,32", "Int8"), tensor("8", "Float"), tensor("-1,8,16,16", "Int8"), "features.3"),
    line("gemm", tensor("-1,64", "Int8"), tensor("64,10", "Int8"), tensor("-1,10", "Float"), "classifier.6"),
]
WEIGHTS = {"features.0": 8 * 3 * 3 * 3, "classifier.6": 640}
MACS = {"features.0": 96, "classifier.6": 4}


def layers(lines=QUANTISED):
    return read_layers("Layers:\n" + "\n".join(lines) + END)


def test_what_a_layer_is_made_of() -> None:
    found = layers()[2]
    assert found.inputs == (Tensor("Int8", 4 * 32 * 32),)
    assert found.constants == (Tensor("Int8", 8 * 4 * 9), Tensor("Float", 8))
    assert found.nodes == {"features.0", "input/dequantize"}


def test_the_census_counts_kinds_and_types() -> None:
    assert census(layers()) == {
        "correlation:Int8->Float": 1,
        "gemm:Int8->Float": 1,
        "kgen:Float->Int8": 1,
        "maxpool:Int8->Int8": 1,
    }


def test_products_are_where_the_weights_are() -> None:
    found = product_types(layers(), WEIGHTS)
    assert found == {"features.0": "Int8", "classifier.6": "Int8"}
    assert check_types(found, dict.fromkeys(WEIGHTS, "int8"), MACS) == 1


def test_weights_alone_in_eight_bits_are_no_product_in_eight_bits() -> None:
    only = line("gemm", tensor("-1,64", "Half"), tensor("64,10", "Int8"), tensor("-1,10", "Half"), "classifier.6")
    assert product_types(layers([only]), {"classifier.6": 640}) == {"classifier.6": "Half+Int8"}


def test_what_pads_an_image_is_not_taken_for_weights() -> None:
    padding = line("kgen", tensor("1,3,32,32", "Float"), tensor("1,1,32,32", "Half"), tensor("1,4,32,32", "Half"))
    padding += "[ONNX Layer: features.0]"
    assert product_types(layers([padding, *QUANTISED]), WEIGHTS)["features.0"] == "Int8"


def test_a_product_that_is_not_listed_is_in_no_type() -> None:
    assert product_types(layers()[:2], WEIGHTS) == {"features.0": "", "classifier.6": ""}


def test_a_name_that_begins_alike_is_another_layer() -> None:
    assert product_types(layers(), {"features.1": 1, "features": 1}) == {"features.1": "", "features": ""}


def test_other_types_than_asked_are_a_mismatch() -> None:
    found = product_types(layers(), WEIGHTS)
    with pytest.raises(
        ExportError, match=r"precision mismatch: 0% of the MACs.*features\.0 ran in Int8 and not in Half"
    ):
        check_types(found, dict.fromkeys(WEIGHTS, "fp16"), MACS)


def test_what_is_not_listed_counts_as_a_mismatch() -> None:
    with pytest.raises(ExportError, match=r"4% of the MACs.* 1 of 2 products .* ran in nothing that the list shows"):
        check_types({"features.0": "", "classifier.6": "Half"}, dict.fromkeys(WEIGHTS, "fp16"), MACS)


def test_five_percent_may_be_in_another_type_and_are_counted() -> None:
    found = {"features.0": "Half", "classifier.6": "Float"}
    assert check_types(found, dict.fromkeys(WEIGHTS, "fp16"), MACS) == pytest.approx(0.96)
    with pytest.raises(ExportError, match="94%"):
        check_types(found, dict.fromkeys(WEIGHTS, "fp16"), {"features.0": 94, "classifier.6": 6})


def test_layers_kept_in_fp32_are_asked_for_in_fp32() -> None:
    found = {"features.0": "Float", "classifier.6": "Half"}
    assert check_types(found, {"features.0": "fp32", "classifier.6": "fp16"}, MACS) == 1


@pytest.mark.parametrize("text", ["", "Layers:\n", "Layers:" + END])
def test_an_empty_list_proves_nothing(text: str) -> None:
    with pytest.raises(ExportError, match="cannot be proven"):
        read_layers(text)


def test_a_list_of_another_form_is_refused() -> None:
    with pytest.raises(ExportError, match="a form that is not known: 'Conv_0: Half'"):
        read_layers("Layers:\nConv_0: Half")
