from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.network_files import CLASSES, PARAMETERS, SIZE, residual, weights, write, write_apart
from vggbench.artefacts.artefact import check_files
from vggbench.artefacts.network_file import network_artefact, read_network_file
from vggbench.errors import ArtefactError, RequestError
from vggbench.models.network_file import NetworkFile, network_from_json
from vggbench.models.spec import make_spec


def refused(path: Path | str, input_size: int | None = None) -> str:
    with pytest.raises(RequestError) as caught:
        read_network_file(str(path), input_size)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


def test_what_a_file_is(tmp_path: Path):
    path = write(tmp_path / "small net.onnx")
    network = read_network_file(str(path))
    assert network == NetworkFile(
        variant="small_net",
        path=str(path),
        sha256=network.sha256,
        input_name="pixels",
        output_name="scores",
        input_size=SIZE,
        num_classes=CLASSES,
        batch_size=0,
        parameters=PARAMETERS,
        weights_type="fp32",
    )
    assert NetworkFile.from_json(network.to_json()) == network == network_from_json(network.to_json())
    assert network_from_json(make_spec("vgg11").to_json()) == make_spec("vgg11")


def bolder(model: onnx.ModelProto) -> None:
    last = model.graph.initializer[-1]
    last.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(last), last.name))


def test_the_identity_is_the_content_and_not_the_place(tmp_path: Path):
    (tmp_path / "other").mkdir()
    one, same = (read_network_file(str(write(tmp_path / name))) for name in ("a.onnx", "other/b.onnx"))
    differing = read_network_file(str(write(tmp_path / "c.onnx", change=bolder)))
    assert one.digest() == same.digest() != differing.digest()


@pytest.mark.parametrize(("stem", "variant"), [("...", "network"), ("-r", "r"), ("é" * 99, "_" * 60), ("a.b", "a.b")])
def test_a_name_that_a_folder_can_have(tmp_path: Path, stem: str, variant: str):
    assert read_network_file(str(write(tmp_path / f"{stem}.onnx"))).variant == variant


def test_an_edited_record_names_no_folder_elsewhere(tmp_path: Path):
    data = read_network_file(str(write(tmp_path / "net.onnx"))).to_json()
    for changed in (
        {"variant": "../net"},
        {"variant": ""},
        {"num_classes": 0},
        {"batch_size": -1},
        {"batch_size": "1"},
    ):
        with pytest.raises(RequestError, match="network file"):
            NetworkFile.from_json(data | changed)


def test_old_files_list_their_weights_among_the_inputs(tmp_path: Path):
    def listed(model: onnx.ModelProto) -> None:
        for name, value in weights().items():
            model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))

    assert read_network_file(str(write(tmp_path / "net.onnx", change=listed))).input_name == "pixels"


@pytest.mark.parametrize(("side", "asked", "found"), [(SIZE, None, SIZE), (SIZE, SIZE, SIZE), ("s", 24, 24)])
def test_the_input_size(tmp_path: Path, side: int | str, asked: int | None, found: int):
    path = write(tmp_path / "net.onnx", residual(side=side))
    assert read_network_file(str(path), asked).input_size == found


@pytest.mark.parametrize(
    ("side", "asked", "words"),
    [("s", None, "any size; choose one with --input-size"), (SIZE, 8, "16x16 pixels, not of 8"), ("s", 0, "from 1 to")],
)
def test_an_input_size_that_cannot_be(tmp_path: Path, side: int | str, asked: int | None, words: str):
    assert words in refused(write(tmp_path / "net.onnx", residual(side=side)), asked)


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04", residual().SerializeToString()[:-100]])
def test_what_is_no_onnx(tmp_path: Path, content: bytes):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    assert str(path) in refused(path)


@pytest.mark.parametrize("name", ["", "/nowhere/net.onnx", ".", "a" * 5000, "~nobody-here/net.onnx", "a\0b"])
def test_a_file_that_is_not_there(name: str):
    assert "ONNX file" in refused(name)


def add_node(*arguments: Any, **attributes: Any) -> Callable[[onnx.ModelProto], None]:
    return lambda model: model.graph.node.insert(0, helper.make_node(*arguments, **attributes))


