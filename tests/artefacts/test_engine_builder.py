"""What the builder's process does where the three libraries differ, on modules with just these differences.

What is the same in all three is tested by real builds, in `test_tensorrt.py`.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.artefacts.engines import job
from vggbench.artefacts import engine_builder
from vggbench.artefacts.engine_builder import build
from vggbench.artefacts.tensorrt_features import BuildError, OptionError, set_capabilities, strongly_typed
from vggbench.artefacts.tensorrt_log import make_log, reason_of

# As in the bindings: `NetworkDefinitionCreationFlag` of 8.6, 10.16, 11.4 and RTX 1.7.
FLAGS = {
    "10.16": IntEnum("Flag", {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}),
    "11.4": IntEnum("Flag", {"STRONGLY_TYPED": 0, "PREFER_JIT_PYTHON_PLUGINS": 1}),
    "1.7": IntEnum("Flag", {"STRONGLY_TYPED": 0}),
}


def library(version: str, flags: object, **more: object) -> SimpleNamespace:
    return SimpleNamespace(
        __name__="tensorrt", __version__=version, NetworkDefinitionCreationFlag=flags, ILogger=object, **more
    )


@pytest.mark.parametrize(("version", "bits"), [("10.16", 0b10), ("11.4", 0b1), ("1.7", 0b1)])
def test_networks_are_strongly_typed_whatever_bit_that_is(version: str, bits: int) -> None:
    assert strongly_typed(library(version, FLAGS[version])) == bits


def test_a_library_without_strong_types_is_refused() -> None:
    with pytest.raises(BuildError, match=r"tensorrt 8\.6 has no strongly typed networks; install 10 or newer"):
        strongly_typed(library("8.6", IntEnum("Flag", {"EXPLICIT_BATCH": 0})))


def test_a_compute_capability_where_there_is_none_is_refused() -> None:
    with pytest.raises(OptionError, match=r"tensorrt 11\.4 builds for the GPU it runs on"):
        set_capabilities(library("11.4", FLAGS["11.4"]), SimpleNamespace(), ["SM89"])


class Logger:
    """As the bindings' own, which calls `log` from C++."""


def test_no_builder_without_a_gpu_is_one_line(tmp_path: Path) -> None:
    severity = SimpleNamespace(name="ERROR")

    def builder(log: object) -> None:
        log.log(severity, "[builder.cpp:12: create] CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    trt = library("10.16", FLAGS["10.16"], Builder=builder)
    trt.ILogger = Logger
    with pytest.raises(BuildError, match=r"^CUDA initialization failure with error: 35$"):
        build(trt, job(tmp_path / "model.onnx", tmp_path), lambda **_message: None)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            (
                "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:1500: run_passes] Cannot compile "
                "for sm80, because of fp8_e4m3. In compileGraph at /_src/optimizer/myelin/codeGenerator.cpp:2012)"
            ),
            "Cannot compile for sm80, because of fp8_e4m3",
        ),
        (
            "Error Code 7: BuildCanceled (Build canceled by user)",
            "Error Code 7: BuildCanceled (Build canceled by user)",
        ),
        ("ERROR: ModelImporter.cpp:899 In function importInitializers: [5] Failed", "Failed"),
        ("Failed to open file: net/model.onnx.data", "Failed to open file: net/model.onnx.data"),
    ],
)
def test_reasons_are_kept_without_the_places_they_come_from(said: str, reason: str) -> None:
    assert reason_of(said) == reason


def log_of(*messages: tuple[str, str]) -> object:
    log = make_log(SimpleNamespace(ILogger=Logger))
    for severity, text in messages:
        log.log(SimpleNamespace(name=severity), text)
    return log


def test_the_log_keeps_errors_without_those_of_a_missing_driver() -> None:
    no_driver = ("ERROR", "Cuda Runtime (cudaError 35: CUDA driver version is insufficient)")
    log = log_of(no_driver, ("ERROR", "one"), ("VERBOSE", "x"), ("INTERNAL_ERROR", "two"), ("ERROR", "one"))
    assert log.reasons() == "one; two"
    assert "cudaError 35" in log_of(no_driver, no_driver).reasons()
    assert log_of(("VERBOSE", "Layers:\nName: a"), ("VERBOSE", "b")).layers == "Layers:\nName: a"


def test_progress_is_that_of_the_outermost_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_builder, "PROGRESS_INTERVAL_S", 0)
    sent: list[object] = []

    def send(*, progress: object) -> None:
        sent.append(progress)

    monitor = engine_builder._monitor(SimpleNamespace(IProgressMonitor=object), send)
    monitor.phase_start("Building", None, 2)
    monitor.phase_start("Cloning", "Building", 9)
    assert monitor.step_complete("Cloning", 0)
    assert monitor.step_complete("Building", 0)
    monitor.phase_finish("Cloning")
    monitor.phase_finish("Building")
    assert sent == [["Building", 0, 2], ["Cloning", 0, 2], ["Cloning", 0, 2], ["Cloning", 1, 2], ["Cloning", 2, 2]]
