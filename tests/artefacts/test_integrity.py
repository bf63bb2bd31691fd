"""Files that are not what they were: noticed on every path that opens them, before a backend does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vggbench
from tests.artefacts.networks import FIVE_POOLS, narrow
from tests.cli.conftest import CommandLine, command_line  # noqa: F401 - a fixture
from tests.fakes import fake_cell, fake_request
from vggbench.artefacts.artefact import Artefact, combined_hash, file_sha256
from vggbench.artefacts.external_data import ALIGNMENT
from vggbench.artefacts.manifest import MANIFEST_NAME, canonical_sha256
from vggbench.artefacts.onnx import DATA_FILE, ONNX_FILE, onnx_artefact
from vggbench.artefacts.weights import WEIGHTS_FILE, weights_artefact
from vggbench.backends.fake import FakeBackend
from vggbench.errors import ArtefactError
from vggbench.measure.worker import Worker, answer
from vggbench.parity.reference import REFERENCE_FILE, reference_artefact
from vggbench.preparation import materials

SPEC, OTHER = narrow(classifier_width=8), narrow(classifier_width=8, seed=1)
SHAPE: dict[str, Any] = {"config": FIVE_POOLS, "input_size": 32, "num_classes": 10, "classifier_width": 8}
ARGUMENTS = ("--config", FIVE_POOLS, "--input-size", "32", "--num-classes", "10", "--classifier-width", "8")
FILES = {"weights": (WEIGHTS_FILE,), "onnx": (ONNX_FILE, DATA_FILE), "reference": (REFERENCE_FILE,)}
OPENED = [(kind, name) for kind, names in FILES.items() for name in names]
FLIPS = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
pytestmark = pytest.mark.usefixtures("inline_workers")


@dataclass(frozen=True)
class Made:
    """The artefacts of two networks that differ in their weights alone."""

    exports: Path
    artefacts: dict[str, Artefact]
    others: dict[str, Artefact]

    def path(self, kind: str, name: str) -> Path:
        return Path(self.artefacts[kind].folder) / name

    def find(self, kind: str, **options: Any) -> Artefact:
        """Ask for an artefact again, as exporting and preparing do."""
        weights = self.artefacts["weights"]
        if kind == "weights":
            return weights_artefact(SPEC, self.exports)
        if kind == "onnx":
            return onnx_artefact(SPEC, self.exports, weights, **options)
        return reference_artefact(SPEC, self.exports, weights)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    exports = tmp_path_factory.mktemp("exports")

    def all_of(spec: Any) -> dict[str, Artefact]:
        weights = weights_artefact(spec, exports)
        onnx, reference = onnx_artefact(spec, exports, weights), reference_artefact(spec, exports, weights)
        return {"weights": weights, "onnx": onnx, "reference": reference}

    return Made(exports, all_of(SPEC), all_of(OTHER))


@contextmanager
def kept(path: Path) -> Iterator[bytes]:
    """Give a file's content, and the file that content back."""
    content = path.read_bytes()
    try:
        yield content
    finally:
        path.write_bytes(content)


@contextmanager
def flipped(path: Path, data: st.DataObject) -> Iterator[None]:
    """Flip a few bits of a file, each once."""
    with kept(path) as content:
        damaged = bytearray(content)
        for bit in data.draw(st.sets(st.integers(0, 8 * len(content) - 1), min_size=1, max_size=3)):
            damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        yield


@contextmanager
def moved_away(folder: Path) -> Iterator[None]:
    """Leave a folder's place empty, and put it back over whatever is there then."""
    away = folder.rename(folder.with_name("away"))
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        away.rename(folder)


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(ArtefactError) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def opening(made: Made, kind: str) -> dict[str, Any]:
    """Return what a worker is told to open; a reference is opened beside any artefact."""
    request = fake_request(fake_cell(spec=SPEC), made.exports)
    reference = made.artefacts["reference"]
    return {
        **request.opening(1),
        "artefact": made.artefacts["weights" if kind == "reference" else kind].to_json(),
        "reference": str(reference.path),
        "reference_sha256": reference.files[reference.main],
    }


# Bits


