import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch

from tests.artefacts.networks import exact_logits, narrow, run_onnx, run_openvino, sample, signal_error
from vggbench.artefacts.artefact import check_files
from vggbench.artefacts.manifest import MANIFEST_NAME, read_manifest
from vggbench.artefacts.onnx import missing_bytes, onnx_artefact
from vggbench.artefacts.onnx_form import OPSETS, TENSOR_BYTES, OnnxForm
from vggbench.artefacts.weights import weights_artefact
from vggbench.errors import DiskSpaceError, ExportError, RequestError
from vggbench.models.layers import mac_layers, walk
from vggbench.models.spec import ModelSpec, make_spec
from vggbench.models.weights import initial_state
from vggbench.version import VERSION

FP32_ERROR = 1e-5  # measured for correct backends on far deeper networks


def graph_of(artefact):
    return onnx.load(artefact.path, load_external_data=False).graph


@pytest.mark.parametrize(("size", "batch_norm"), [(32, False), (32, True), (128, True), (224, True), (512, True)])
def test_the_file_computes_the_network(exports, size, batch_norm):
    spec = narrow(input_size=size, batch_norm=batch_norm)
    weights = weights_artefact(spec, exports)
    artefact = onnx_artefact(spec, exports, weights)
    inputs = sample(spec)
    reference = exact_logits(spec, weights, inputs)
    assert signal_error(run_onnx(artefact.path, inputs)["logits"], reference) < FP32_ERROR
    one = run_onnx(artefact.path, inputs[1:2])["logits"]
    assert np.linalg.norm(one - reference[1:2]) < FP32_ERROR * np.linalg.norm(reference - reference.mean(axis=0))


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"head": "flatten"},
        {"local_response_norm": "literal"},
        {"local_response_norm": "divided", "batch_norm": True},
        {"config": "8,M,16@1,16", "input_size": 10},
        {"num_classes": 1},
    ],
    ids=str,
)
def test_other_shapes_of_network_are_right_too(exports, change):
    spec = narrow(**change) if "config" not in change else make_spec(**change, num_classes=10, classifier_width=16)
    weights = weights_artefact(spec, exports)
    inputs = sample(spec)
    found = run_onnx(onnx_artefact(spec, exports, weights).path, inputs)["logits"]
    assert signal_error(found, exact_logits(spec, weights, inputs)) < FP32_ERROR


def test_onnx_own_evaluator_agrees(exports):
    from onnx.reference import ReferenceEvaluator

    spec = narrow(batch_norm=True)
    weights = weights_artefact(spec, exports)
    inputs = sample(spec)
    evaluator = ReferenceEvaluator(onnx.load(onnx_artefact(spec, exports, weights).path))
    (found,) = evaluator.run(None, {"input": inputs})
    assert signal_error(found, exact_logits(spec, weights, inputs)) < FP32_ERROR


@pytest.mark.slow
def test_probabilities_come_with_their_logits(exports):
    spec = narrow(outputs="probabilities")
    weights = weights_artefact(spec, exports)
    found = run_onnx(onnx_artefact(spec, exports, weights).path, sample(spec))
    assert list(found) == ["probabilities", "logits"]
    logits = exact_logits(spec, weights, sample(spec))
    assert signal_error(found["logits"], logits) < FP32_ERROR
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)


def test_the_file_explains_itself(exports):
    spec = narrow()
    model = onnx.load(onnx_artefact(spec, exports).path, load_external_data=False)
    noted = {entry.key: entry.value for entry in model.metadata_props}
    assert noted["vggbench.version"] == VERSION
    assert ModelSpec.from_json(json.loads(noted["vggbench.model_spec"])) == spec
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]


def test_nodes_and_weights_are_named_after_the_layers(exports):
    spec = narrow(batch_norm=True, local_response_norm="literal")
    graph = graph_of(onnx_artefact(spec, exports))
    products = {node.name: node for node in graph.node if node.op_type in {"Conv", "Gemm"}}
    assert list(products) == [layer.name for layer in mac_layers(spec)]
    for name, node in products.items():
        assert list(node.input)[1:] == [f"{name}.weight", f"{name}.bias"]
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names)
    assert names[:4] == ["features.0", "features.2", "features.3", "features.4"]
    assert [node.op_type for node in graph.node][:4] == ["Conv", "Relu", "LRN", "MaxPool"]


def test_weights_lie_beside_the_graph(exports):
    artefact = onnx_artefact(narrow(), exports)
    assert set(artefact.files) == {"model.onnx", "model.onnx.data"}
    assert artefact.path.stat().st_size < 20_000
    check_files(artefact)
    entries = read_manifest(Path(artefact.folder))
    assert entries.parent == weights_artefact(narrow(), exports).sha256
    assert entries.opset == 20
    assert entries.inputs[0].shape == ("batch", 3, 32, 32)
    assert {"torch", "onnx", "onnxscript", "onnx-ir", "vggbench", "python"} == set(entries.tools)


