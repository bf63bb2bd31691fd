"""int8 and fp8 on the command line: what is written, what is refused in one line, and what nothing is left of."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import CommandLine
from tests.data.writing import write_folders
from tests.fakes import ARGUMENTS
from vggbench.artefacts import quantize

INT8 = ("--precision", "int8")
SYNTHETIC = ("--calibration", "synthetic")


@pytest.fixture
def place(tmp_path: Path) -> tuple[object, ...]:
    return (*ARGUMENTS, "--exports", tmp_path / "exports")


@pytest.mark.slow
def test_export_writes_a_file_that_says_how_it_was_quantised(place: tuple[object, ...], command_line: CommandLine):
    said = command_line("export", *place, *INT8, *SYNTHETIC, "--single-file", "--json")
    (record,) = json.loads(said.out)
    assert (said.code, record["precision"]) == (0, "int8")
    folder = Path(record["path"]).parent
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.onnx"]
    options = json.loads((folder / "manifest.json").read_text())["options"]
    assert options.keys() == {
        *("layout", "weights", "calibration", "calibration_method", "calibration_images", "calibration_sha256"),
    }
    again = command_line("export", *place, *INT8, *SYNTHETIC, "--single-file", "--json")
    assert json.loads(again.out) == [record]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (INT8, "int8 needs images that ranges are taken from: give --calibration DIR"),
        (("--precision", "fp8", *SYNTHETIC, "--layout", "ort"), "layout of fp8 is 'ort'; it can be trt"),
        (("--precision", "fp8", *SYNTHETIC, "--opset", "18"), "opset 18 has no fp8"),
        ((*INT8, *SYNTHETIC, "--calibration-method", "best"), "calibration method is 'best'"),
        ((*INT8, *SYNTHETIC, "--keep-batch-norm", "--batch-norm"), "batch norms are folded in fp32"),
        ((*INT8, *SYNTHETIC, "--keep-fp32", "features.0"), "layers cannot be kept in fp32 in a file of int8"),
        (SYNTHETIC, "'synthetic' is for files of int8 or fp8, not of fp32"),
        (("--layout", "trt"), "'trt' is for files of int8 or fp8, not of fp32"),
        ((*INT8, "--calibration", "no-such-folder"), "no-such-folder' does not exist"),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line(
    place: tuple[object, ...], command_line: CommandLine, arguments: tuple[str, ...], complaint: str
):
    said = command_line("export", *place, *arguments)
    assert said.code == 2
    assert complaint in said.message
    assert not list(Path(str(place[-1])).glob("*/*"))


@pytest.mark.parametrize("command", ["run", "verify", "tolerances"])
def test_a_precision_that_is_named_needs_images(place: tuple[object, ...], command_line: CommandLine, command: str):
    said = command_line(command, *place, *INT8, "--backend", "onnxruntime")
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert "--calibration synthetic" in said.message


@pytest.mark.slow
def test_images_of_one_colour_are_named(place: tuple[object, ...], command_line: CommandLine, tmp_path: Path):
    write_folders(tmp_path / "flat", {name: [np.full((32, 32, 3), 90, np.uint8)] * 2 for name in ("a", "b")})
    said = command_line("export", *place, *INT8, "--calibration", tmp_path / "flat")
    assert said.code == 2
    assert said.message.endswith("each of the 4 calibration images is one colour all over; give photographs")


@pytest.mark.slow
def test_a_disk_that_gets_full_leaves_nothing_half_made(
    place: tuple[object, ...], command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write = quantize.write_external_data
    monkeypatch.setattr(quantize, "write_external_data", full)
    said = command_line("export", *place, *INT8, *SYNTHETIC)
    assert said.code == 2
    assert said.message.endswith("No space left on device; make room there or name another exports folder")
    assert not list(tmp_path.glob("exports/*/int8*"))
    assert not list(tmp_path.glob("exports/*/.unfinished*"))
    monkeypatch.setattr(quantize, "write_external_data", write)
    assert command_line("export", *place, *INT8, *SYNTHETIC).code == 0
