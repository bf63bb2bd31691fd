import onnx
import pytest
from onnx import helper

from tests.artefacts.networks import narrow
from vggbench.artefacts.onnx import onnx_artefact
from vggbench.artefacts.onnx_check import check_onnx
from vggbench.errors import ExportError

SPEC = narrow()


@pytest.fixture
def damaged(exports, tmp_path):
    """Write the exported file again after something was done to it, and check that."""
    artefact = onnx_artefact(SPEC, exports)

    def write(change):
        model = onnx.load(artefact.path, load_external_data=False)
        (tmp_path / "model.onnx.data").write_bytes((artefact.path.parent / "model.onnx.data").read_bytes())
        change(model)
        (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
        return check_onnx(SPEC, 20, tmp_path / "model.onnx")

    return write


def fix_batch(model):
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_value = 2


def rename_input(model):
    model.graph.input[0].name = model.graph.node[0].input[0] = "x"


def more_classes(model):
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 11


def leave_dropout(model):
    first = model.graph.node[0]
    first.output[0] = "before"
    model.graph.node.insert(1, helper.make_node("Dropout", ["before"], ["features.0"], "dropout"))


def rename_layer(model):
    model.graph.node[0].name = "other"


def skip_layer(model):
    nodes = list(model.graph.node)
    skipped = next(number for number, node in enumerate(nodes) if node.name == "classifier.3")
    nodes[skipped + 1].input[0] = nodes[skipped].input[0]
    del model.graph.node[skipped]


def older_opset(model):
    model.opset_import[0].version = 19


def inline_bias(model):
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "features.0.bias")
    values = helper.make_tensor("features.0.bias", onnx.TensorProto.FLOAT, [8], [0.0] * 8)
    bias.CopyFrom(values)


def place(tensor, key):
    return next(entry for entry in tensor.external_data if entry.key == key)


def first_weight(model):
    return next(tensor for tensor in model.graph.initializer if tensor.name == "features.0.weight")


def shorten_weight(model):
    place(first_weight(model), "length").value = "4"


def point_beyond(model):
    place(first_weight(model), "offset").value = str(10**9)


def break_graph(model):
    model.graph.node[0].input[0] = "nowhere"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (fix_batch, r"has inputs and outputs \[\('input', 'float32', \(2, 3, 32, 32\)\)"),
        (rename_input, r"has inputs and outputs \[\('x', "),
        (more_classes, "onnx refuses the exported file"),
        (leave_dropout, "still has Dropout"),
        (rename_layer, r"has the convolutions and products \['other', "),
        (skip_layer, "has the convolutions and products"),
        (older_opset, "is written in opset {'': 19}, asked for was 20"),
        (inline_bias, "lacks features.0.bias"),
        (shorten_weight, "gives features.0.weight 4 bytes for the shape"),
        (point_beyond, "points features.0.weight beyond the end of model.onnx.data"),
        (break_graph, "onnx refuses the exported file"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_file_that_is_not_what_was_asked_for_is_refused(damaged, change, said):
    with pytest.raises(ExportError, match=said) as refused:
        damaged(change)
    assert len(str(refused.value).splitlines()) == 1


def test_an_undamaged_file_passes(damaged):
    inputs, outputs = damaged(lambda model: None)
    assert inputs == (("input", "float32", ("batch", 3, 32, 32)),)
    assert outputs == (("logits", "float32", ("batch", 10)),)