def edited(value: str, **changes: Any) -> Callable[[onnx.ModelProto], None]:
    """Return a change of the input's or output's type and shape."""

    def change(model: onnx.ModelProto) -> None:
        place = model.graph.input if value == "pixels" else model.graph.output
        old = place[0].type.tensor_type
        shape = changes.get("shape", [dimension.dim_value or dimension.dim_param for dimension in old.shape.dim])
        place[0].CopyFrom(helper.make_tensor_value_info(value, changes.get("kind", old.elem_type), shape))

    return change


BAD_GRAPHS = {
    "two inputs": (
        lambda model: model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1])),
        "2 inputs and 1 outputs",
    ),
    "two outputs": (
        lambda model: model.graph.output.append(helper.make_tensor_value_info("pooled", TensorProto.FLOAT, None)),
        "1 inputs and 2 outputs",
    ),
    "integer images": (
        edited("pixels", kind=TensorProto.INT64),
        "'pixels' is int64 (n, 3, 16, 16); an image",
    ),
    "flat images": (edited("pixels", shape=["n", 768]), "'pixels' is float (n, 768); an image input"),
    "grey images": (edited("pixels", shape=["n", 1, SIZE, SIZE]), "has 1 channels, not 3"),
    "wide images": (edited("pixels", shape=["n", 3, SIZE, 2 * SIZE]), "only square ones"),
    "an output of no shape": (edited("scores", shape=None), "'scores' is float (); an output is float32 (N, classes)"),
    "an output of many dimensions": (
        edited("scores", shape=["n", CLASSES, 1]),
        "'scores' is float (n, 5, 1)",
    ),
    "classes without a number": (edited("scores", shape=["n", "c"]), "does not say how many classes"),
    "free channels": (edited("pixels", shape=["n", "c", SIZE, SIZE]), "has any number of channels, not 3"),
    "half-precision images": (edited("pixels", kind=TensorProto.FLOAT16), "'pixels' is float16"),
    "classes that it does not have": (edited("scores", shape=["n", 7]), "onnx refuses the file"),
    "no work": (lambda model: model.graph.ClearField("node"), "there is nothing to measure"),
    "a later opset": (lambda model: setattr(model.opset_import[0], "version", 999), "opset 999"),
    "a foreign operator": (
        lambda model: (
            add_node("Gelu", ["pixels"], ["gelu"], domain="com.microsoft")(model),
            model.opset_import.append(helper.make_opsetid("com.microsoft", 1)),
        ),
        "com.microsoft.Gelu",
    ),
    "an unknown operator": (add_node("Frobnicate", ["pixels"], ["x"]), "onnx refuses the file: No Op registered"),
    "a transposed convolution": (add_node("ConvTranspose", ["pixels", "stem.w"], ["x"]), "has ConvTranspose, whose"),
    "quantisation": (add_node("QuantizeLinear", ["pixels", "s"], ["x"]), "has QuantizeLinear, whose"),
    "a loop": (add_node("Loop", ["", ""], ["x"]), "has Loop, whose"),
    "a name that is not text": (lambda model: setattr(model.graph.input[0], "name", "two\nlines"), "onnx refuses"),
    "a type that is none": (
        lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", 93),
        "'pixels' is type 93",
    ),
    "weights of a type that is none": (
        lambda model: setattr(model.graph.initializer[0], "data_type", 93),
        "onnx refuses the file: Invalid tensor data type 93",
    ),
    "a lost weight": (lambda model: model.graph.initializer.pop(), "onnx refuses the file"),
}


@pytest.mark.parametrize(("change", "words"), BAD_GRAPHS.values(), ids=BAD_GRAPHS.keys())
def test_a_graph_that_cannot_be_measured_is_one_line(tmp_path: Path, change: Callable[..., Any], words: str):
    path = write(tmp_path / "net.onnx", change=change)
    message = refused(path)
    assert words in message
    assert str(path) in message


@given(st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_graph_is_a_network_or_one_line(tmp_path: Path, data: st.DataObject):
    """The weights lie elsewhere, so that every changed byte is one of the graph."""
    path = tmp_path / "net.onnx"
    if not (tmp_path / "weights.bin").exists():
        (tmp_path / "whole.onnx").write_bytes(write_apart(path).read_bytes())
    content = bytearray((tmp_path / "whole.onnx").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, 20)) * len(content) // 10])  # half of the time the whole
    said = ""
    try:
        read_network_file(str(path))
    except RequestError as error:
        said = str(error)
    assert said.isprintable()


