import shutil
from dataclasses import replace

import onnx
import pytest
from onnx import helper

from tests.artefacts.networks import narrow
from vggbench.artefacts.onnx import onnx_artefact
from vggbench.artefacts.onnx_check import check_onnx
from vggbench.artefacts.onnx_form import OnnxForm
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
        return check_onnx(SPEC, OnnxForm(), tmp_path / "model.onnx")

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


KEPT = narrow(batch_norm=True)


def drop_norm(model):
    nodes = list(model.graph.node)
    nodes[2].input[0] = nodes[1].input[0]
    del model.graph.node[1]


def other_epsilon(model):
    model.graph.node[1].attribute[0].f = 1e-3


def training_mode(model):
    model.graph.node[1].attribute.append(helper.make_attribute("training_mode", 0))


def swap_statistics(model):
    norm = model.graph.node[1]
    norm.input[3], norm.input[4] = norm.input[4], norm.input[3]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop_norm, "has the batch norms .*, asked for were .'features.1'"),
        (other_epsilon, "gives features.1 the attributes .*, the network has epsilon 1e-05"),
        (training_mode, "gives features.1 the attributes"),
        (swap_statistics, r"gives features.1 \[.*'features.1.running_var', 'features.1.running_mean'\]"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("external_data", [True, False])
def test_a_kept_batch_norm_that_is_not_the_networks_is_refused(exports, tmp_path, change, said, external_data):
    form = OnnxForm(fold_batch_norm=False, external_data=external_data)
    artefact = onnx_artefact(KEPT, exports, form=form)
    shutil.copytree(artefact.folder, tmp_path / "copy")
    check_onnx(KEPT, form, tmp_path / "copy" / "model.onnx")
    model = onnx.load(artefact.path, load_external_data=False)
    change(model)
    (tmp_path / "copy" / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match=said):
        check_onnx(KEPT, form, tmp_path / "copy" / "model.onnx")


@pytest.mark.parametrize("form", [OnnxForm(), OnnxForm(external_data=False)], ids=str)
def test_a_batch_norm_that_should_be_folded_is_refused(exports, form):
    kept = onnx_artefact(KEPT, exports, form=replace(form, fold_batch_norm=False))
    with pytest.raises(ExportError, match=r"has the batch norms \['features.1', .*, asked for were \[\]"):
        check_onnx(KEPT, form, kept.path)


@pytest.mark.parametrize("form", [OnnxForm(), OnnxForm(external_data=False)], ids=str)
def test_weights_in_the_wrong_place_are_refused(exports, form):
    other = onnx_artefact(SPEC, exports, form=replace(form, external_data=not form.external_data))
    with pytest.raises(ExportError, match=r"lacks features.0.weight"):
        check_onnx(SPEC, form, other.path)


def test_an_undamaged_file_passes(damaged):
    inputs, outputs = damaged(lambda model: None)
    assert inputs == (("input", "float32", ("batch", 3, 32, 32)),)
    assert outputs == (("logits", "float32", ("batch", 10)),)
