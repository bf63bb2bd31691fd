import json
from dataclasses import replace

import pytest

from vggbench.artefacts.artefact import Artefact, check_files, combined_hash, file_sha256
from vggbench.errors import ArtefactError


@pytest.fixture
def artefact(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"first")
    (tmp_path / "b.bin").write_bytes(b"second")
    files = {name: file_sha256(tmp_path / name) for name in ("b.bin", "a.bin")}
    return Artefact(
        kind="onnx",
        folder=str(tmp_path),
        main="a.bin",
        files=files,
        sha256=combined_hash(files),
        spec={"variant": "vgg16"},
        precision="fp32",
        seconds=0.5,
    )


def test_it_travels_as_json(artefact):
    assert Artefact.from_json(json.loads(json.dumps(artefact.to_json()))) == artefact


def test_the_combined_hash_is_of_names_and_contents_in_any_order(artefact):
    files = dict(artefact.files)
    assert combined_hash(dict(sorted(files.items()))) == artefact.sha256
    assert combined_hash({"a.bin": files["b.bin"], "b.bin": files["a.bin"]}) != artefact.sha256
    assert combined_hash({"c.bin": files["a.bin"], "b.bin": files["b.bin"]}) != artefact.sha256


def test_whole_files_pass(artefact):
    check_files(artefact)


def test_a_missing_file_is_named(artefact):
    artefact.path.unlink()
    with pytest.raises(ArtefactError, match=r"a\.bin: the file is missing"):
        check_files(artefact)


@pytest.mark.parametrize("bit", range(0, 40, 13))
def test_any_flipped_bit_is_noticed(artefact, bit):
    content = bytearray(artefact.path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    artefact.path.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"a\.bin: SHA-256 is .*remove the folder and export again"):
        check_files(artefact)


def test_a_list_of_files_that_is_not_the_hashed_one_is_refused(artefact):
    for files in ({}, {"a.bin": artefact.files["a.bin"]}):
        with pytest.raises(ArtefactError, match="the list of files has the hash"):
            check_files(replace(artefact, files=files))