class TestExternalData:
    def test_it_is_part_of_the_file(self, tmp_path: Path, exports: Path):
        path = write_apart(tmp_path / "net.onnx")
        network = read_network_file(str(path))
        artefact = network_artefact(network, exports)
        assert artefact.sha256 == network.sha256
        assert set(artefact.files) == {"model.onnx", "weights.bin"}
        assert artefact.files["weights.bin"] == hashlib.sha256((tmp_path / "weights.bin").read_bytes()).hexdigest()
        assert artefact.path.read_bytes() == path.read_bytes()

    def test_other_weights_are_another_network(self, tmp_path: Path):
        path = write_apart(tmp_path / "net.onnx")
        before = read_network_file(str(path))
        data = bytearray((tmp_path / "weights.bin").read_bytes())
        data[0] ^= 1
        (tmp_path / "weights.bin").write_bytes(data)
        assert read_network_file(str(path)).digest() != before.digest()

    def test_it_has_to_be_there(self, tmp_path: Path):
        path = write_apart(tmp_path / "net.onnx")
        (tmp_path / "weights.bin").unlink()
        assert "'weights.bin', and there is no such file" in refused(path)

    def test_it_has_to_be_whole(self, tmp_path: Path):
        path = write_apart(tmp_path / "net.onnx")
        (tmp_path / "weights.bin").write_bytes((tmp_path / "weights.bin").read_bytes()[:-1])
        assert "into 'weights.bin', beyond its end" in refused(path)

    @pytest.mark.parametrize("offset", ["-1", "x", "9" * 99])
    def test_it_is_pointed_into(self, tmp_path: Path, offset: str):
        def moved(model: onnx.ModelProto) -> None:
            entry = next(entry for entry in model.graph.initializer[0].external_data if entry.key == "offset")
            entry.value = offset

        assert f"points {offset} + " in refused(write_apart(tmp_path / "net.onnx", change=moved))

    @pytest.mark.parametrize("place", ["../weights.bin", "/etc/passwd", "", "a/b.bin", "model.onnx", "manifest.json"])
    def test_it_lies_beside_the_file_and_nowhere_else(self, tmp_path: Path, place: str):
        def moved(model: onnx.ModelProto) -> None:
            entry = next(entry for entry in model.graph.initializer[0].external_data if entry.key == "location")
            entry.value = place

        assert f"keeps weights in {place!r}, which is no plain name" in refused(
            write_apart(tmp_path / "net.onnx", change=moved)
        )


class TestStore:
    def test_a_copy_is_made_once(self, tmp_path: Path, exports: Path):
        path = write(tmp_path / "net.onnx")
        network = read_network_file(str(path))
        first = network_artefact(network, exports)
        check_files(first)
        assert (first.kind, first.precision, first.main) == ("onnx", "fp32", "model.onnx")
        assert Path(first.folder).parent.name == "net"
        path.unlink()  # what the store has is enough
        assert network_artefact(network, exports) == first

    def test_the_manifest_does_not_say_where_the_file_lay(self, tmp_path: Path, exports: Path):
        artefact = network_artefact(read_network_file(str(write(tmp_path / "net.onnx"))), exports)
        assert str(tmp_path) not in (Path(artefact.folder) / "manifest.json").read_text()

    def test_a_file_that_changed_since_it_was_planned_is_not_taken(self, tmp_path: Path):
        path = write(tmp_path / "net.onnx")
        network = read_network_file(str(path))
        write(path, change=bolder)
        with pytest.raises(ArtefactError, match="not what it was when the run was planned"):
            network_artefact(network, tmp_path / "exports")
        assert [found.name for found in tmp_path.glob("exports/*/*")] == [".lock"]

    def test_a_copy_that_was_damaged_is_found(self, tmp_path: Path, exports: Path):
        artefact = network_artefact(read_network_file(str(write(tmp_path / "net.onnx"))), exports)
        data = bytearray(artefact.path.read_bytes())
        data[len(data) // 2] ^= 1
        artefact.path.write_bytes(data)
        with pytest.raises(ArtefactError, match="SHA-256"):
            check_files(artefact)
