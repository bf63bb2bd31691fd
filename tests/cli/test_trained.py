"""Accuracy of the committed checkpoint on 500 real images, in every backend and precision that is native here."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.trained import IMAGES, IMAGES_SHA256, TRAINING, WEIGHTS, write_real_data

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # a worker a cell, each of which imports a library

# The 500 are a sample of the 10,000 that the accuracy beside the checkpoint is of: four standard errors to either side
# of 0.8685, sqrt(p (1 - p) / 500) = 1.5 points each.
FURTHEST_POINTS = 6.0
LARGEST_LOSS = 0.5  # of the signal, by quantising: half of what would drown it


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.mark.filterwarnings("default::vggbench.errors.VggbenchWarning")
def test_every_precision_is_as_right_as_its_training_says(command_line: CommandLine, exports: Path, tmp_path: Path):
    said = command_line(
        *("accuracy", "--weights", WEIGHTS, "--data", IMAGES, "--batch-size", 50, "--calibration", "synthetic"),
        *("--exports", exports, "--output", tmp_path / "run"),
    )
    assert said.code == 0, said.out + said.err
    with (tmp_path / "run" / "accuracy.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {(row["backend"], row["precision"]) for row in rows}
    assert found >= {("torch", "fp32"), ("onnxruntime", "fp32"), ("openvino", "fp32")}
    published = 100 * json.loads(TRAINING.read_text())["outcome"]["test_accuracy"]
    for row in rows:
        assert (row["status"], row["images"], row["data_sha256"]) == ("ok", "500", IMAGES_SHA256)
        assert float(row["top1_percent"]) == pytest.approx(published, abs=FURTHEST_POINTS), row["precision"]
        assert float(row["parity_error"]) <= float(row["parity_tolerance"])
        if row["precision"] == "fp32":  # the order of a sum decides an image only where two classes are equally likely
            assert row["changed"] in {"", "0", "1"}
        elif row["precision"] == "bf16":
            assert row["verdict"] == "no difference shown"


@pytest.mark.filterwarnings("default::vggbench.errors.VggbenchWarning")
def test_quantised_files_agree_with_their_graph_when_calibrated_with_real_images(
    command_line: CommandLine, exports: Path, tmp_path: Path
):
    said = command_line(
        *("verify", "--weights", WEIGHTS, "--backend", "onnx-reference,onnxruntime", "--precision", "int8,fp8"),
        *("--calibration", write_real_data(tmp_path / "data"), "--exports", exports, "--json"),
    )
    rows = {(row["backend"], row["precision"]): row for row in json.loads(said.out)}
    for precision in ("int8", "fp8"):
        row = rows["onnx-reference", precision]
        assert (row["status"], row["precision_ran"]) == ("ok", f"{precision}:100.0%")
        assert row["parity_error"] <= row["parity_tolerance"]
        assert 0 < row["quantization_error"] < LARGEST_LOSS
    # Where the CPU has the instructions, ONNX Runtime runs int8; fp8 it would only imitate.
    assert rows["onnxruntime", "int8"]["status"] in {"ok", "unsupported"}
    assert rows["onnxruntime", "fp8"]["status"] == "unsupported"


@pytest.mark.filterwarnings("default::vggbench.errors.VggbenchWarning")
def test_a_checkpoint_names_what_it_sees(command_line: CommandLine, exports: Path, tmp_path: Path):
    from PIL import Image

    from vggbench.data.dataset import open_dataset

    images = open_dataset(IMAGES, "test")
    ships = [place for place, label in enumerate(images.labels) if images.classes[label] == "ship"][:10]
    paths = [tmp_path / f"{place}.png" for place in ships]
    for path, pixels in zip(paths, images.pixels(ships), strict=True):
        Image.fromarray(pixels).save(path)
    said = command_line("predict", *paths, "--weights", WEIGHTS, "--exports", exports, "--json")
    assert said.code == 0
    likeliest = [one["classes"][0]["class"] for one in json.loads(said.out)]
    assert likeliest.count("ship") >= 7
