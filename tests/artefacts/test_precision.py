"""Files whose types are fp16 or bf16: what is in them, what was lost, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from tests.artefacts.networks import exact_logits, narrow, sample, signal_error
from vggbench.artefacts.exported import exported, missing_bytes
from vggbench.artefacts.manifest import read_manifest
from vggbench.artefacts.onnx import onnx_artefact
from vggbench.artefacts.onnx_check import check_onnx
from vggbench.artefacts.onnx_form import OnnxForm
from vggbench.artefacts.precision import LOSSES, Rounded
from vggbench.artefacts.typed_graph import value_types
from vggbench.artefacts.weights import weights_artefact
from vggbench.backends.onnx_operators import operators
from vggbench.errors import ArtefactError, DiskSpaceError, ExportError, RequestError
from vggbench.models.layers import mac_layers
from vggbench.parity.metrics import amplification
from vggbench.parity.tolerance import tolerance

FP16, BF16 = OnnxForm(precision="fp16"), OnnxForm(precision="bf16", opset=22)
FORMS = [pytest.param(form, id=form.precision) for form in (FP16, BF16)]
NAMES = {"fp32": "FLOAT", "fp16": "FLOAT16", "bf16": "BFLOAT16"}
SPEC = narrow(batch_norm=True)


def evaluate(path, inputs):
    """Return every output by name, computed by ONNX's own reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(onnx.load(path), new_ops=operators())
    return dict(zip(evaluator.output_names, evaluator.run(None, {"input": inputs}), strict=True))


def stored(artefact):
    """Return every tensor of a file by its name."""
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(artefact.path).graph.initializer}


def element(precision):
    return onnx.TensorProto.DataType.Value(NAMES[precision])


def own(folder, **planted):
    """Return a network with weights of its own, some of them planted: arrays that are written over a tensor's front."""
    path = folder / "own.safetensors"
    state = load_file(weights_artefact(narrow(), folder / "made").path)
    for name, values in planted.items():
        state[name.replace("__", ".")].reshape(-1)[: len(values)] = values
    save_file(state, path)
    return narrow(weights=str(path))


@pytest.mark.parametrize("form", FORMS)
def test_every_tensor_and_node_has_the_type_and_the_rounded_value(exports, form):
    artefact = exported(SPEC, exports, form)
    graph = onnx.load(artefact.path).graph
    types = value_types(onnx.load(artefact.path))
    assert {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)} == {element("fp32")}
    inside = {types[name] for node in graph.node if node.op_type != "Cast" for name in (*node.input, *node.output)}
    assert inside - {element("fp32"), onnx.TensorProto.INT64} == {element(form.precision)}
    exact, found = stored(onnx_artefact(SPEC, exports)), stored(artefact)
    for layer in mac_layers(SPEC):
        for key in (f"{layer.name}.weight", f"{layer.name}.bias"):
            assert np.array_equal(found[key], exact[key].astype(found[key].dtype))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(SPEC, id="batch-norm"),
        pytest.param(narrow(local_response_norm="literal", outputs="probabilities"), id="lrn", marks=pytest.mark.slow),
        pytest.param(narrow(head="flatten"), id="flatten", marks=pytest.mark.slow),
        pytest.param(narrow(input_size=96), id="pool-by-products", marks=pytest.mark.slow),
    ],
)
def test_the_file_computes_what_torch_does_in_float64(exports, spec, form):
    weights, inputs = weights_artefact(spec, exports), sample(spec, 8)
    outputs = evaluate(exported(spec, exports, form).path, inputs)
    exact = exact_logits(spec, weights, inputs)
    assert {values.dtype for values in outputs.values()} == {np.dtype(np.float32)}
    allowed = tolerance(form.precision, [layer.reduction_length for layer in mac_layers(spec)], amplification(exact))
    assert signal_error(outputs["logits"], exact) < allowed
    if "probabilities" in outputs:
        shifted = np.exp(outputs["logits"] - outputs["logits"].max(axis=1, keepdims=True))
        expected = shifted / shifted.sum(axis=1, keepdims=True)
        assert np.allclose(outputs["probabilities"], expected, rtol=1e-5)  # an fp32 softmax of the fp32 logits


