"""`vggbench train`: what it prints, what it refuses, and that a killed one goes on to the same weights."""

import json
import re
import signal
import time
from io import StringIO

import pytest
import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress, TextColumn

from tests.killing import begin
from tests.train.small import Listener, colourful, recipe_data, write_cifar
from vggbench.cli.train import LiveBar, PlainLines, epoch_text
from vggbench.models.weights_file import read_state
from vggbench.train.recipe import read_recipe, recipe_names
from vggbench.train.scores import EpochScore, Score
from vggbench.train.training import Request, start_training


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_cifar(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory):
    """The small recipe as TOML: JSON's values are TOML's, table by table."""
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    values = recipe_data()
    tables = {name: values.pop(name) for name in [*values] if isinstance(values[name], dict)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def train(command_line, data, recipe_file, tmp_path):
    def call(*arguments, output="run"):
        usual = ["--data", data, "--output", tmp_path / output, "--device", "cpu", "--threads", 1]
        return command_line("train", *usual, "--recipe", recipe_file, *arguments)

    return call


def test_it_says_what_came_of_it(train, tmp_path):
    said = train()
    assert said.code == 0
    first, second, third = said.out.splitlines()
    assert re.fullmatch(r"\d+\.\d\d % of 8 test images are classified correctly", first)
    assert re.fullmatch(r"2 epochs, \d+\.\d CPU minutes in \d+\.\d minutes", second)
    assert third.endswith("run: model.safetensors, training.json, history.csv, curves.html")
    lines = said.err.splitlines()
    assert lines[0].startswith("cifar-10/train: 40 images of 10 classes, SHA-256 ")
    assert lines[1].startswith("cifar-10/test: 8 images")
    assert re.fullmatch(
        r"epoch 2/2: loss \d\.\d{4}, \d+\.\d % of training images; validation \d\.\d{4}, \d+\.\d %; \d+ s, \d+ CPU s",
        lines[-1],
    )
    assert len(lines) == 4


def test_json_is_the_training(train, tmp_path):
    said = train("--json", "--epochs", 1, "--set", "images.flip=false", "--learning-rate", 0.01, "--seed", 9)
    document = json.loads(said.out)
    assert document == json.loads((tmp_path / "run" / "training.json").read_text())
    assert (document["recipe"]["epochs"], document["recipe"]["seed"]) == (1, 9)
    assert document["recipe"]["images"]["flip"] is False
    assert document["recipe"]["optimizer"]["learning_rate"] == 0.01
    assert document["recipe_name"] == "small.toml"


def test_a_network_of_ones_own_takes_the_recipes_place(train, tmp_path):
    said = train("--config", "6,M,6,M,6,M", "--epochs", 1, "--json")
    spec = json.loads(said.out)["spec"]
    assert (spec["configuration"], spec["batch_norm"], spec["classifier_width"]) == ("6,M,6,M,6,M", True, 8)


def test_photos_keep_their_class_names(command_line, recipe_file, tmp_path):
    for split, seed in (("train", 0), ("test", 1)):
        pixels, labels = colourful(24, seed)
        for place, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            folder = tmp_path / "photos" / split / ("red", "green", "blue")[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).resize((40, 36)).save(folder / f"{place}.png")
    (tmp_path / "photos" / "train" / "red" / "broken.png").write_bytes(b"no image")
    arguments = ["--data", tmp_path / "photos", "--output", tmp_path / "run", "--device", "cpu", "--threads", 1]
    said = command_line("train", *arguments, "--recipe", recipe_file, "--json")
    assert said.code == 0
    assert json.loads(said.out)["classes"] == ["blue", "green", "red"]
    assert "red/broken.png is no image in any of the formats" in said.err
    assert "1 files hold no image and are left out" in said.err
    again = command_line(
        "train", *arguments[:3], tmp_path / "more", *arguments[4:], "--recipe", recipe_file,
        "--init", tmp_path / "run" / "model.safetensors", "--json",
    )  # fmt: skip
    assert json.loads(again.out)["init"].startswith("model.safetensors, sha256 ")
    assert again.code == 0


def test_without_test_images_nothing_is_said_of_others(command_line, recipe_file, tmp_path):
    pixels, labels = colourful(12, 0)
    for place, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        folder = tmp_path / "photos" / ("red", "green", "blue")[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{place}.png")
    arguments = [
        "--data",
        tmp_path / "photos",
        "--output",
        tmp_path / "run",
        "--recipe",
        recipe_file,
        "--device",
        "cpu",
    ]
    said = command_line("train", *arguments, "--threads", 1)
    assert said.code == 0
    assert said.out.startswith("no test images are apart from those that were trained on")
    assert json.loads((tmp_path / "run" / "training.json").read_text())["outcome"]["test_accuracy"] is None


def test_classes_that_differ_between_the_splits_are_named(command_line, recipe_file, tmp_path):
    for split, names in (("train", ("cat", "dog")), ("test", ("cat", "cow"))):
        for name in names:
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (32, 32), (len(name + split), 0, 0)).save(folder / "1.png")
    said = command_line("train", "--data", tmp_path / "photos", "--output", tmp_path / "run", "--recipe", recipe_file)
    assert said.code == 2
    assert said.message.endswith("2 classes to train on, 2 to test on; they differ in cow, dog")


def test_a_terminal_sees_a_bar_and_the_lines_of_finished_epochs():
    said = StringIO()
    with Progress(TextColumn("{task.description}"), console=Console(file=said, width=100)) as live:
        bar = LiveBar(live)
        bar.learned(1, 1, 2, Score(2.0, 1, 4))
        bar.learned(1, 2, 2, Score(4.0, 3, 8))
        bar.finished(ROW, 3)
        bar.learned(2, 1, 2, Score(1.0, 4, 4))
    assert epoch_text(ROW, 3) in said.getvalue()
    assert "epoch 2, loss 0.250" in said.getvalue()


def test_a_long_epoch_is_told_of_now_and_then(capsys, monkeypatch):
    clock = iter([0.0, 30.0, 61.0, 61.0, 70.0, 130.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    lines = PlainLines()
    for done in (1, 2, 3):
        lines.learned(1, done, 4, Score(2.0 * done, done, 4 * done))
    assert capsys.readouterr().err == "epoch 1: 2 of 4 batches, loss 0.5000\n"


ROW = EpochScore(
    epoch=1,
    learning_rate=0.1,
    train_loss=1.0,
    train_accuracy=0.5,
    validation_loss=None,
    validation_accuracy=None,
    wall_s=3.0,
    cpu_s=4.0,
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", 0], "threads is 0; it must be at least 1"),
        (["--epochs", 0], "epochs: input should be greater than or equal to 1, not 0"),
        (["--precision", "fp64"], "precision: input should be 'fp32', 'bf16' or 'fp16', not 'fp64'"),
        (["--precision", "fp16"], "precision fp16 is trained on a GPU only"),
        (["--device", "tpu"], "device is 'tpu'; it can be cpu or cuda"),
        (["--set", "momentum"], "'momentum' is no KEY=VALUE"),
        (["--set", "optimizer.mood=1"], "'optimizer.mood' is no key here"),
        (["--variant", "vgg12"], "no variant is called 'vgg12'"),
        (["--num-classes", 3], "is for 3 classes and cifar-10/train has 10"),
        (["--init", "none.pth"], "weights file 'none.pth' does not exist"),
        (["--init", "imagenet"], "custom_bn has no published file"),
        (["--resume"], "--resume goes on with the training as it was begun; beside it only --epochs can be given"),
    ],
)
def test_what_cannot_be_is_one_line(train, tmp_path, arguments, message):
    said = train(*arguments)
    assert said.code == 2
    assert message in said.message
    assert said.err.count("vggbench: ") == 1
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_wrong_data_is_one_line(command_line, tmp_path, recipe_file):
    for where, message in ((tmp_path / "none", "does not exist"), (tmp_path, "is empty")):
        said = command_line("train", "--data", where, "--output", tmp_path.parent / "out", "--recipe", recipe_file)
        assert (said.code, message in said.message) == (2, True)


def test_resuming_needs_a_folder(command_line, data, tmp_path):
    said = command_line("train", "--data", data, "--resume")
    assert (said.code, said.message) == (
        2,
        "vggbench: --resume needs --output: the folder of the training to go on with",
    )
    said = command_line("train", "--data", data, "--resume", "--output", tmp_path / "none")
    assert said.code == 2
    assert "holds no training to go on with" in said.message


def test_the_help_names_every_recipe(command_line):
    said = command_line("train", "--help")
    assert all(name in said.out for name in recipe_names())


def weights(folder):
    return read_state(folder / "model.safetensors")


@pytest.fixture(scope="module")
def undisturbed(data, recipe_file, tmp_path_factory):
    """The weights of 60 epochs that nobody ended."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    recipe = read_recipe(str(recipe_file), {"epochs": 60})
    made = Request(recipe_name="small", recipe=recipe, data=data, folder=folder, device="cpu", threads=1)
    start_training(made, Listener())
    return weights(folder)


@pytest.mark.slow
def test_a_process_that_was_ended_goes_on_in_others_to_the_same_weights(data, recipe_file, tmp_path, undisturbed):
    folder = tmp_path / "ended"
    again = ["train", "--data", data, "--output", folder, "--resume"]
    begun = [*again[:-1], "--epochs", 60, "--recipe", recipe_file, "--device", "cpu", "--threads", 1]
    said, code = ended_after(begun, folder, 1, signal.SIGTERM)
    assert code == 130
    assert said.splitlines()[-1].endswith("; --resume goes on from there")
    assert not (folder / "model.safetensors").exists()
    reached = _epochs(folder)
    said, code = ended_after(again, folder, reached + 2, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert first_epoch(said) == reached + 1
    reached = _epochs(folder)
    with begin(*again) as process:
        _out, said = process.communicate()
    assert process.returncode == 0
    assert first_epoch(said) == reached + 1
    ended = weights(folder)
    assert all(torch.equal(ended[key], undisturbed[key]) for key in undisturbed)


def ended_after(arguments, folder, epochs, number):
    """Start a training, end it by a signal once so many epochs are over, and return what it said and ended in."""
    with begin(*arguments) as process:
        while _epochs(folder) < epochs:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _out, said = process.communicate()
    assert epochs <= _epochs(folder) < 60
    return said, process.returncode


def first_epoch(said):
    return int(re.search(r"^epoch (\d+)/60: ", said, re.MULTILINE)[1])


def _epochs(folder):
    path = folder / "history.csv"
    return path.read_text().count("\n") - 1 if path.exists() else 0
