"""Trainings from start to weights: stopped, resumed, refused."""

import csv
import errno
import io
import json
import os
import signal
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from tests.train.small import Listener, recipe, recipe_data, write_cifar
from vggbench.data.cifar import CLASSES
from vggbench.data.dataset import open_dataset
from vggbench.errors import DataError, Interrupted, RecipeError, RequestError, RunFolderError, TrainingError
from vggbench.models.description import describe
from vggbench.models.spec import ModelSpec, make_spec
from vggbench.models.weights import build_module, state_for
from vggbench.models.weights_file import read_state
from vggbench.train.checkpoint import read_checkpoint
from vggbench.train.scores import COLUMNS
from vggbench.train.trainer import Trainer
from vggbench.train.training import Request, resume_training, start_training


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_cifar(tmp_path_factory.mktemp("data"))


def request(data, folder, **changes):
    made = changes.pop("recipe", None) or recipe(**changes)
    return Request(recipe_name="small", recipe=made, data=data, folder=folder, device="cpu", threads=1)


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGTERM)  # SIGINT is ignored where tests run in a shell's background


def state_of(folder):
    return read_state(folder / "model.safetensors")


def same(state, other):
    return state.keys() == other.keys() and all(torch.equal(state[key], other[key]) for key in state)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A training that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, start_training(request(data, folder), Listener())


def test_a_training_writes_weights_that_say_what_they_are(whole, data):
    folder, outcome = whole
    training = json.loads((folder / "training.json").read_text())
    spec = make_spec(
        config="4,M,8,M",
        batch_norm=True,
        head="flatten",
        input_size=32,
        num_classes=10,
        classifier_width=8,
        weights=str(folder / "model.safetensors"),
    )
    assert same(state_for(spec), state_of(folder))
    assert ModelSpec.from_json(training["spec"]).configuration == spec.configuration
    said = describe(spec)
    assert said.classes == CLASSES
    assert said.preprocessing == recipe().images.preprocessing(32)
    assert training["weights_sha256"] == spec.weights_sha256
    assert (training["images"], training["validation_images"]) == (30, 10)
    assert len(training["data_sha256"]) == len(training["test_sha256"]) == 64
    assert training["recipe"] == recipe().model_dump(mode="json")
    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        inside = json.loads(file.metadata()["vggbench.training"])
    assert inside == {key: value for key, value in training.items() if key != "weights_sha256"}
    assert inside["outcome"]["test_accuracy"] == outcome.test_accuracy
    assert outcome.test_images == 8


def test_the_test_accuracy_is_of_the_saved_weights_in_fp32(whole, data):
    folder, outcome = whole
    training = json.loads((folder / "training.json").read_text())
    module = build_module(ModelSpec.from_json(training["spec"]), state_of(folder))
    test = open_dataset(data, "test")
    inputs = test.batch(np.arange(len(test)), recipe().images.preprocessing(32), 32)
    with torch.no_grad():
        correct = int((module(torch.from_numpy(inputs)).argmax(1).numpy() == test.labels).sum())
    assert correct == outcome.test_correct


def test_the_history_is_a_table_and_a_page_of_curves(whole):
    folder, outcome = whole
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert tuple(rows[0]) == COLUMNS
    assert all(float(row[name]) >= 0 for row in rows for name in COLUMNS)
    assert float(rows[1]["learning_rate"]) < 0.05
    page = (folder / "curves.html").read_text()
    assert "small: custom_bn, 2 of 2 epochs, " in page
    assert "Plotly.newPlot" in page
    assert 'src="http' not in page
    assert outcome.cpu_s >= sum(float(row["cpu_s"]) for row in rows) * 0.999