def test_the_manifest_says_what_it_is_and_whose_child(exports):
    artefact = exported(SPEC, exports, FP16)
    manifest = read_manifest(artefact.path.parent)
    assert (manifest.precision, manifest.parent) == ("fp16", onnx_artefact(SPEC, exports).sha256)
    assert {(entry.name, entry.dtype) for entry in (*manifest.inputs, *manifest.outputs)} == {
        ("input", "float32"),
        ("logits", "float32"),
    }
    counts = manifest.facts["rounding"]
    assert counts["weights"] == sum(layer.parameters for layer in mac_layers(SPEC))
    assert all(counts[loss] == sum(layer[loss] for layer in counts["layers"].values()) for loss in LOSSES)


def test_the_same_request_finds_it_again_and_another_does_not(exports, monkeypatch):
    made = {form: exported(SPEC, exports, form) for form in (FP16, BF16, replace(FP16, keep_fp32=("features.0",)))}
    assert len({artefact.folder for artefact in made.values()}) == 3
    assert missing_bytes(SPEC, exports, made) == 0
    monkeypatch.setattr("vggbench.artefacts.precision._write", None)
    assert {form: exported(SPEC, exports, form) for form in made} == made


def test_bf16_is_of_the_same_fp32_file_though_its_opset_is_later(exports):
    fp16, bf16 = (read_manifest(exported(SPEC, exports, form).path.parent) for form in (FP16, BF16))
    assert (fp16.opset, bf16.opset) == (20, 22)
    assert fp16.parent == bf16.parent


# What rounding loses


@pytest.mark.parametrize(
    ("precision", "values", "losses"),
    [
        ("fp16", [0.0, -0.0, 1.0, 65504.0, 65519.9, -65519.9], (0, 0, 0)),
        ("fp16", [65520.0, -1e30, np.float32(3.4e38)], (3, 0, 0)),
        ("fp16", [2.0**-25, -1e-30, 1e-45], (0, 3, 0)),  # half of the smallest number rounds to the even 0
        ("fp16", [2.0**-24, 2.0**-25 * 1.01, -6.0e-5, 2.0**-14 - 2.0**-24], (0, 0, 4)),
        ("fp16", [2.0**-14, np.inf, -np.inf, np.nan], (0, 0, 0)),  # what was infinite did not overflow
        ("bf16", [65520.0, 1e-30, 3.38e38, 2.0**-126], (0, 0, 0)),
        ("bf16", [np.float32(3.4e38), 1e-45, 1e-40], (1, 1, 1)),
    ],
)
def test_what_a_type_is_too_small_for_is_counted_exactly(precision, values, losses):
    rounded = Rounded(precision)
    exact = np.array(values, np.float32)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(element(precision))
    content = rounded.round("features.0.weight", exact.tobytes(), dtype)
    with np.errstate(over="ignore"):
        assert content == exact.astype(dtype).tobytes()
    counts = rounded.to_json()
    assert (counts["weights"], *(counts[loss] for loss in LOSSES)) == (len(values), *losses)
    assert counts["layers"] == ({"features.0": dict(zip(LOSSES, losses, strict=True))} if any(losses) else {})
    assert bool(rounded.complaint()) == bool(losses[0])


@pytest.mark.slow
def test_planted_weights_are_in_the_manifest_by_their_layer(tmp_path):
    spec = own(
        tmp_path, features__0__bias=[1e-30, -1e-9, 3e-8], features__3__weight=[1e-8], classifier__6__bias=[1e-6] * 4
    )
    plain = read_manifest(exported(own(tmp_path / "plain"), tmp_path, FP16).path.parent).facts["rounding"]
    planted = read_manifest(exported(spec, tmp_path, FP16).path.parent).facts["rounding"]
    more = {
        name: tuple(lost[loss] - plain["layers"].get(name, dict.fromkeys(LOSSES, 0))[loss] for loss in LOSSES)
        for name, lost in planted["layers"].items()
    }
    # Biases are drawn and of the order of 0.1; a weight that is overwritten may have been lost before.
    assert more["features.0"] == (0, 2, 1)
    assert more["classifier.6"] == (0, 0, 4)
    assert more["features.3"][1] == 1


