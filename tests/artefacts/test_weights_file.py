import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.artefacts.networks import narrow
from vggbench.artefacts.artefact import check_files, file_sha256
from vggbench.artefacts.manifest import MANIFEST_NAME
from vggbench.artefacts.streams import BLOCK_BYTES
from vggbench.artefacts.weights import WeightsReader, weights_artefact, write_safetensors
from vggbench.errors import ArtefactError
from vggbench.models.weights import initial_state, lazy_state, load_module


def test_the_file_holds_the_weights_that_the_seed_draws(exports):
    spec = narrow(batch_norm=True)
    artefact = weights_artefact(spec, exports)
    check_files(artefact)
    assert artefact.path.name == "model.safetensors"
    state = initial_state(spec)
    loaded = load_module(spec, artefact.path).state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_it_is_written_once(exports, monkeypatch):
    spec = narrow(seed=1)
    first = weights_artefact(spec, exports)
    monkeypatch.setattr("vggbench.models.weights.lazy_state", lambda spec: pytest.fail("drawn again"))
    assert weights_artefact(spec, exports) == first


def test_another_torch_finds_the_same_file(exports, monkeypatch):
    spec = narrow(seed=1)
    first = weights_artefact(spec, exports)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99.0")
    assert weights_artefact(spec, exports) == first


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_file_is_the_one_that_safetensors_own_library_writes(tmp_path, batch_norm):
    spec = narrow(batch_norm=batch_norm, classifier_width=700)  # larger than what is drawn at a time
    save_file(initial_state(spec), tmp_path / "theirs")
    assert write_safetensors(tmp_path / "ours", lazy_state(spec)) == file_sha256(tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_two_writings_are_the_same_bytes(tmp_path):
    one, two = (weights_artefact(narrow(), tmp_path / name) for name in "ab")
    assert one.folder != two.folder
    assert one.files == two.files


def test_a_users_file_is_taken_over_and_its_place_is_not(tmp_path):
    own = tmp_path / "somewhere" / "own.pth"
    own.parent.mkdir()
    state = initial_state(narrow(seed=9))
    torch.save(state, own)
    artefact = weights_artefact(narrow(weights=str(own)), tmp_path / "exports")
    stored = load_file(artefact.path)
    assert all(torch.equal(stored[key], state[key]) for key in state)
    manifest = json.loads((Path(artefact.folder) / MANIFEST_NAME).read_text())
    assert manifest["spec"]["weights"] == "own.pth"
    assert str(tmp_path) not in json.dumps(manifest)


def test_the_reader_agrees_with_safetensors(tmp_path):
    path = tmp_path / "many.safetensors"
    large = torch.arange(BLOCK_BYTES // 4 + 1000, dtype=torch.float32)  # more than a block
    save_file({"a": torch.randn(3, 5), "large": large, "n": torch.tensor(7)}, path, metadata={"format": "pt"})
    reader, stored = WeightsReader(path), load_file(path)
    assert reader.shapes == {key: tuple(tensor.shape) for key, tensor in stored.items()}
    for key, tensor in stored.items():
        np.testing.assert_array_equal(reader.tensor(key), tensor.numpy())
    content, digest = dict.fromkeys(stored, b""), hashlib.sha256()
    for key, piece in reader.stream(digest):
        content[key] += piece
    assert content == {key: tensor.numpy().tobytes() for key, tensor in stored.items()}
    assert digest.hexdigest() == file_sha256(path)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x03" + bytes(7) + b"[1]"], ids=["empty", "noise", "list"])
def test_what_is_no_safetensors_file_is_named(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"model\.safetensors: not a safetensors file"):
        WeightsReader(path)


def test_a_file_that_ends_too_soon_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtefactError, match="the file ends inside a; remove its folder"):
        list(WeightsReader(path).stream(hashlib.sha256()))
