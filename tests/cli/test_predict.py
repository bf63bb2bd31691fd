"""`vggbench predict` on the fake backend, and once through PyTorch on a checkpoint that names its classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from tests.cli.conftest import CommandLine
from tests.fakes import ARGUMENTS, SPEC
from vggbench.models.description import Description
from vggbench.models.preprocessing import Preprocessing
from vggbench.models.weights import initial_state

pytestmark = pytest.mark.usefixtures("inline_workers")


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "one.png", tmp_path / "two.jpg"]
    generator = np.random.default_rng(5)
    for path in paths:
        Image.fromarray(generator.integers(0, 256, (50, 40, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture
def predict(command_line: CommandLine, fake_exports: Path):
    def call(*arguments: object, backend: str = "fake"):
        return command_line("predict", *ARGUMENTS, "--backend", backend, "--exports", fake_exports, *arguments)

    return call


def test_classes_without_names_are_numbers_and_a_hint(predict, photos):
    said = predict(*photos)
    assert said.code == 0
    assert [line.partition(": ")[0] for line in said.out.splitlines()] == list(map(str, photos))
    assert all(line.count("class ") == 5 and line.endswith("%") for line in said.out.splitlines())
    assert "the weights do not name their classes" in said.err


def test_json_has_every_image(predict, photos, tmp_path):
    (tmp_path / "cut.png").write_bytes(photos[0].read_bytes()[:200])
    said = predict(photos[0], tmp_path / "cut.png", photos[1], "--json")
    one, cut, two = json.loads(said.out)
    assert said.code == 2
    assert [found["probability"] for found in one["classes"]] == sorted(
        (found["probability"] for found in one["classes"]), reverse=True
    )
    assert sum(found["probability"] for found in two["classes"]) == pytest.approx(1)
    assert cut["classes"] == []
    assert "cut.png': cannot be decoded" in cut["error"]
    assert said.message == "vggbench: 1 of 3 images cannot be read; they are named above"


def test_what_cannot_be_read_is_named_and_the_rest_predicted(predict, photos, tmp_path):
    said = predict(tmp_path / "none.png", photos[0])
    missing, found = said.out.splitlines()
    assert said.code == 2
    assert missing == f"image '{tmp_path / 'none.png'}': cannot be read: No such file or directory"
    assert found.startswith(f"{photos[0]}: class ")


def test_nothing_but_unreadable_files_is_2(predict, tmp_path):
    (tmp_path / "notes.txt").write_text("rex")
    said = predict(tmp_path / "notes.txt", tmp_path)
    assert (said.code, said.out) == (2, "")
    assert "notes.txt': is no image in any of the formats" in said.message
    assert said.message.endswith(", and 1 more like it")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--precision", "fp32,bf16"], "predict takes one network, backend and precision, not 2: custom fake"),
        (["--precision", "fp17"], "unknown precision 'fp17'"),
        (["--mean", "x"], "--mean is 'x'; give three numbers"),
    ],
)
def test_a_wrong_request_is_2(predict, photos, options, said: str):
    found = predict(photos[0], *options)
    assert found.code == 2
    assert said in found.message


def test_what_fails_parity_names_nothing(predict, photos):
    said = predict(photos[0], backend="fake:fault=wrong")
    assert (said.code, said.out) == (1, "")
    assert "parity_failed" in said.message


def test_a_checkpoint_names_its_classes_and_says_how_images_are_prepared(command_line, photos, tmp_path):
    import torch
    from torchvision import transforms

    from vggbench.models.spec import make_spec
    from vggbench.models.weights import build_module

    steps = Preprocessing(resize=36, crop=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    names = ("ant", "bee", "cat", "dog", "emu")
    path = tmp_path / "own.safetensors"
    save_file(initial_state(SPEC), path, metadata=Description(classes=names, preprocessing=steps).metadata())
    said = command_line(
        "predict", *ARGUMENTS, "--weights", path, "--exports", tmp_path / "exports", "--json", photos[0], "--threads", 1
    )
    assert said.code == 0
    theirs = transforms.Compose(
        [
            *(transforms.Resize(36), transforms.CenterCrop(32), transforms.ToTensor()),
            transforms.Normalize(steps.mean, steps.std),
        ]
    )
    module = build_module(
        make_spec(config="8,M,16,M", input_size=32, num_classes=5, classifier_width=16, weights=str(path))
    )
    with torch.inference_mode():
        expected = module(theirs(Image.open(photos[0]))[None]).softmax(dim=1)[0]
    found = {one["class"]: one["probability"] for one in json.loads(said.out)[0]["classes"]}
    assert found == pytest.approx(dict(zip(names, expected.tolist(), strict=True)), rel=1e-4)
    assert "do not name their classes" not in said.err
