"""`--onnx` from the command line to the rows, on the real backends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

import vggbench
from tests.cli.conftest import CommandLine
from tests.network_files import MACS, PARAMETERS, residual, write, write_apart
from vggbench.artefacts.onnx import onnx_artefact
from vggbench.models.spec import make_spec

QUICK = ("--rounds", "2", "--time-budget-s", "0.1", "--threads", "1", "--precision", "fp32", "--no-roofline")


def rows_of(said: Any) -> list[dict[str, Any]]:
    assert said.code == 0, said.err
    rows: list[dict[str, Any]] = json.loads(said.out)
    return rows


@pytest.mark.slow
def test_a_run(command_line: CommandLine, tmp_path: Path):
    path = write_apart(tmp_path / "my net.onnx")
    places = ("--output", tmp_path / "run", "--exports", tmp_path / "exports")
    rows = rows_of(command_line("run", "--onnx", path, *QUICK, "--batch-size", "1,3", *places, "--json"))
    assert [(row["backend"], row["batch_size"]) for row in rows] == [
        (backend, size) for backend in ("onnxruntime", "openvino") for size in (1, 3)
    ]
    for row in rows:
        assert (row["variant"], row["reference"]) == ("my_net", "against itself")
        assert row["artefact_sha256"] == row["verified_sha256"] is not None
        assert 0 < row["parity_error"] < row["parity_tolerance"] < 1e-3
        assert row["precision_ran"] == "fp32:100.0%"
        assert (row["gmacs"], row["parameters"]) == (MACS / 1e9, PARAMETERS)
        assert row["latency_ms"] > 0
        assert row["throughput_img_s"] > 0
        assert row["speedup"] is None
    assert "my_net" in (tmp_path / "run" / "summary.md").read_text()


@pytest.mark.slow
def test_a_copy_that_is_damaged_is_never_timed(command_line: CommandLine, tmp_path: Path):
    path = write(tmp_path / "net.onnx")
    arguments = ("--onnx", path, "--backend", "onnxruntime", "--precision", "fp32", "--exports", tmp_path / "exports")
    assert command_line("verify", *arguments).code == 0
    (copy,) = (tmp_path / "exports").rglob("model.onnx")
    data = bytearray(copy.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    said = command_line("verify", *arguments)
    assert said.code == 5
    assert "SHA-256" in said.out


@pytest.mark.slow
def test_what_one_backend_cannot_open_is_a_failed_row(command_line: CommandLine, tmp_path: Path):
    """ONNX Runtime has no response norm over an even number of channels; the standard and its reference do."""

    def normed(model: Any) -> None:
        model.graph.node[1].output[0] = "before"
        model.graph.node.insert(2, helper.make_node("LRN", ["before"], ["begin"], size=4))

    path = write(tmp_path / "net.onnx", change=normed)
    places = ("--exports", tmp_path / "exports")
    said = command_line("verify", "--onnx", path, "--backend", "onnxruntime", "--precision", "fp32", *places)
    assert said.code == 5
    (line,) = [line for line in said.out.splitlines() if line.startswith("net onnxruntime fp32 batch 1: failed: ")]
    assert "at open: " in line


@pytest.mark.slow
def test_a_run_is_resumed_from_the_copy_and_not_from_another_file(command_line: CommandLine, tmp_path: Path):
    path, exports = write(tmp_path / "net.onnx"), tmp_path / "exports"
    places = ("--output", tmp_path / "run", "--exports", exports)
    assert command_line("run", "--onnx", path, "--backend", "onnxruntime", *QUICK, *places).code == 0
    path.unlink()
    assert command_line("run", "--resume", *places).code == 0
    shutil.rmtree(exports)
    said = command_line("run", "--resume", *places)
    assert (said.code, "does not exist" in said.message) == (2, True)
    write(path, residual(batch=2))
    said = command_line("run", "--resume", *places)
    assert (said.code, "not what it was when the run was planned" in said.message) == (2, True)


@pytest.mark.slow
def test_wrong_outputs_are_found(command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The reference of one file must not pass another one, whose last bias is doubled."""
    import numpy as np
    from onnx import numpy_helper

    from vggbench import preparation
    from vggbench.artefacts.network_file import network_artefact, read_network_file

    def doubled(model: Any) -> None:
        last = next(tensor for tensor in model.graph.initializer if tensor.name == "last.b")
        last.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(last).astype(np.float32), "last.b"))

    other = read_network_file(str(write(tmp_path / "other.onnx", change=doubled)))
    exports = tmp_path / "exports"
    real = preparation._files_of_file
    monkeypatch.setattr(
        preparation,
        "_files_of_file",
        lambda network, folder, source: (network_artefact(other, exports), real(network, folder, source)[1]),
    )
    path = write(tmp_path / "net.onnx")
    said = command_line("verify", "--onnx", path, "--precision", "fp32", "--exports", exports)
    assert said.code == 1
    assert said.out.count("parity_failed: the error is") == 2