@pytest.mark.parametrize("weights", ["init", "random"])
def test_the_graph_does_not_depend_on_the_weights(exports, weights):
    graph = graph_of(onnx_artefact(narrow(weights=weights), exports))
    keys = [f"{layer.name}.{name}" for layer in mac_layers(narrow()) for name in ("weight", "bias")]
    assert [tensor.name for tensor in graph.initializer if tensor.external_data] == keys


def test_nothing_of_the_machine_is_in_the_files(tmp_path):
    own = tmp_path / "own.pth"
    torch.save(initial_state(narrow()), own)
    artefact = onnx_artefact(narrow(weights=str(own)), tmp_path / "exports")
    for name in ("model.onnx", MANIFEST_NAME):
        content = (Path(artefact.folder) / name).read_bytes()
        found = [place for place in (str(tmp_path), sys.prefix, str(Path.cwd()), ".py") if place.encode() in content]
        assert found == [], name
    graph = graph_of(artefact)
    noted = [*graph.metadata_props, *(entry for node in graph.node for entry in node.metadata_props)]
    noted += [entry for value in (*graph.value_info, *graph.input, *graph.output) for entry in value.metadata_props]
    assert noted == []


@pytest.mark.slow
def test_two_exports_are_the_same_bytes(tmp_path):
    spec = narrow(batch_norm=True, outputs="probabilities")
    one, two = (onnx_artefact(spec, tmp_path / name) for name in "ab")
    assert one.folder != two.folder
    assert one.files == two.files


AGAIN = """
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from tests.artefacts.networks import narrow
from vggbench.artefacts.onnx import missing_bytes, onnx_artefact

print(onnx_artefact(narrow(), Path(sys.argv[1])).sha256)
heavy = {"torch", "onnx", "onnx_ir", "onnxscript", "safetensors"} & set(sys.modules)
print(sorted(heavy))
"""


def test_what_exists_is_found_without_torch(exports):
    artefact = onnx_artefact(narrow(), exports)
    command = [sys.executable, "-c", AGAIN, str(exports)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == [artefact.sha256, "[]"]


KEPT = OnnxForm(fold_batch_norm=False)
SINGLE = OnnxForm(external_data=False)
BOTH = OnnxForm(fold_batch_norm=False, external_data=False)


@pytest.mark.slow
@pytest.mark.parametrize("form", [KEPT, SINGLE, BOTH], ids=str)
@pytest.mark.parametrize("run", [run_onnx, run_openvino])
def test_every_form_computes_the_network(exports, form, run):
    spec = narrow(batch_norm=True, outputs="probabilities", input_size=128)  # with the pool's own matrix, too
    weights = weights_artefact(spec, exports)
    inputs = sample(spec)
    found = run(onnx_artefact(spec, exports, weights, form).path, inputs)["logits"]
    assert signal_error(found, exact_logits(spec, weights, inputs)) < FP32_ERROR


@pytest.mark.slow
def test_every_form_is_an_artefact_of_its_own(exports):
    spec = narrow(batch_norm=True)
    artefacts = [onnx_artefact(spec, exports, form=form) for form in (OnnxForm(), KEPT, SINGLE, BOTH)]
    assert len({artefact.folder for artefact in artefacts}) == len({artefact.sha256 for artefact in artefacts}) == 4
    options = [read_manifest(Path(artefact.folder)).options for artefact in artefacts]
    assert options == [{}, {"batch_norm": "nodes"}, {"weights": "inside"}, {"batch_norm": "nodes", "weights": "inside"}]


def test_a_network_without_batch_norm_has_none_to_keep(exports):
    assert onnx_artefact(narrow(), exports, form=KEPT) == onnx_artefact(narrow(), exports)


def test_kept_batch_norms_are_nodes_with_weights_of_their_own(exports):
    spec = narrow(batch_norm=True)
    weights = weights_artefact(spec, exports)
    path = onnx_artefact(spec, exports, weights, KEPT).path
    graph = onnx.load(path).graph
    norms = [node for node in graph.node if node.op_type == "BatchNormalization"]
    assert [node.name for node in norms] == [layer.name for layer in walk(spec) if layer.operation == "batch_norm"]
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for key, tensor in initial_state(spec).items():
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(stored[key], tensor.numpy())


@pytest.mark.slow
@pytest.mark.parametrize("form", [SINGLE, BOTH], ids=str)
def test_a_single_file_has_all_of_it_and_is_the_same_message(exports, form):
    spec = narrow(batch_norm=True, input_size=128)
    single = onnx_artefact(spec, exports, form=form)
    assert set(single.files) == {"model.onnx"}
    check_files(single)
    apart = onnx_artefact(spec, exports, form=replace(form, external_data=True))
    one, other = onnx.load(single.path), onnx.load(apart.path)
    for tensor in other.graph.initializer:
        del tensor.external_data[:]
        tensor.ClearField("data_location")
    for model in (one, other):
        model.graph.initializer.sort(key=lambda tensor: tensor.name)
    assert one == other
    assert read_manifest(Path(single.folder)).files["model.onnx"].bytes <= form.bytes(spec)


@pytest.mark.slow
def test_what_is_announced_is_enough_and_not_much_more(tmp_path):
    many = make_spec(config=",".join(["4"] * 60), batch_norm=True, input_size=8, num_classes=2, classifier_width=4)
    for spec in (narrow(), narrow(batch_norm=True, input_size=128), many):
        for form in (OnnxForm(), KEPT, SINGLE):
            announced = missing_bytes(spec, tmp_path, form)
            before = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
            onnx_artefact(spec, tmp_path, form=form)
            written = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) - before
            if written:
                assert written <= announced <= 1.05 * written + TENSOR_BYTES * 400
            assert missing_bytes(spec, tmp_path, form) == 0