@pytest.mark.parametrize(("schedule", "at"), [("one-cycle", (2, 2)), ("step", (1, 1)), ("plateau", (1, 4))])
def test_what_was_interrupted_goes_on_to_the_same_weights(data, tmp_path, schedule, at):
    kinds = {
        "one-cycle": recipe_data()["schedule"],
        "step": {"kind": "step", "every_epochs": 1, "factor": 0.5, "stepped": "epoch-start"},
        "plateau": {"kind": "plateau", "factor": 0.5, "patience": 0, "stepped": "epoch-end"},
    }
    made = recipe(schedule=kinds[schedule])
    start_training(request(data, tmp_path / "whole", recipe=made), Listener())
    folder = tmp_path / "stopped"
    with pytest.raises(Interrupted, match=rf"in epoch {at[0]} after batch {at[1]} of 4; --resume goes on from there"):
        start_training(request(data, folder, recipe=made), Listener(at, press_ctrl_c))
    assert not (folder / "model.safetensors").exists()
    assert f"{at[0] - 1} of 2 epochs" in (folder / "curves.html").read_text()
    torch.rand(5)
    listener = Listener()
    outcome = resume_training(folder, data, listener)
    assert listener.batches[0] == ((at[0], at[1] + 1) if at[1] < 4 else (at[0] + 1, 1))
    assert same(state_of(folder), state_of(tmp_path / "whole"))
    rows = [read_checkpoint(place).position.history for place in (folder, tmp_path / "whole")]
    timeless = [[replace(row, wall_s=0, cpu_s=0) for row in history] for history in rows]
    assert timeless[0] == timeless[1]
    assert outcome.epochs == 2


def test_what_was_killed_lost_its_last_epoch_at_most(data, tmp_path, whole):
    class Killed(BaseException):
        """What no handler of ours sees."""

    def kill():
        raise Killed

    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        start_training(request(data, folder), Listener((2, 3), kill))
    position = read_checkpoint(folder).position
    assert (position.epoch, position.batch) == (1, 0)
    resume_training(folder, data, Listener())
    assert same(state_of(folder), state_of(whole[0]))


def test_what_was_killed_at_once_begins_again(data, tmp_path, whole):
    folder = tmp_path / "killed"
    with pytest.raises(ZeroDivisionError):
        start_training(request(data, folder), Listener((1, 1), lambda: 1 / 0))
    resume_training(folder, data, Listener())
    assert same(state_of(folder), state_of(whole[0]))


def test_a_finished_training_may_go_on_for_more_epochs_where_its_schedule_has_no_end(data, tmp_path):
    schedule = {"kind": "step", "every_epochs": 1, "factor": 0.5, "stepped": "epoch-start"}
    start_training(request(data, tmp_path / "long", schedule=schedule, epochs=3), Listener())
    start_training(request(data, tmp_path / "short", schedule=schedule, epochs=1), Listener())
    listener = Listener()
    outcome = resume_training(tmp_path / "short", data, listener, epochs=3)
    assert [row.epoch for row in listener.rows] == [2, 3]
    assert outcome.epochs == 3
    assert same(state_of(tmp_path / "short"), state_of(tmp_path / "long"))
    with pytest.raises(RecipeError, match="--epochs is 2, and 3 are trained already"):
        resume_training(tmp_path / "short", data, Listener(), epochs=2)


def test_an_end_that_no_training_has_is_refused(data, tmp_path):
    schedule = {"kind": "constant"}
    with pytest.raises(Interrupted):
        start_training(request(data, tmp_path / "run", schedule=schedule), Listener((1, 1), press_ctrl_c))
    with pytest.raises(RecipeError, match="epochs: input should be greater than or equal to 1, not 0"):
        resume_training(tmp_path / "run", data, Listener(), epochs=0)


def test_batches_of_one_image_have_no_spread(data, tmp_path):
    optimizer = recipe_data()["optimizer"] | {"batch_size": 1}
    with pytest.raises(RecipeError, match=r"optimizer\.batch_size is 1; a batch norm needs 2 images"):
        start_training(request(data, tmp_path / "run", optimizer=optimizer), Listener())
    network = recipe_data()["network"] | {"batch_norm": False}
    made = request(data, tmp_path / "run", optimizer=optimizer, network=network, epochs=1)
    assert start_training(made, Listener()).epochs == 1