@pytest.mark.slow
def test_our_own_file_is_judged_as_the_variant_is(command_line: CommandLine, tmp_path: Path):
    exports = tmp_path / "exports"
    spec = make_spec(
        config="16,M,32,M", batch_norm=True, head="flatten", input_size=32, num_classes=10, classifier_width=64
    )
    path = onnx_artefact(spec, exports).path
    given = ("--precision", "fp32", "--exports", exports, "--json")
    itself = rows_of(command_line("verify", "--onnx", path, *given))
    options = ("--config", "16,M,32,M", "--batch-norm", "--input-size", "32", "--num-classes", "10")
    backends = ("--head", "flatten", "--classifier-width", "64", "--backend", "onnxruntime,openvino")
    module = rows_of(command_line("verify", *options, *backends, *given))
    for one, two in zip(itself, module, strict=True):
        assert one["artefact_sha256"] == two["artefact_sha256"]
        assert one["gmacs"] == two["gmacs"]
        assert one["parity_tolerance"] == pytest.approx(two["parity_tolerance"], rel=1e-3)
        assert one["parity_error"] == pytest.approx(two["parity_error"], rel=0.2)
        assert (one["reference"], two["reference"]) == ("against itself", "float64 module")


@pytest.mark.slow
def test_a_plan_file_and_python_take_it_too(command_line: CommandLine, tmp_path: Path):
    path = write(tmp_path / "net.onnx", residual(batch=2, side="s"))
    plan = tmp_path / "plan.toml"
    plan.write_text(f'[[cells]]\nonnx = "{path}"\ninput_size = 24\nprecision = "fp32"\n')
    exports = tmp_path / "exports"
    (first, second) = rows_of(command_line("verify", "--plan", plan, "--exports", exports, "--json"))
    assert {first["batch_size"], second["batch_size"]} == {2}
    assert {first["input_size"], second["input_size"]} == {24}
    table = vggbench.verify(onnx=str(path), input_size=24, backend="openvino", precision="fp32", exports=exports)
    assert table["status"].tolist() == ["ok"]
    assert table["parity_error"].tolist() == [second["parity_error"]]


@pytest.mark.slow
def test_torch_alone_has_nothing_to_judge(command_line: CommandLine, tmp_path: Path):
    path = write(tmp_path / "net.onnx")
    said = command_line("verify", "--onnx", path, "--backend", "torch", "--precision", "fp32")
    assert said.code == 4
    assert "torch opens no ONNX file" in said.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--head", "flatten"), "head cannot be chosen for an ONNX file"),
        (("--batch-size", "0"), "batch size is 0"),
        (("--input-size", "17"), "16x16 pixels, not of 17"),
    ],
)
def test_a_wrong_request_is_2(command_line: CommandLine, tmp_path: Path, arguments: tuple[str, ...], words: str):
    said = command_line("verify", "--onnx", write(tmp_path / "net.onnx"), *arguments)
    assert said.code == 2
    assert words in said.message


def test_a_file_that_is_not_there_is_2(command_line: CommandLine, tmp_path: Path):
    assert command_line("run", "--onnx", tmp_path / "none.onnx").code == 2
    assert command_line("run", "--onnx", "").code == 2
