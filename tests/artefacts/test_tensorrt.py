"""Real engines, by TensorRT for RTX, whose builder needs no GPU."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.artefacts.engines import SPEC, form_of, job, needs_rtx
from vggbench.artefacts import tensorrt
from vggbench.artefacts.artefact import file_sha256
from vggbench.artefacts.engine_form import EngineForm
from vggbench.artefacts.engine_process import build_engine
from vggbench.artefacts.exported import exported
from vggbench.artefacts.inventory import survey
from vggbench.artefacts.manifest import read_manifest
from vggbench.artefacts.onnx_form import OnnxForm
from vggbench.artefacts.tensorrt import engine_artefact, missing_bytes
from vggbench.artefacts.tensorrt_libraries import find_library
from vggbench.errors import ExportError, RequestError
from vggbench.models.configs import VARIANTS
from vggbench.models.spec import make_spec

pytestmark = needs_rtx

CAPABILITIES_BYTE, VERSION_BYTES = 32, slice(24, 28)  # of an engine's header
ALL_BUT_TURING = 0x7E  # 8.0, 8.6, 8.9, 12.0, 12.1 and later
ONE = EngineForm(batch_sizes=(1, 1, 1))
PRODUCTS = {
    "fp32": {"correlation:Float->Float": 6},
    "fp16": {"correlation:Half->Half": 6},
    "int8": {"correlation:Int8->Float": 6, "gemm:Int8->Float": 3},
    "fp8": {"correlation:FP8->Float": 6, "gemm:FP8->Float": 3},
}


@pytest.fixture(scope="module")
def fp32_file(exports: Path) -> Path:
    return exported(SPEC, exports).path


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8", "fp8"])
def test_every_precision_builds_and_is_proven(exports: Path, precision: str) -> None:
    form, steps = form_of(precision), []
    artefact = engine_artefact(SPEC, exports, form, EngineForm(), lambda *step: steps.append(step))
    manifest = read_manifest(Path(artefact.folder))
    assert manifest.facts["macs_in_asked_type"] == 1
    found = manifest.facts["engine_layers"]
    assert {name: found[name] for name in PRODUCTS.get(precision, {})} == PRODUCTS.get(precision, {})
    if precision == "bf16":
        assert set(manifest.facts["product_types"].values()) == {"BFloat16"}
    assert manifest.parent == exported(SPEC, exports, form).sha256
    assert manifest.tools["tensorrt-rtx"] == find_library("tensorrt-rtx").version
    assert manifest.options["batch_sizes"] == "1:8:32"
    shapes = [(entry.name, entry.dtype, entry.shape) for entry in (*manifest.inputs, *manifest.outputs)]
    assert shapes == [("input", "float32", ("batch", 3, 32, 32)), ("logits", "float32", ("batch", 10))]
    header = artefact.path.read_bytes()[:64]
    assert header[CAPABILITIES_BYTE] == ALL_BUT_TURING
    assert list(header[VERSION_BYTES]) == [int(part) for part in manifest.tools["tensorrt-rtx"].split(".")]
    _phases, done, totals = zip(*steps, strict=True)
    assert (done[0], done[-1]) == (0, totals[-1])
    assert list(done) == sorted(done)


def test_what_was_built_is_found_again_and_listed(exports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = engine_artefact(SPEC, exports, OnnxForm(), ONE)
    assert missing_bytes(SPEC, exports, OnnxForm(), ONE) == 0
    monkeypatch.setattr(tensorrt, "build_engine", lambda *_build: pytest.fail("built again"))
    assert engine_artefact(SPEC, exports, OnnxForm(), ONE) == first
    (entry,) = [entry for entry in survey(exports) if str(entry.folder) == first.folder]
    assert (entry.format, entry.precision, entry.state) == ("tensorrt-rtx", "fp32", "whole")


def test_another_option_is_another_engine(exports: Path) -> None:
    parent = exported(SPEC, exports)
    library = find_library("tensorrt-rtx")
    forms = [
        *(ONE, EngineForm(), replace(ONE, workspace_mib=8), replace(ONE, optimization_level=0)),
        *(replace(ONE, compute_capabilities=("SM89",)), replace(ONE, tf32=True), replace(ONE, number=2)),
    ]
    requests = [tensorrt._request(SPEC, parent, OnnxForm(), form, library) for form in forms]
    requests.append(tensorrt._request(SPEC, parent, OnnxForm(), ONE, replace(library, version="2.0")))
    requests.append(tensorrt._request(SPEC, parent, OnnxForm(), ONE, library, "NVIDIA L4 8.9"))
    assert len({request.key for request in requests}) == len(requests)


@pytest.mark.slow
def test_engines_need_no_more_room_than_was_said(exports: Path) -> None:
    form = replace(ONE, workspace_mib=64)
    needed = missing_bytes(SPEC, exports, OnnxForm(), form)
    assert 0 < engine_artefact(SPEC, exports, OnnxForm(), form).bytes <= needed


def test_an_engine_of_other_types_is_refused_and_not_kept(exports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = exported(SPEC, exports)
    before = survey(exports)
    monkeypatch.setattr(tensorrt.onnx, "exported", lambda *_request: plain)
    with pytest.raises(ExportError, match=r"precision mismatch: 0% of the MACs .* ran in Float and not in Half"):
        engine_artefact(SPEC, exports, form_of("fp16"), ONE)
    assert survey(exports) == before


@pytest.mark.slow
def test_a_convolution_that_should_stay_fp32_and_does_not_is_found(exports: Path) -> None:
    """The library makes one in fp16 of the cast, the fp32 convolution and the cast back."""
    form = OnnxForm(precision="fp16", keep_fp32=("features.4",))
    with pytest.raises(ExportError, match=r"1 of 9 products are not, features\.4 ran in Half and not in Float"):
        engine_artefact(SPEC, exports, form, ONE)


@pytest.mark.slow
def test_options_reach_the_builder(fp32_file: Path, tmp_path: Path) -> None:
    timings = tmp_path / "caches" / "timings"
    told = {"workspace_mib": 64, "optimization_level": 0, "compute_capabilities": ("SM80", "SM89")}
    said = build_engine(job(fp32_file, tmp_path, timing_cache=str(timings), **told))
    assert said["timing_cache_sha256"] == file_sha256(timings)
    assert (tmp_path / "model.plan").read_bytes()[CAPABILITIES_BYTE] == 0x02 | 0x08


@pytest.mark.slow
def test_a_workspace_that_is_too_small_is_said(exports: Path) -> None:
    with pytest.raises(ExportError, match="no tactics to implement the operation within workspace limit"):
        engine_artefact(SPEC, exports, OnnxForm(), replace(ONE, workspace_mib=1))


def test_a_layout_that_is_not_tensorrts_is_refused(exports: Path) -> None:
    with pytest.raises(RequestError, match="layout ort is not TensorRT's"):
        missing_bytes(SPEC, exports, replace(form_of("int8"), layout="ort"), ONE)


# What is wrong with a file, and what is said of it.


def plain_graph(operator: str = "Relu", domain: str = "", *, other: str = "") -> onnx.ModelProto:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, 4, 4]) for name in ("input", "logits")]
    nodes = [helper.make_node(operator, ["input"], ["middle"], name="first", domain=domain)]
    nodes.append(
        helper.make_node(other or "Relu", ["middle"], ["logits"], name="second", domain=domain if other else "")
    )
    graph = helper.make_graph(nodes, "graph", tensors[:1], tensors[1:])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("of.ours", 1)]
    return helper.make_model(graph, opset_imports=opsets)


def refusal(path: Path, folder: Path) -> str:
    with pytest.raises(ExportError) as refused:
        build_engine(job(path, folder))
    assert not (folder / "model.plan").exists()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def written(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def test_a_truncated_file(fp32_file: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(fp32_file.read_bytes()[:-100])
    assert "model.onnx cannot be parsed: " in refusal(tmp_path / "model.onnx", tmp_path)
    assert "MODEL_DESERIALIZE_FAILED" in refusal(tmp_path / "model.onnx", tmp_path)


@pytest.mark.parametrize("content", [b"", np.random.default_rng(1).bytes(300)], ids=["empty", "random"])
def test_what_is_no_network_is_not_taken_for_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    assert "model.onnx cannot be parsed: " in refusal(tmp_path / "model.onnx", tmp_path)


def test_weights_that_are_missing_are_named(fp32_file: Path, tmp_path: Path) -> None:
    shutil.copy(fp32_file, tmp_path)
    said = refusal(tmp_path / "model.onnx", tmp_path)
    assert "INVALID_GRAPH" in said
    assert "Failed to open file" in said
    assert "model.onnx.data" in said


@pytest.mark.slow
def test_weights_that_are_cut_off_are_an_error(fp32_file: Path, tmp_path: Path) -> None:
    shutil.copy(fp32_file, tmp_path)
    (tmp_path / "model.onnx.data").write_bytes((fp32_file.parent / "model.onnx.data").read_bytes()[:1000])
    assert "INVALID_GRAPH" in refusal(tmp_path / "model.onnx", tmp_path)


def test_every_operator_that_is_unknown_is_named(tmp_path: Path) -> None:
    said = refusal(written(plain_graph("Mine", "of.ours", other="Yours"), tmp_path), tmp_path)
    assert "node 0 first (Mine)" in said
    assert "node 1 second (Yours)" in said


def test_an_operator_that_is_not_supported_is_named(tmp_path: Path) -> None:
    assert "first (Det)" in refusal(written(plain_graph("Det"), tmp_path), tmp_path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "nothing.onnx cannot be parsed: " in refusal(tmp_path / "nothing.onnx", tmp_path)


def test_numbers_without_a_sign_are_not_read_as_numbers_with_one(tmp_path: Path) -> None:
    model = plain_graph("QuantizeLinear", other="DequantizeLinear")
    for node in model.graph.node:
        node.input.extend(["scale", "zero"])
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.float32(0.1), "scale"),
            numpy_helper.from_array(np.uint8(0), "zero"),
        ]
    )
    assert "Defaulting to INT8" in refusal(written(model, tmp_path), tmp_path)


def test_another_version_than_its_package_says_is_refused(exports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(find_library("tensorrt-rtx"), version="0.9")
    monkeypatch.setattr(tensorrt, "find_library", lambda _name: other)
    with pytest.raises(ExportError, match=r"says that it is 1\..*, and its package that it is 0\.9; install it again"):
        engine_artefact(SPEC, exports, OnnxForm(), ONE)


@pytest.mark.parametrize(
    ("precision", "capability", "said"),
    [
        ("fp32", "SM75", r"Turing \(SM75\): FP32 GEMM is not supported$"),
        pytest.param("fp8", "SM80", r"sm80, because .* datatypes: fp8_e4m3$", marks=pytest.mark.slow),
    ],
)
def test_what_a_gpu_has_not_is_one_clear_line(exports: Path, precision: str, capability: str, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        engine_artefact(SPEC, exports, form_of(precision), replace(ONE, compute_capabilities=(capability,)))


def test_a_capability_that_the_library_does_not_have_is_refused(exports: Path) -> None:
    with pytest.raises(RequestError, match=r"SM90 is no compute capability of tensorrt_rtx .*: SM75, SM80, "):
        engine_artefact(SPEC, exports, OnnxForm(), replace(ONE, compute_capabilities=("SM90",)))


@pytest.mark.slow
def test_a_build_after_one_that_failed_is_the_same(fp32_file: Path, tmp_path: Path) -> None:
    """In one process it would not be: the second engine was seen to be 3 % larger."""
    engines = []
    for number, capabilities in enumerate([("SM80",), ("SM75",), ("SM80",)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        told = job(fp32_file, folder, compute_capabilities=capabilities)
        if capabilities == ("SM75",):
            with pytest.raises(ExportError):
                build_engine(told)
        else:
            build_engine(told)
            engines.append((folder / "model.plan").read_bytes())
    assert engines[0] == engines[1]


def test_one_that_takes_too_long_leaves_nothing(exports: Path) -> None:
    with pytest.raises(ExportError, match="tensorrt_rtx built no engine within 0 s"):
        engine_artefact(SPEC, exports, OnnxForm(), replace(ONE, workspace_mib=1), timeout_s=0)
    assert [entry for entry in survey(exports) if entry.state != "whole"] == []


def test_ctrl_c_while_it_builds_leaves_nothing(exports: Path) -> None:
    def interrupt(*_step: object) -> None:
        raise KeyboardInterrupt

    exported(SPEC, exports)
    before = survey(exports)
    with pytest.raises(KeyboardInterrupt):
        engine_artefact(SPEC, exports, OnnxForm(), replace(ONE, workspace_mib=65), interrupt)
    assert survey(exports) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_builds(exports: Path, name: str) -> None:
    variant = VARIANTS[name]
    spec = make_spec(
        config=",".join(_narrowed(item) for item in variant.configuration.split(",")),
        batch_norm=variant.batch_norm,
        local_response_norm=variant.local_response_norm,
        head=variant.head,
        input_size=32,
        num_classes=10,
        classifier_width=64,
    )
    artefact = engine_artefact(spec, exports, form_of("fp16"), ONE)
    assert read_manifest(Path(artefact.folder)).facts["macs_in_asked_type"] == 1


def _narrowed(item: str) -> str:
    channels, at, kernel = item.partition("@")
    return item if channels == "M" else f"{int(channels) // 16}{at}{kernel}"