def test_one_cycle_has_an_end(data, whole):
    with pytest.raises(RecipeError, match="laid out for 2 epochs"):
        resume_training(whole[0], data, Listener(), epochs=3)


def test_a_finished_training_resumed_is_tested_again_and_not_trained(data, whole):
    folder, outcome = whole
    before, listener = state_of(folder), Listener()
    assert resume_training(folder, data, listener).test_correct == outcome.test_correct
    assert listener.batches == []
    assert same(before, state_of(folder))


def test_a_loss_that_is_no_number_ends_in_a_line_and_the_last_epoch_stays(data, tmp_path, monkeypatch):
    learn, count = Trainer.learn, iter(range(100))

    def learn_badly(self, batch):
        inputs, labels = batch
        return learn(self, (inputs * np.float32(np.nan if next(count) == 5 else 1), labels))

    monkeypatch.setattr(Trainer, "learn", learn_badly)
    with pytest.raises(TrainingError) as raised:
        start_training(request(data, tmp_path / "run"), Listener())
    assert str(raised.value).startswith("the loss is nan at a learning rate of 0.0")
    assert str(raised.value).endswith("(epoch 2, batch 2 of 4): train with a lower --learning-rate")
    assert read_checkpoint(tmp_path / "run").position.epoch == 1
    assert (tmp_path / "run" / "history.csv").read_text().count("\n") == 2


def test_weights_that_the_last_step_lost_are_not_written(data, tmp_path, monkeypatch):
    learn = Trainer.learn

    def lose(self, batch):
        score = learn(self, batch)
        with torch.no_grad():
            next(self.network.parameters())[0] = torch.inf
        return score

    wide = {"batch_size": 1024, "learning_rate": 0.05}
    monkeypatch.setattr(Trainer, "learn", lose)
    with pytest.raises(TrainingError, match=r"^27 of 108 values of features.0.weight are not finite in fp32, and no"):
        start_training(request(data, tmp_path / "run", optimizer=wide, epochs=1), Listener())
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_loss_of_the_test_images_that_is_no_number_ends_in_a_line(data, tmp_path, monkeypatch):
    monkeypatch.setattr("vggbench.train.training._outcome", pytest.fail)
    evaluate = Trainer.evaluate
    monkeypatch.setattr(Trainer, "evaluate", lambda *given: replace(evaluate(*given), loss_sum=np.inf))
    with pytest.raises(TrainingError, match=r"^the loss on the test images is inf: train with a lower"):
        start_training(request(data, tmp_path / "run", epochs=1), Listener())


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("position", "epoch"), -1, "contradicts itself"),
        (("position", "epoch"), 10**9, "contradicts itself"),
        (("position", "history"), (), "contradicts itself"),
        (("info", "threads"), 0, "contradicts itself"),
        (("position", "batch"), -1, "contradicts itself"),
        (("position", "batch"), 10**6, "does not fit its own recipe"),
        (("info", "classes"), tuple("abcdefghij"), "does not fit its own recipe"),
        (("info", "recipe", "epochs"), 7, "does not fit its own recipe"),
    ],
)
def test_a_checkpoint_that_was_edited_is_refused(data, tmp_path, whole, place, value, words):
    content = torch.load(whole[0] / "checkpoint.pt", weights_only=True)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(RunFolderError, match=words):
        resume_training(tmp_path, data, Listener())
    assert not (tmp_path / "model.safetensors").exists()


@contextmanager
def closing_both(file, other):
    with file, other:
        yield file


def test_a_full_disk_is_one_line_and_the_former_checkpoint_stays(data, tmp_path, monkeypatch):
    listener, fdopen = Listener(), os.fdopen

    class Full(io.BytesIO):
        def write(self, content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def opened(descriptor, mode):
        file = fdopen(descriptor, mode)
        return closing_both(Full(), file) if listener.rows else file

    monkeypatch.setattr(os, "fdopen", opened)
    with pytest.raises(RunFolderError, match=r"checkpoint.pt cannot be written: No space left on device; make room"):
        start_training(request(data, tmp_path / "run"), listener)
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / "run").position.epoch == 0