@pytest.mark.parametrize(("kind", "name"), OPENED)
def test_a_worker_notices_any_flipped_bit_before_its_backend_opens_a_file(
    made: Made, kind: str, name: str, monkeypatch: pytest.MonkeyPatch
):
    opened: list[bool] = []
    monkeypatch.setattr(FakeBackend, "open", lambda *_arguments, **_options: opened.append(True))
    line = json.dumps({"command": "open", **opening(made, kind)})

    @FLIPS
    @given(st.data())
    def notices(data: st.DataObject):
        with flipped(made.path(kind, name), data):
            message = answer(Worker(), line)
        assert (message["ok"], message["kind"]) == (False, "ArtefactError")
        assert f"{name}: SHA-256 is " in message["message"]

    notices()
    assert opened == []
    answer(Worker(), line)
    assert opened == [True]


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
@FLIPS
@given(data=st.data())
def test_any_flipped_bit_of_a_manifest_is_noticed(made: Made, kind: str, data: st.DataObject):
    with flipped(made.path(kind, MANIFEST_NAME), data):
        refusal(lambda: made.find(kind))


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES["onnx"])
@FLIPS
@given(data=st.data())
def test_an_export_that_exists_is_whole(made: Made, name: str, data: st.DataObject):
    with flipped(made.path("onnx", name), data):
        assert f"{name}: SHA-256 is " in refusal(lambda: made.find("onnx", hash_existing=True))


@pytest.mark.parametrize("made_from", [pytest.param("onnx", marks=pytest.mark.slow), "reference"])
def test_nothing_is_made_of_weights_with_a_flipped_bit(made: Made, made_from: str):
    folder = Path(made.artefacts[made_from].folder)
    with kept(made.path("weights", WEIGHTS_FILE)) as content, moved_away(folder):
        made.path("weights", WEIGHTS_FILE).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert f"{WEIGHTS_FILE}: SHA-256 is " in refusal(lambda: made.find(made_from))
        assert not folder.exists()


@FLIPS
@given(data=st.data())
def test_preparing_a_cell_notices_any_flipped_bit_of_the_reference(made: Made, data: st.DataObject):
    with flipped(made.path("reference", REFERENCE_FILE), data):
        message = refusal(lambda: materials(fake_cell(spec=SPEC, backend="torch"), made.exports))
    assert f"{REFERENCE_FILE}: SHA-256 is " in message


def test_the_second_session_of_a_round_notices_what_was_written_since_the_first(made: Made):
    worker, line = Worker(), json.dumps({"command": "open", **opening(made, "weights")})
    assert answer(worker, line)["ok"]
    with kept(made.path("weights", WEIGHTS_FILE)) as content:
        made.path("weights", WEIGHTS_FILE).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert "SHA-256 is " in answer(worker, line)["message"]


def test_the_second_session_reads_no_file_again_that_nobody_touched(made: Made, monkeypatch: pytest.MonkeyPatch):
    worker, line = Worker(), json.dumps({"command": "open", **opening(made, "weights")})
    assert answer(worker, line)["ok"]
    monkeypatch.setattr("vggbench.measure.worker.check_files", lambda _files: pytest.fail("hashed again"))
    assert answer(worker, line)["ok"]


@pytest.mark.parametrize("name", [ONNX_FILE, DATA_FILE])
def test_every_way_in_says_it_in_one_line(made: Made, command_line: CommandLine, name: str, tmp_path: Path):  # noqa: F811
    places = ("--exports", made.exports)
    cells = (*ARGUMENTS, "--backend", "onnxruntime", "--precision", "fp32")
    with kept(made.path("onnx", name)) as content:
        made.path("onnx", name).write_bytes(bytes([content[0] ^ 1]) + content[1:])
        exported = command_line("export", *ARGUMENTS, *places)
        refused = refusal(lambda: vggbench.export(**SHAPE, exports=made.exports))
        verified = command_line("verify", *cells, *places)
        ran = command_line("run", *cells, *places, "--output", tmp_path / "run", "--rounds", "1", "--no-roofline")
    assert (exported.code, exported.out) == (2, "")
    assert f"{name}: SHA-256 is " in exported.message
    assert f"{name}: SHA-256 is " in refused
    for said in (verified, ran):
        assert said.code == 5
        assert f"ArtefactError: {made.path('onnx', name)}: SHA-256 is " in said.out


