"""The checkpoint in the repository is what its files say it is."""

import csv
import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.trained import CHECKPOINT, IMAGES, TRAINING, WEIGHTS, trained_spec
from vggbench.data.cifar import CLASSES
from vggbench.data.dataset import open_dataset
from vggbench.errors import VggbenchWarning
from vggbench.models.description import describe
from vggbench.models.preprocessing import Preprocessing
from vggbench.models.weights import build_module
from vggbench.train.recipe import checked_recipe, read_recipe

LARGEST_BYTES = 10_000_000
LONGEST_CPU_S = 30 * 60
LEAST_ACCURACY = 0.8


@pytest.fixture(scope="module")
def training():
    return json.loads(TRAINING.read_text())


def test_it_was_made_by_the_recipe_that_is_packaged(training):
    assert checked_recipe(training["recipe"], "stored") == read_recipe("narrow-bn")
    table = read_recipe("narrow-bn").network
    assert training["spec"] == table.spec(10, 0).to_json()
    assert trained_spec().to_json() == training["spec"] | {
        "weights": str(WEIGHTS),
        "weights_sha256": training["weights_sha256"],
    }


def test_it_cost_and_holds_no_more_than_it_may(training):
    outcome = training["outcome"]
    assert outcome["test_images"] == 10_000
    assert outcome["test_accuracy"] == outcome["test_correct"] / outcome["test_images"] >= LEAST_ACCURACY
    assert outcome["cpu_s"] <= LONGEST_CPU_S
    assert (training["images"], training["validation_images"]) == (50_000, 0)
    assert WEIGHTS.stat().st_size < LARGEST_BYTES
    kinds = {tensor.dtype for tensor in load_file(WEIGHTS).values()}
    assert kinds == {torch.float16, torch.int64}  # the batches that a batch norm has seen are counted in whole numbers


def test_the_files_agree(training):
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == training["weights_sha256"]
    rows = list(csv.DictReader((CHECKPOINT / "history.csv").read_text().splitlines()))
    assert len(rows) == training["outcome"]["epochs"] == training["recipe"]["epochs"]
    assert sum(float(row["cpu_s"]) for row in rows) <= training["outcome"]["cpu_s"]
    text = (CHECKPOINT / "README.md").read_text()
    assert f"{100 * training['outcome']['test_accuracy']:.2f} % of 10000 test images" in text
    assert f"12 epochs, {training['outcome']['cpu_s'] / 60:.1f} CPU minutes" in text


def test_it_says_what_its_classes_are_and_how_images_are_prepared():
    said = describe(trained_spec())
    assert said.classes == CLASSES
    assert said.preprocessing == read_recipe("narrow-bn").images.preprocessing(32)


def test_it_is_right_on_real_images():
    spec = trained_spec()
    images = open_dataset(IMAGES, "test")
    inputs = images.batch(np.arange(len(images)), Preprocessing.of_spec(spec), spec.input_size)
    with pytest.warns(VggbenchWarning, match="holds float16"):
        module = build_module(spec)
    with torch.inference_mode():
        found = module(torch.from_numpy(inputs)).argmax(1).numpy()
    assert (found == images.labels).mean() >= LEAST_ACCURACY
