"""Ranges against numpy's own of the very activations, and images that say nothing of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.artefacts.networks import narrow
from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.calibration import (
    PERCENTILE,
    SEED,
    SET,
    calibration_images,
    checked,
    choose_calibration,
    observe,
    ranges_artefact,
    ranges_request,
    read_ranges,
)
from vggbench.artefacts.onnx import onnx_artefact
from vggbench.artefacts.quantization import IMAGES, METHODS, Calibration
from vggbench.data.source import SEED as REFERENCE_SEED
from vggbench.data.synthetic import images
from vggbench.errors import CalibrationError, DataError, ExportError, RequestError

SPEC = narrow()
FIRST_RELU = "features.1"


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def parent(exports: Path) -> Artefact:
    return onnx_artefact(SPEC, exports)


def batches(count: int = 4) -> list[np.ndarray]:
    return list(np.split(images(count, SPEC.input_size, 5), count))


def activations(path: Path, name: str, inputs: list[np.ndarray]) -> np.ndarray:
    """Return a tensor's values as the module gives them."""
    import torch

    from vggbench.models.weights import load_module

    assert name == FIRST_RELU
    weights = path.parent.parent.glob("fp32-*-safetensors-*/*.safetensors")
    first = load_module(SPEC, next(iter(weights))).features[:2].eval()
    with torch.inference_mode():
        return first(torch.from_numpy(np.concatenate(inputs))).numpy()


def test_min_max_is_the_least_and_the_largest_of_all_images(parent: Artefact):
    inputs = batches()
    found = observe(parent.path, iter(inputs), ["input", FIRST_RELU], "min-max").ranges
    assert found["input"] == (np.min(inputs), np.max(inputs))
    values = activations(parent.path, FIRST_RELU, inputs)
    assert found[FIRST_RELU] == pytest.approx((0.0, float(values.max())), rel=1e-5)


def test_a_percentile_cuts_off_as_much_as_it_says(parent: Artefact):
    inputs = batches(16)
    low, high = observe(parent.path, iter(inputs), [FIRST_RELU], "percentile").ranges[FIRST_RELU]
    values = activations(parent.path, FIRST_RELU, inputs)
    beyond = np.mean(values > high)
    assert low == 0.0
    assert 0 < beyond < 2 * (1 - PERCENTILE / 100)


def test_entropy_keeps_what_is_common_and_cuts_off_what_is_rare(parent: Artefact):
    low, high = observe(parent.path, iter(batches()), [FIRST_RELU], "entropy").ranges[FIRST_RELU]
    values = activations(parent.path, FIRST_RELU, batches())
    assert low == 0.0
    assert np.median(values) < high <= values.max() * 1.01


def test_no_method_prints_where_json_may_be_printed(parent: Artefact, capfd: pytest.CaptureFixture[str]):
    for method in METHODS:
        observe(parent.path, iter(batches(2)), [FIRST_RELU], method)
    assert capfd.readouterr().out == ""


def test_synthetic_images_are_not_the_references(exports: Path):
    found = np.concatenate(list(calibration_images(SPEC, Calibration(images=IMAGES))))
    assert found.shape == (IMAGES, 3, SPEC.input_size, SPEC.input_size)
    assert len(np.unique(found, axis=0)) == IMAGES
    assert REFERENCE_SEED not in range(SEED, SEED + IMAGES)
    np.testing.assert_array_equal(found[:SET], images(SET, SPEC.input_size, SEED))


def test_ranges_are_measured_once_and_serve_both_layouts(exports: Path, parent: Artefact, monkeypatch):
    asked = Calibration(images=SET)
    made = ranges_artefact(SPEC, exports, parent, asked)
    found = read_ranges(made)
    assert {"input", FIRST_RELU} < found.ranges.keys()
    assert len(found.sha256) == 64
    monkeypatch.setattr("vggbench.artefacts.calibration.observe", None)  # would fail if it were measured again
    assert ranges_artefact(SPEC, exports, parent, asked) == made