# Files and folders in each other's place


@pytest.mark.parametrize(
    ("kind", "name"), [("weights", WEIGHTS_FILE), ("onnx", DATA_FILE), ("reference", REFERENCE_FILE)]
)
def test_a_file_of_another_network_of_the_same_size_is_refused(made: Made, kind: str, name: str):
    path = made.path(kind, name)
    with kept(path):
        shutil.copyfile(Path(made.others[kind].folder) / name, path)
        message = answer(Worker(), json.dumps({"command": "open", **opening(made, kind)}))["message"]
    expected = made.artefacts[kind].files[name]
    assert made.others[kind].files[name][:12] in message
    assert expected[:12] in message


@pytest.mark.parametrize("kind", FILES)
def test_a_whole_folder_in_anothers_place_is_refused(made: Made, kind: str):
    folder = Path(made.artefacts[kind].folder)
    with moved_away(folder):
        shutil.copytree(made.others[kind].folder, folder)
        message = refusal(lambda: made.find(kind))
    asked = made.path(kind, MANIFEST_NAME)
    key = json.loads(asked.read_text())["key"]
    assert f"made for key {json.loads((Path(made.others[kind].folder) / MANIFEST_NAME).read_text())['key']}" in message
    assert f"this request has {key}" in message


def forged(path: Path, **changes: Any) -> None:
    """Change a manifest and seal it again, as somebody would who has read this package."""
    data = json.loads(path.read_text()) | changes
    del data["seal"]
    path.write_text(json.dumps({**data, "seal": canonical_sha256(data)}, indent=2) + "\n")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"key": "ab" * 32}, f"made for key {'ab' * 32}, this request has "),
        ({"kind": "weights"}, "made for kind weights, this request has onnx"),
        ({"main": DATA_FILE}, f"made for main file {DATA_FILE}, this request has {ONNX_FILE}"),
        ({"spec": OTHER.to_json()}, f"made for spec {OTHER.digest()}, this request has {SPEC.digest()}"),
        ({"spec": {"variant": "vgg16"}}, "made for spec that cannot be read (model spec: fields missing or unknown: "),
        ({"precision": "fp16"}, "made for precision fp16, this request has fp32"),
        ({"opset": 19}, "made for opset 19, this request has 20"),
        ({"options": {"layout": "trt"}}, "made for options {'layout': 'trt'}, this request has {}"),
        ({"parent": "ab" * 32}, f"made for parent {'ab' * 32}, this request has "),
        ({"parent": None}, "made for parent None, this request has "),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_manifest_that_was_sealed_again_for_another_request_is_refused(
    made: Made, changes: dict[str, Any], said: str
):
    path = made.path("onnx", MANIFEST_NAME)
    with kept(path):
        forged(path, **changes)
        assert said in refusal(lambda: made.find("onnx"))


def test_weights_of_the_same_content_under_another_name_are_the_same(tmp_path: Path):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    shutil.copyfile(weights_artefact(SPEC, tmp_path).path, first)
    shutil.copyfile(first, second)
    found = [weights_artefact(narrow(classifier_width=8, weights=str(path)), tmp_path) for path in (first, second)]
    assert found[0] == found[1]


def test_a_forger_who_fits_everything_together_is_told_by_the_outputs(made: Made, command_line: CommandLine):  # noqa: F811
    data, manifest = made.path("onnx", DATA_FILE), made.path("onnx", MANIFEST_NAME)
    with kept(data) as content, kept(manifest):
        data.write_bytes(content[:ALIGNMENT] + bytes(len(content) - ALIGNMENT))
        files = json.loads(manifest.read_text())["files"]
        files[DATA_FILE]["sha256"] = file_sha256(data)
        hashes = {name: entry["sha256"] for name, entry in files.items()}
        forged(manifest, files=files, sha256=combined_hash(hashes))
        cells = (*ARGUMENTS, "--backend", "onnxruntime", "--precision", "fp32")
        said = command_line("verify", *cells, "--exports", made.exports)
    assert said.code == 1
    assert "parity_failed" in said.out
