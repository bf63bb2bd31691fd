"""Every call of the builder's process, against the signatures of all three libraries' own bindings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.artefacts.engines import job
from tests.bindings.checked import CheckedModule
from vggbench.artefacts.engine_builder import build
from vggbench.artefacts.tensorrt_features import BuildError, OptionError, strongly_typed

LISTED = "Layers:\nName: a"
NETWORK = {"INetworkDefinition.num_inputs": 1, "INetworkDefinition.num_outputs": 1, "INetworkDefinition.num_layers": 3}
TENSOR = {"ITensor.name": "input", "ITensor.shape": (-1, 3, 32, 32)}


def answers(**more: Any) -> dict[str, Any]:
    found = {name.replace("__", "."): value for name, value in more.items()}
    return {
        **NETWORK,
        **TENSOR,
        "Builder.build_serialized_network": b"plan",
        "ITimingCache.serialize": b"timings",
        "EngineInspector.get_engine_information": '{"Layers": []}',
        **found,
    }


def test_every_call_of_a_build_is_one_that_the_bindings_take(surface: dict[str, Any], tmp_path: Path) -> None:
    trt = CheckedModule(surface, answers())
    options = {"workspace_mib": 64, "optimization_level": 3, "timing_cache": str(tmp_path / "gpu" / "timings")}
    said = build(trt, job(tmp_path / "model.onnx", tmp_path, **options), lambda **_message: None)
    assert (tmp_path / "model.plan").read_bytes() == b"plan"
    assert (tmp_path / "gpu" / "timings").read_bytes() == b"timings"
    assert said["version"] == surface["version"]
    assert said["inspection"] == '{"Layers": []}', "a builder that lists no layers is asked by the inspector"
    assert len(said["timing_cache_sha256"]) == 64
    assert said["inputs"] == [("input", "FLOAT", [-1, 3, 32, 32])]
    called = {name.partition(".")[2] for name in trt.calls}
    assert called >= {"__init__", "create_network", "parse_from_file", "set_shape", "add_optimization_profile"}
    assert called >= {"set_memory_pool_limit", "clear_flag", "set_timing_cache", "builder_optimization_level="}
    assert called >= {"profiling_verbosity=", "progress_monitor=", "deserialize_cuda_engine"}


def test_tf32_is_allowed_where_it_is_asked_for(surface: dict[str, Any], tmp_path: Path) -> None:
    trt = CheckedModule(surface, answers())
    build(trt, job(tmp_path / "model.onnx", tmp_path, tf32=True), lambda **_message: None)
    assert "IBuilderConfig.set_flag" in trt.calls
    assert "IBuilderConfig.clear_flag" not in trt.calls


def test_timings_that_do_not_fit_are_left(surface: dict[str, Any], tmp_path: Path) -> None:
    fits = iter([False, True])
    trt = CheckedModule(surface, answers(IBuilderConfig__set_timing_cache=lambda *_given, **_named: next(fits)))
    (tmp_path / "timings").write_bytes(b"of another GPU")
    build(trt, job(tmp_path / "model.onnx", tmp_path, timing_cache=str(tmp_path / "timings")), lambda **_message: None)
    assert trt.calls.count("IBuilderConfig.create_timing_cache") == 2


def test_every_error_of_the_parser_is_asked_for(surface: dict[str, Any], tmp_path: Path) -> None:
    told = {"OnnxParser.parse_from_file": False, "OnnxParser.num_errors": 2, "ParserError.node_operator": "Conv"}
    trt = CheckedModule(surface, answers() | told | {"ParserError.desc": "too large", "ParserError.node_name": "first"})
    with pytest.raises(BuildError, match=r"cannot be parsed: node 0 first \(Conv\): \w+: too large$"):
        build(trt, job(tmp_path / "model.onnx", tmp_path), lambda **_message: None)


def test_networks_are_strongly_typed_in_every_one(surface: dict[str, Any]) -> None:
    bit = surface["enums"]["NetworkDefinitionCreationFlag"]["STRONGLY_TYPED"]
    assert strongly_typed(CheckedModule(surface, {})) == 1 << bit


def test_compute_capabilities_are_set_or_refused(surface: dict[str, Any], tmp_path: Path) -> None:
    trt = CheckedModule(surface, answers())
    told = job(tmp_path / "model.onnx", tmp_path, compute_capabilities=("SM80", "SM89"))
    if "ComputeCapability" in surface["enums"]:
        build(trt, told, lambda **_message: None)
        assert trt.calls.count("IBuilderConfig.set_compute_capability") == 2
    else:
        with pytest.raises(OptionError, match="takes no compute capability"):
            build(trt, told, lambda **_message: None)


def test_without_a_library_behind_them_bindings_make_no_builder(surface: dict[str, Any]) -> None:
    """The builder's process tells it by this: `TypeError`, which it turns into a line."""
    if surface["version"].startswith("1."):  # the real library, which builds on any machine
        assert surface["builders"] == ""
    else:
        assert "returned nullptr" in surface["builders"]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda trt: trt.Builder(), TypeError),
        (lambda trt: trt.make("Builder").create_network("strongly"), TypeError),
        (lambda trt: trt.make("Builder").create_network(flags=1, more=2), TypeError),
        (lambda trt: trt.make("Builder").build_engine(), AttributeError),
        (lambda trt: trt.make("IOptimizationProfile").set_shape("input", (1,), (2,), "3"), TypeError),
        (lambda trt: setattr(trt.make("ICudaEngine"), "num_io_tensors", 1), AttributeError),
        (lambda trt: setattr(trt.make("IBuilderConfig"), "profiling_verbosity", 2), TypeError),
        (lambda trt: trt.BuilderFlag.FASTER, AttributeError),
        (lambda trt: trt.NoSuchClass, AttributeError),
    ],
)
def test_what_the_bindings_do_not_take_is_seen(surface: dict[str, Any], wrong: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        wrong(CheckedModule(surface, {}))