@pytest.mark.slow
def test_weights_that_would_be_infinite_are_refused_by_the_layer(tmp_path):
    spec = own(tmp_path, features__3__weight=[1e5, -1e6], classifier__6__bias=[7e4])
    with pytest.raises(ExportError, match="infinite in fp16, which ends at 65504: ") as caught:
        exported(spec, tmp_path, FP16)
    assert "2 of features.3" in str(caught.value)
    assert "(--keep-fp32 classifier.6,features.3) or export bf16" in str(caught.value)
    assert [folder for folder in (tmp_path / "custom").iterdir() if "fp16" in folder.name] == []
    form = replace(FP16, keep_fp32=("classifier.6", "features.3"))
    assert stored(exported(spec, tmp_path, form))["features.3.weight"].reshape(-1)[:2].tolist() == [1e5, -1e6]
    assert exported(spec, tmp_path, BF16).precision == "bf16"


# Layers that stay fp32


@pytest.mark.parametrize("form", FORMS)
def test_kept_layers_are_fp32_with_casts_at_their_borders(exports, form):
    kept = ("classifier.6", "features.0", "features.4")
    artefact = exported(SPEC, exports, replace(form, keep_fp32=kept))
    model = onnx.load(artefact.path)
    types = value_types(model)
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            wanted = element("fp32" if node.name in kept else form.precision)
            assert {types[name] for name in (*node.input, *node.output)} == {wanted}, node.name
    exact, found = stored(onnx_artefact(SPEC, exports)), stored(artefact)
    assert np.array_equal(found["features.4.weight"], exact["features.4.weight"])
    assert read_manifest(artefact.path.parent).options == {"keep_fp32": ",".join(kept)}
    # The first layer takes the input and the last makes the output as they are.
    names = [node.name for node in model.graph.node if node.op_type == "Cast"]
    assert "input" not in "".join(names)
    assert "logits" not in "".join(names)


def test_a_network_that_is_kept_whole_is_as_good_as_fp32(exports):
    weights, inputs = weights_artefact(SPEC, exports), sample(SPEC, 8)
    exact = exact_logits(SPEC, weights, inputs)
    every = tuple(sorted(layer.name for layer in mac_layers(SPEC)))
    some = replace(FP16, keep_fp32=every[:4])
    errors = [
        signal_error(evaluate(exported(SPEC, exports, form).path, inputs)["logits"], exact) for form in (FP16, some)
    ]
    assert errors[1] < errors[0]


# What is refused


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fold_batch_norm": False}, "batch norms are folded in fp32 before weights are rounded to fp16"),
        ({"keep_fp32": ("features.1",)}, "custom_bn has no layer 'features.1' to keep in fp32; did you mean features."),
        ({"keep_fp32": ("features.0",), "precision": "fp32"}, "cannot be kept in fp32 in a file of fp32; give prec"),
        ({"precision": "bf16"}, "opset 20 has no bf16 convolution; leave --opset out, or give 22 to 25"),
        ({"precision": "fp64"}, "no file of precision 'fp64' is written; give fp32, fp16, bf16"),
        ({"opset": 17}, "opset 17: give one from 18 to 25; the default is 20"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_written(tmp_path, changes, words):
    with pytest.raises(RequestError, match=words):
        exported(SPEC, tmp_path / "exports", replace(FP16, **changes))
    assert list(tmp_path.iterdir()) == []


def test_without_room_nothing_is_written(tmp_path, monkeypatch):
    needed = missing_bytes(SPEC, tmp_path, [FP16])
    fp32 = missing_bytes(SPEC, tmp_path, [OnnxForm()])
    assert fp32 < needed < 1.8 * fp32
    assert missing_bytes(SPEC, tmp_path, [FP16, OnnxForm()]) == needed  # the fp32 file is made for both
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": needed - 1}))
    with pytest.raises(DiskSpaceError, match="MiB are needed"):
        exported(SPEC, tmp_path / "exports", FP16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_parent_that_was_damaged_has_no_child(tmp_path):
    parent = onnx_artefact(SPEC, tmp_path)
    for name in ("model.onnx.data", "model.onnx"):
        path = parent.path.parent / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ArtefactError, match="SHA-256 is"):
            exported(SPEC, tmp_path, FP16)
        path.write_bytes(content)
    assert exported(SPEC, tmp_path, FP16).precision == "fp16"


@pytest.mark.parametrize("form", FORMS)
def test_a_single_file_has_the_same_in_it(exports, form):
    apart, single = (exported(SPEC, exports, replace(form, external_data=outside)) for outside in (True, False))
    assert list(single.files) == ["model.onnx"]
    one, other = stored(apart), stored(single)
    assert one.keys() == other.keys()
    assert all(one[key].dtype == other[key].dtype and np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_tensors_that_lie_across_blocks_come_whole(tmp_path, monkeypatch):
    spec = narrow()
    whole = stored(exported(spec, tmp_path / "whole", FP16))
    monkeypatch.setattr("vggbench.artefacts.streams.BLOCK_BYTES", 4096)  # a page: fewer than most weights take
    pieces = stored(exported(spec, tmp_path / "pieces", FP16))
    assert all(np.array_equal(pieces[key], whole[key]) for key in whole)


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 23, 25])
def test_another_opset_is_the_parents_too(exports, opset):
    artefact = exported(narrow(), exports, replace(FP16, opset=opset))
    parent = read_manifest(artefact.path.parent).parent
    assert parent == onnx_artefact(narrow(), exports, form=OnnxForm(opset=opset)).sha256
    assert np.isfinite(evaluate(artefact.path, sample(narrow()))["logits"]).all()