def test_memory_that_runs_out_is_one_line(data, tmp_path, monkeypatch):
    def fail(self, batch):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")

    monkeypatch.setattr(Trainer, "learn", fail)
    with pytest.raises(TrainingError, match="memory ran out with batches of 8 images; train with a smaller"):
        start_training(request(data, tmp_path / "run"), Listener())


def test_a_folder_that_has_a_training_is_not_begun_again(data, whole):
    with pytest.raises(RunFolderError, match="holds a training already; give --resume"):
        start_training(request(data, whole[0]), Listener())


def test_other_images_are_not_gone_on_with(tmp_path, whole):
    other = write_cifar(tmp_path / "other", count=6)
    with pytest.raises(RunFolderError, match="holds other images than those trained on so far"):
        resume_training(whole[0], other, Listener())


def test_there_has_to_be_a_training_to_go_on_with(data, tmp_path):
    with pytest.raises(RunFolderError, match="holds no training to go on with"):
        resume_training(tmp_path / "none", data, Listener())
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match="is missing"):
        resume_training(tmp_path / "empty", data, Listener())


def test_a_number_of_classes_that_the_data_does_not_have_is_refused(data, tmp_path):
    network = recipe_data()["network"] | {"num_classes": 7}
    with pytest.raises(RecipeError, match=r"recipe small is for 7 classes and cifar-10/train has 10 \(airplane, auto"):
        start_training(request(data, tmp_path / "run", network=network), Listener())
    assert not (tmp_path / "run").exists()


def test_a_split_that_leaves_nothing_is_refused(data, tmp_path):
    images = {"validation_share": 0.01}
    with pytest.raises(RecipeError, match="leaves 40 to train on and 0 to validate with"):
        start_training(request(data, tmp_path / "run", images=images), Listener())


def test_images_that_do_not_fit_are_refused_before_anything_is_written(data, tmp_path):
    with pytest.raises(DataError, match="24x24"):
        start_training(request(data, tmp_path / "run", images={"crop": 24}), Listener())
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_there_is_refused(data, tmp_path):
    made = request(data, tmp_path / "run")
    with pytest.raises(RequestError, match="device is 'tpu'; it can be cpu or cuda"):
        start_training(replace(made, device="tpu"), Listener())
    if not torch.cuda.is_available():
        with pytest.raises(RequestError, match="torch finds no GPU here"):
            start_training(replace(made, device="cuda"), Listener())
    with pytest.raises(RequestError, match="fp16 is trained on a GPU only"):
        start_training(request(data, tmp_path / "run", precision="fp16"), Listener())


def test_weights_may_be_saved_in_fp16(data, tmp_path):
    outcome = start_training(request(data, tmp_path / "run", saved_as="fp16"), Listener())
    kinds = {tensor.dtype for key, tensor in state_of(tmp_path / "run").items() if "num_batches" not in key}
    assert kinds == {torch.float16}
    assert outcome.test_accuracy is not None


def test_the_processs_random_numbers_are_left_alone(data, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    start_training(request(data, tmp_path / "run"), Listener())
    assert torch.equal(torch.rand(2), expected)


def test_images_of_0_to_255_go_in_as_they_are(data, tmp_path, monkeypatch):
    seen = []
    learn = Trainer.learn
    monkeypatch.setattr(Trainer, "learn", lambda self, batch: (seen.append(batch[0]), learn(self, batch))[1])
    images = {"scale": "0-255", "mean": [0.0] * 3, "std": [1.0] * 3}
    start_training(request(data, tmp_path / "run", images=images, epochs=1), Listener())
    values = np.concatenate(seen)
    assert values.max() > 200
    assert np.array_equal(values, values.round())