def test_the_key_is_of_the_images_and_the_method_and_not_of_the_place(parent: Artefact):
    def key(**changes):
        chosen = {"where": "/one/photos", "sha256": "a" * 64, "images": 5} | changes
        return ranges_request(SPEC, parent, Calibration(**chosen)).key

    assert key() == key(where="/another/place")
    different = [key(), key(sha256="b" * 64), key(images=6), key(method="entropy"), key(where="synthetic", sha256="")]
    assert len(set(different)) == len(different)


def test_options_say_all_of_it():
    for asked in (Calibration(), Calibration(where="/photos", sha256="a" * 64, images=5, method="percentile")):
        assert Calibration.of_options(asked.options) == asked


@pytest.mark.parametrize("changes", [{"calibration": None}, {"calibration_images": "many"}, {"calibration_method": ""}])
def test_options_that_do_not_say_it_are_refused(changes: dict[str, str | None]):
    options = {name: value for name, value in (Calibration().options | changes).items() if value is not None}
    with pytest.raises(RequestError):
        Calibration.of_options(options)


def picture(path: Path, seed: int | None) -> None:
    """Write a PNG of noise, or without a seed of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (
        np.full((40, 40, 3), 90, np.uint8)
        if seed is None
        else np.random.default_rng(seed).integers(0, 256, (40, 40, 3))
    )
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def test_a_folder_of_photographs(tmp_path: Path, parent: Artefact):
    for number in range(6):
        picture(tmp_path / f"{'cats' if number % 2 else 'dogs'}/{number}.png", number)
    chosen = choose_calibration(str(tmp_path), "min-max")
    assert (chosen.images, len(chosen.sha256), chosen.where) == (6, 64, str(tmp_path))
    found = list(checked(calibration_images(SPEC, chosen), SPEC))
    assert [image.shape for image in found] == [(1, 3, 32, 32)] * 6
    picture(tmp_path / "cats/7.png", 7)
    with pytest.raises(CalibrationError, match="does not hold the images that it did when the run was planned"):
        next(calibration_images(SPEC, chosen))


def test_a_folder_of_one_colour(tmp_path: Path):
    for number in range(4):
        picture(tmp_path / f"{number % 2}/{number}.png", None)
    chosen = choose_calibration(str(tmp_path), "min-max")
    with pytest.raises(CalibrationError, match="each of the 4 calibration images is one colour all over"):
        list(checked(calibration_images(SPEC, chosen), SPEC))


def test_an_empty_folder_and_none(tmp_path: Path):
    for where in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError) as caught:
            choose_calibration(str(where), "min-max")
        assert "\n" not in str(caught.value)


def test_an_empty_name_is_not_the_working_directory():
    with pytest.raises(CalibrationError, match="calibration is ''; name a folder of images, or synthetic"):
        choose_calibration("", "min-max")


def test_a_method_that_there_is_not():
    with pytest.raises(RequestError, match="calibration method is 'best'; it can be min-max, entropy, percentile"):
        choose_calibration("synthetic", "best")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ([], "0 calibration images; ranges need at least 2"),
        (batches(1), "1 calibration images; ranges need at least 2"),
        ([batches(1)[0][0]], r"image 1 has the shape \(3, 32, 32\); custom takes \(1, 3, 32, 32\)"),
        ([batches(1)[0][:, :1]], r"image 1 has the shape \(1, 1, 32, 32\)"),
        ([batches(1)[0], batches(1)[0] * np.float32(np.nan)], "image 2 has 3072 values that are NaN or infinite"),
        (2 * [np.ones((1, 3, 32, 32), np.float32)], "each of the 2 calibration images is one colour all over"),
        (3 * batches(1), "the 3 calibration images are all the same"),
    ],
)
def test_images_that_say_nothing_are_named(given: list[np.ndarray], complaint: str):
    with pytest.raises(CalibrationError, match=complaint) as caught:
        list(checked(iter(given), SPEC))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", METHODS)
def test_weights_that_overflow_are_no_fault_of_the_images(parent: Artefact, method: str):
    huge = batches(2)
    huge[1][0, :, 16, 16] = np.inf  # as an activation further on would be
    with pytest.raises(ExportError, match=r"features\.\d+ is NaN or infinite on the calibration images"):
        observe(parent.path, iter(huge), [FIRST_RELU], method)