# A file that is called by a type that is not in it


@pytest.fixture
def copied(exports, tmp_path):
    """Copy a file of a form to where it may be changed; return its graph's path."""

    def copy(form):
        artefact = exported(SPEC, exports, form)
        for name in artefact.files:
            (tmp_path / name).write_bytes((artefact.path.parent / name).read_bytes())
        return tmp_path / "model.onnx"

    return copy


@pytest.mark.parametrize("form", [FP16, pytest.param(BF16, marks=pytest.mark.slow)])  # of an opset of its own
def test_an_fp32_file_that_is_called_typed_is_refused(copied, form):
    path = copied(replace(OnnxForm(), opset=form.opset))
    with pytest.raises(ExportError, match=f"in float, asked for was {NAMES[form.precision].lower()}"):
        check_onnx(SPEC, form, path)


@pytest.mark.parametrize("form", FORMS)
def test_a_typed_file_that_is_called_fp32_is_refused(copied, form):
    with pytest.raises(ExportError, match=f"in {NAMES[form.precision].lower()}, asked for was float"):
        check_onnx(SPEC, replace(form, precision="fp32"), copied(form))


def test_a_layer_that_was_kept_unasked_is_refused(copied):
    path = copied(replace(FP16, keep_fp32=("features.4",)))
    with pytest.raises(ExportError, match=r"of features.4 in float, asked for was float16"):
        check_onnx(SPEC, FP16, path)


def test_a_layer_that_was_not_kept_is_refused(copied):
    with pytest.raises(ExportError, match=r"of features.4 in float16, asked for was float$"):
        check_onnx(SPEC, replace(FP16, keep_fp32=("features.4",)), copied(FP16))


def test_values_that_are_rounded_on_their_way_are_refused(copied):
    path = copied(OnnxForm())
    model = onnx.load(path, load_external_data=False)
    first = model.graph.node[0]
    for place, (source, target, kind) in enumerate((("input", "short", "fp16"), ("short", "rounded", "fp32"))):
        cast = onnx.helper.make_node("Cast", [source], [target], name=target, to=element(kind))
        model.graph.node.insert(place, cast)
    model.graph.node[2].input[0] = "rounded"
    assert first.op_type == "Conv"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match=r"has short of short in float16, asked for was float$"):
        check_onnx(SPEC, OnnxForm(), path)


def test_types_that_a_file_only_claims_are_not_believed(copied):
    path = copied(OnnxForm())
    model = onnx.load(path, load_external_data=False)
    for value in model.graph.value_info:
        value.type.tensor_type.elem_type = element("fp16")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match=r"onnx refuses|in float, asked for was float16"):
        check_onnx(SPEC, FP16, path)


@pytest.mark.slow
def test_the_manifests_facts_are_sealed(tmp_path):
    artefact = exported(SPEC, tmp_path, FP16)
    path = artefact.path.parent / "manifest.json"
    data = json.loads(path.read_text())
    data["facts"]["rounding"]["became_zero"] += 1
    path.write_text(json.dumps(data, indent=2) + "\n")
    with pytest.raises(ArtefactError, match="the content was changed after it was written"):
        exported(SPEC, tmp_path, FP16)