def test_a_file_too_large_to_be_single_is_refused_before_anything_is_written(tmp_path):
    spec = make_spec("vgg16", classifier_width=20_000)
    with pytest.raises(RequestError, match=r"a single file of 35\d\d MiB, and ONNX's format ends at 2047 MiB"):
        onnx_artefact(spec, tmp_path, form=SINGLE)
    assert missing_bytes(spec, tmp_path) > 2**32
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=2 << 20))
    with pytest.raises(DiskSpaceError, match=r"1056 MiB are needed at .*exports, 2 MiB are free"):
        onnx_artefact(make_spec("vgg16"), tmp_path / "exports")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("opset", [OPSETS[0], OPSETS[-1]])
def test_the_opset_is_the_one_that_was_asked_for(exports, opset):
    spec = narrow(input_size=128, local_response_norm="literal")
    artefact = onnx_artefact(spec, exports, form=OnnxForm(opset=opset))
    model = onnx.load(artefact.path, load_external_data=False)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]


@pytest.mark.parametrize("opset", [OPSETS[0] - 1, OPSETS[-1] + 1])
def test_an_opset_that_cannot_be_had_is_refused(tmp_path, opset):
    with pytest.raises(RequestError, match=f"opset {opset}: give one from 18 to 25; the default is 20"):
        onnx_artefact(narrow(), tmp_path, form=OnnxForm(opset=opset))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("head", "why"), [("adaptive", "fixes its pool's bins"), ("flatten", "sizes its first")])
def test_dynamic_height_and_width_are_refused(tmp_path, head, why):
    with pytest.raises(RequestError, match=f"dynamic dimensions batch, height, width: .* the {head} head {why}"):
        onnx_artefact(narrow(head=head), tmp_path, dynamic=("batch", "height", "width"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.onnx.OnnxExporterError("\x1b[96mStep 1/3 failed\x1b[0m\nmore\nlines"), "Step 1/3 failed$"),
        (AttributeError("module has no attribute 'x'"), "module has no attribute 'x'$"),
        (NotImplementedError(), "NotImplementedError$"),
    ],
    ids=["exporter", "attribute", "silent"],
)
def test_a_failing_exporter_is_one_line(exports, tmp_path, monkeypatch, error, said):
    def fail(*arguments, **options):
        raise error

    weights = weights_artefact(narrow(), exports)
    monkeypatch.setattr("torch.onnx.export", fail)
    with pytest.raises(ExportError, match=f"^torch .* could not export custom: {said}") as failed:
        onnx_artefact(narrow(), tmp_path, weights)
    assert len(str(failed.value).splitlines()) == 1
    assert not list(tmp_path.rglob("model.onnx*"))


def test_the_cause_of_a_failure_is_shown(exports, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        try:
            raise ValueError("no such operator\nat line 3")
        except ValueError as error:
            raise torch.onnx.OnnxExporterError("Failed to export") from error

    weights = weights_artefact(narrow(), exports)
    monkeypatch.setattr("torch.onnx.export", fail)
    with pytest.raises(ExportError, match=r"Failed to export <- no such operator$"):
        onnx_artefact(narrow(), tmp_path, weights)


@pytest.mark.slow
def test_damaged_weights_are_not_exported(tmp_path):
    weights = weights_artefact(narrow(), tmp_path)
    content = bytearray(weights.path.read_bytes())
    content[-1] ^= 1
    weights.path.write_bytes(content)
    with pytest.raises(RequestError, match=r"model\.safetensors: SHA-256 is"):
        onnx_artefact(narrow(), tmp_path, weights)
    assert not list(tmp_path.rglob("model.onnx*"))


@pytest.mark.slow
def test_threads_take_their_usual_turns_again(tmp_path):
    before = sys.getswitchinterval()
    with ThreadPoolExecutor(max_workers=3) as pool:
        made = list(pool.map(lambda seed: onnx_artefact(narrow(seed=seed), tmp_path), [50, 51, 50]))
    assert made[0] == made[2] != made[1]
    assert sys.getswitchinterval() == before


def test_nothing_is_said_on_the_way(tmp_path, capfd):
    onnx_artefact(narrow(seed=4), tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_full_size_network(tmp_path):
    spec = make_spec("vgg16_bn")
    weights = weights_artefact(spec, tmp_path)
    artefact = onnx_artefact(spec, tmp_path, weights)
    check_files(artefact)
    assert artefact.bytes > 553_000_000
    inputs = sample(spec, count=2)
    found = run_onnx(artefact.path, inputs)["logits"]
    assert signal_error(found, exact_logits(spec, weights, inputs)) < 5 * FP32_ERROR  # 16 layers on two images
