"""`vggbench accuracy` on the fake backend."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import CommandLine, Said
from tests.data.writing import write_folders
from tests.fakes import ARGUMENTS
from vggbench.results.accuracy import accuracy_columns

pytestmark = pytest.mark.usefixtures("inline_workers")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(5)
    images = {
        name: list(generator.integers(0, 256, (4, 32, 40, 3), dtype=np.uint8)) for name in ("a", "b", "c", "d", "e")
    }
    write_folders(folder / "test", images)
    (folder / "test" / "a" / "notes.txt").write_text("rex")
    return folder


@pytest.fixture
def accuracy(command_line: CommandLine, fake_exports: Path, photos: Path, tmp_path: Path) -> Callable[..., Said]:
    def call(text: str = "", *, backend: str = "fake", shape: str = shlex.join(ARGUMENTS)) -> Said:
        folders = {"photos": photos, "out": tmp_path / "out"}
        options = f"{shape} --backend {backend} --exports {fake_exports} --output {{out}} {text}"
        return command_line("accuracy", *shlex.split(options.format(**folders)))

    return call


def test_a_table_a_file_and_0(accuracy, tmp_path: Path):
    said = accuracy("--data {photos}")
    assert said.code == 0
    heading, _, fp32, bf16, written = said.out.splitlines()
    assert heading.split("  ")[0].split()[:5] == ["variant", "backend", "precision", "batch", "images"]
    assert fp32.split()[:5] == ["custom", "fake", "fp32", "32", "20"]
    assert bf16.split()[-5:] == ["no", "difference", "shown", *bf16.split()[-2:]]
    assert written == f"written to {tmp_path / 'out'}: accuracy.csv"
    with (tmp_path / "out" / "accuracy.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(accuracy_columns())
    assert [(row["precision"], row["images"], row["unreadable_files"]) for row in rows] == [
        ("fp32", "20", "1"),
        ("bf16", "20", "1"),
    ]
    assert rows[0]["data"].endswith("/test")


def test_what_is_no_image_is_said(accuracy):
    lines = accuracy("--data {photos}").err.splitlines()
    assert lines[0].endswith("/test: 20 images of 5 classes, SHA-256 " + lines[0][-15:])
    assert lines[1].startswith("a/notes.txt is no image in any of the formats")
    assert lines[2] == "1 files hold no image and are left out"


def test_json_has_the_columns(accuracy):
    said = accuracy("--data {photos} --precision fp32 --limit 8 --batch-size 3 --json")
    (row,) = json.loads(said.out)
    assert (said.code, list(row)) == (0, list(accuracy_columns()))
    assert (row["images"], row["batch_size"]) == (8, 3)
    assert row["top1_low_percent"] <= row["top1_percent"] <= row["top1_high_percent"]


def test_the_preprocessing_is_in_the_row(accuracy):
    said = accuracy("--data {photos} --precision fp32 --mean 0.5 --std 0.2,0.3,0.4 --resize 36 --json")
    assert json.loads(said.out)[0]["preprocessing"] == "resize 36, crop 32, 0-1, mean 0.5,0.5,0.5, std 0.2,0.3,0.4"


def test_it_resumes(accuracy):
    first = accuracy("--data {photos} --json")
    again = accuracy("--data {photos} --resume --json", shape="", backend="fake")
    assert again.code == 2
    assert again.message.endswith("give --data, and no other choice beside it")
    assert first.code == 0


def test_it_resumes_without_other_choices(accuracy, command_line, photos, fake_exports, tmp_path):
    first = accuracy("--data {photos} --json")
    places = ("--output", tmp_path / "out", "--exports", fake_exports)
    again = command_line("accuracy", "--resume", "--data", photos, "--json", *places)
    assert (again.code, json.loads(again.out)) == (0, json.loads(first.out))


@pytest.mark.parametrize(("fault", "code"), [("wrong", 1), ("precision", 1), ("run", 5)])
def test_what_is_not_as_asked_has_its_code(accuracy, fault: str, code: int):
    said = accuracy("--data {photos} --precision fp32", backend=f"fake:fault={fault}")
    assert said.code == code
    assert f"custom fake fault={fault} fp32 batch 32" in said.out


WRONG = [
    ("", "--data is missing: the folder of the images"),
    ("--data {photos}/nowhere", "does not exist; name a folder of images or of CIFAR-10's files"),
    ("--data {photos} --limit 0", "0 images asked for; the set has 20"),
    ("--data {photos} --limit 21", "21 images asked for; the set has 20"),
    ("--data {photos} --mean 1,2", "--mean is '1,2'; give three numbers, as 0.485,0.456,0.406, or one for all colours"),
    ("--data {photos} --std nan", "--std is 'nan'; give three numbers, as 0.485,0.456,0.406, or one for all colours"),
    ("--data {photos} --std 0", "preprocessing: std is [0.0, 0.0, 0.0]; values are divided by it, so it is above 0"),
    ("--data {photos} --resize 0", "preprocessing: resize is 0; it must be from 1 to 8192 pixels"),
    (
        "--data {photos} --resize 16 --mean 0 --num-classes 7",
        "give --num-classes, or the weights and images of one task",
    ),
]


@pytest.mark.parametrize(("options", "said"), WRONG)
def test_a_wrong_request_is_one_line_and_2(accuracy, tmp_path: Path, options: str, said: str):
    found = accuracy(options)
    assert (found.code, found.message.endswith(said), found.out) == (2, True, "")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["verify", "run --rounds 1 --time-budget-s 0.05 --no-roofline --output {out}"])
def test_cells_are_shown_images_of_a_set(command_line, photos, fake_exports, tmp_path, command: str):
    words = shlex.split(command.format(out=tmp_path / "out"))
    shape = (*ARGUMENTS, "--backend", "fake", "--precision", "fp32", "--exports", fake_exports)
    said = command_line(*words, *shape, "--data", photos, "--json")
    (row,) = json.loads(said.out)
    assert (said.code, row["status"]) == (0, "ok")
    assert row["inputs"].startswith(f"{photos.name}/test ")
    said = command_line(*words, *shape, "--data", photos / "nowhere")
    assert said.code == 2
    assert said.message.endswith("does not exist; name a folder of images or of CIFAR-10's files")
