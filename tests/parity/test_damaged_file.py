"""A damaged copy differs from the exported file in what was damaged, and in nothing else."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.artefacts.networks import narrow
from tests.artefacts.quantized_files import form_of
from tests.parity.chain import Chain, chain_of
from tests.parity.damaged_file import DAMAGED_FILE, ExportedFile
from tests.parity.damaged_quantized import QuantizedFile
from tests.parity.mutations import MUTATIONS
from vggbench.artefacts.artefact import Artefact, check_files, file_sha256
from vggbench.artefacts.exported import exported
from vggbench.artefacts.onnx import onnx_artefact
from vggbench.artefacts.onnx_form import OnnxForm
from vggbench.artefacts.weights import weights_artefact
from vggbench.models.weights import load_module

SPEC = narrow(batch_norm=True)


class Copies:
    """An exported file and where its copies go."""

    def __init__(self, exports: Path) -> None:
        self.exports = exports
        weights = weights_artefact(SPEC, exports)
        self.artefact: Artefact = onnx_artefact(SPEC, exports, weights)
        self.chain: Chain = chain_of(load_module(SPEC, weights.path))
        self.folder = exports / "copies"
        self.folder.mkdir()
        self.file = ExportedFile(self.artefact, self.chain, self.folder)

    def of(self, mutation: str) -> onnx.ModelProto:
        """Return the copy with one mutation, read back."""
        return onnx.load(self.file.damaged(MUTATIONS[mutation](self.chain, SPEC)).path, load_external_data=False)

    def exported(self) -> onnx.ModelProto:
        return onnx.load(self.artefact.path, load_external_data=False)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Copies:
    return Copies(tmp_path_factory.mktemp("exports"))


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def embedded(model: onnx.ModelProto) -> list[list[int]]:
    """Return the shapes of the copy's own weights; the others lie in the exported data file."""
    return [list(tensor.dims) for tensor in model.graph.initializer if "constant" in tensor.name]


def test_undamaged_copy_is_the_exported_graph(copies: Copies) -> None:
    copies.file.damaged(copies.chain)
    copy = onnx.load(copies.folder / DAMAGED_FILE, load_external_data=False)
    assert kinds(copy) == kinds(copies.exported())
    assert embedded(copy) == []
    assert [node.attribute for node in copy.graph.node] == [node.attribute for node in copies.exported().graph.node]
    assert sorted(tensor.name for tensor in copy.graph.initializer) == sorted(
        tensor.name for tensor in copies.exported().graph.initializer
    )
    onnx.checker.check_model(copies.folder / DAMAGED_FILE, full_check=True)


@pytest.mark.parametrize(
    ("mutation", "shapes"),
    [
        ("bias dropped, logits", [[10, 64], [10]]),
        ("batch norm's mean off by 1 %, first", [[8, 3, 3, 3], [8]]),
        ("batch norm dropped", [[16, 16, 3, 3], [16]]),
    ],
)
def test_changed_weights_alone_are_written(copies: Copies, mutation: str, shapes: list[list[int]]) -> None:
    copy = copies.of(mutation)
    assert kinds(copy) == kinds(copies.exported())
    assert embedded(copy) == shapes
    assert len(copy.graph.initializer) == len(copies.exported().graph.initializer)


def test_node_left_out_is_one_node_less(copies: Copies) -> None:
    copy, exported = copies.of("ReLU dropped, first"), kinds(copies.exported())
    assert kinds(copy) == [*exported[:1], *exported[2:]]
    assert embedded(copy) == []


def test_norm_that_cannot_be_folded_is_a_node_of_its_own(copies: Copies) -> None:
    assert kinds(copies.of("batch norm after the ReLU")).count("BatchNormalization") == 1


@pytest.mark.slow
@pytest.mark.parametrize("form", [form_of("int8", "ort"), form_of("fp8", "trt")], ids=["int8", "fp8"])
def test_undamaged_copy_is_quantised_as_the_export_is(copies: Copies, form: OnnxForm) -> None:
    """The same nodes on the same stored numbers, so that damage is all that tells a damaged one apart."""
    quantized = QuantizedFile(SPEC, copies.exports, form).damaged(copies.file.damaged(copies.chain))
    models = [onnx.load(path) for path in (quantized.path, exported(SPEC, copies.exports, form).path)]
    ours, theirs = ([(node.op_type, [*node.input], [*node.output]) for node in model.graph.node] for model in models)
    assert ours == theirs
    ours, theirs = (
        {tensor.name: onnx.numpy_helper.to_array(tensor).tobytes() for tensor in model.graph.initializer}
        for model in models
    )
    assert ours == theirs


def test_exported_file_is_left_alone_and_its_data_is_whole_in_the_copy(copies: Copies) -> None:
    for mutation in ("weights of another seed", "block skipped", "mean output"):
        copies.of(mutation)
    check_files(copies.artefact)
    data = [name for name in copies.artefact.files if name != copies.artefact.main]
    assert data
    for name in data:
        assert file_sha256(copies.folder / name) == copies.artefact.files[name]
