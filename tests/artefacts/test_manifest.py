import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import edited, many, other_value
from vggbench.artefacts.artefact import combined_hash
from vggbench.artefacts.manifest import MANIFEST_NAME, canonical_sha256, read_manifest, write_manifest
from vggbench.errors import ArtefactError

HASHES = {"a.bin": "ab" * 32, "b.bin": "cd" * 32}
ENTRIES = {
    "schema": 1,
    "kind": "onnx",
    "main": "a.bin",
    "spec": {"variant": "vgg16", "input_size": 224, "batch_norm": True},
    "precision": "fp32",
    "opset": 20,
    "options": {},
    "inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 3, 224, 224]}],
    "outputs": [],
    "tools": {"onnx": "1"},
    "files": {name: {"sha256": sha256, "bytes": 3} for name, sha256 in HASHES.items()},
    "sha256": combined_hash(HASHES),
    "key": "ef" * 32,
    "parent": None,
    "seconds": 0.5,
    "created_at": "2026-01-02T03:04:05+00:00",
}


def resealed(entries):
    return {**entries, "seal": canonical_sha256(entries)}


def written(folder, content):
    (folder / MANIFEST_NAME).write_text(json.dumps(content))
    return folder


def test_what_was_written_is_read(tmp_path):
    write_manifest(tmp_path, ENTRIES)
    manifest = read_manifest(tmp_path)
    assert manifest.hashes == HASHES
    assert manifest.inputs[0].shape == ("batch", 3, 224, 224)
    assert manifest.spec == ENTRIES["spec"]
    assert manifest.created_at.utcoffset().total_seconds() == 0


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(ArtefactError, match=r"manifest\.json: the file is missing; remove the folder"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "a JSON object was expected, found list"),
        ("[" * 100_000, "not JSON"),
        ("{}", "schema: Field required"),
        ('{"seconds": NaN}', "schema: Field required"),
    ],
)
def test_a_broken_manifest_is_refused(tmp_path, text, said):
    (tmp_path / MANIFEST_NAME).write_text(text)
    with pytest.raises(ArtefactError, match=rf"manifest\.json: ({said}).*; remove the folder and export again"):
        read_manifest(tmp_path)


def test_a_manifest_that_is_a_folder_is_refused(tmp_path):
    (tmp_path / MANIFEST_NAME).mkdir()
    with pytest.raises(ArtefactError, match="cannot be read"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "schema: "),
        ({"key": "short"}, "key: "),
        ({"unknown": 1}, "unknown: Extra inputs"),
        ({"seconds": -1.0}, "seconds: "),
        ({"main": "c.bin"}, "main file 'c.bin' is not among the files"),
        ({"sha256": "00" * 32}, "hashes do not have the combined hash"),
        ({"files": {}}, "files: "),
        ({"files": {"../a.bin": {"sha256": "ab" * 32, "bytes": 3}}}, r"files\.\.\./a\.bin"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(tmp_path, change, said):
    with pytest.raises(ArtefactError, match=said):
        read_manifest(written(tmp_path, resealed(ENTRIES | change)))


@pytest.mark.parametrize(
    "change", [{"precision": "fp16"}, {"spec": ENTRIES["spec"] | {"batch_norm": False}}, {"parent": "ab" * 32}]
)
def test_an_edited_manifest_is_refused(tmp_path, change):
    with pytest.raises(ArtefactError, match="the content was changed after it was written"):
        read_manifest(written(tmp_path, resealed(ENTRIES) | change))


@many
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_one_line(tmp_path, content):
    (tmp_path / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(ArtefactError) as refused:
        read_manifest(tmp_path)
    assert len(str(refused.value).splitlines()) == 1


WHOLE = f"{json.dumps(resealed(ENTRIES), indent=2)}\n".encode()


def test_the_text_of_a_manifest_is_this(tmp_path):
    write_manifest(tmp_path, ENTRIES)
    assert (tmp_path / MANIFEST_NAME).read_bytes() == WHOLE


@many
@given(edited(WHOLE))
def test_any_other_text_is_refused(tmp_path, content):
    (tmp_path / MANIFEST_NAME).write_bytes(content)
    if content == WHOLE:
        return
    with pytest.raises(ArtefactError) as refused:
        read_manifest(tmp_path)
    assert len(str(refused.value).splitlines()) == 1


@many
@given(other_value(resealed(ENTRIES)))
def test_any_other_value_anywhere_is_refused(tmp_path, entries):
    if json.dumps(entries) == json.dumps(resealed(ENTRIES)):
        return
    with pytest.raises(ArtefactError) as refused:
        read_manifest(written(tmp_path, entries))
    assert len(str(refused.value).splitlines()) == 1


@many
@given(other_value(ENTRIES))
def test_any_other_value_under_a_seal_of_its_own_is_a_manifest_or_one_line(tmp_path, entries):
    try:
        sealed = resealed(entries)
    except ValueError:  # not JSON: NaN or an infinity
        sealed = entries | {"seal": "00" * 32}
    (tmp_path / MANIFEST_NAME).write_bytes(f"{json.dumps(sealed, indent=2)}\n".encode())
    try:
        read_manifest(tmp_path)
    except ArtefactError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - either is right
