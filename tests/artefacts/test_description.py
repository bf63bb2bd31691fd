"""What weights say of themselves travels with what is made of them."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
from safetensors.torch import save_file

from vggbench.artefacts.manifest import read_manifest
from vggbench.artefacts.onnx import onnx_artefact
from vggbench.models.description import CLASSES_KEY, PREPROCESSING_KEY, Description
from vggbench.models.preprocessing import Preprocessing
from vggbench.models.spec import make_spec
from vggbench.models.weights import initial_state

SHAPE = {"config": "8,M,16,M", "input_size": 32, "num_classes": 3, "classifier_width": 16}
KNOWN = Description(classes=("cat", "dog", "emu"), preprocessing=Preprocessing(crop=32, scale="0-255"))


def test_names_and_preprocessing_are_in_manifest_and_onnx_file(tmp_path: Path):
    path = tmp_path / "own.safetensors"
    save_file(initial_state(make_spec(**SHAPE)), path, metadata=KNOWN.metadata())
    artefact = onnx_artefact(make_spec(**SHAPE, weights=str(path)), tmp_path / "exports")
    model = onnx.load(artefact.path, load_external_data=False)
    noted = {entry.key: entry.value for entry in model.metadata_props}
    assert Description.of_metadata(noted, "the file") == KNOWN
    manifest = read_manifest(Path(artefact.folder))
    assert manifest.classes == KNOWN.classes
    assert Preprocessing.from_json(manifest.preprocessing) == KNOWN.preprocessing


def test_generated_weights_say_nothing_anywhere(tmp_path: Path):
    artefact = onnx_artefact(make_spec(**SHAPE), tmp_path)
    noted = {entry.key for entry in onnx.load(artefact.path, load_external_data=False).metadata_props}
    assert not {CLASSES_KEY, PREPROCESSING_KEY} & noted
    written = json.loads((Path(artefact.folder) / "manifest.json").read_text())
    assert not {"classes", "preprocessing"} & written.keys()
