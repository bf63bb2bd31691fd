import gc
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from vggbench.artefacts import store
from vggbench.artefacts.artefact import check_files, file_sha256
from vggbench.artefacts.manifest import MANIFEST_NAME
from vggbench.artefacts.store import LOCK_NAME, UNFINISHED, Request, Written, portable_spec, prepare, read_artefact
from vggbench.errors import ArtefactError, ExportError
from vggbench.models.spec import make_spec

SPEC = make_spec("vgg11", seed=3)
REQUEST = Request(kind="weights", format="raw", main="a.bin", spec=SPEC, precision="fp32", material={"n": 1})


class Writer:
    """Writes two files, and counts how often it had to."""

    def __init__(self):
        self.calls = 0

    def __call__(self, folder):
        self.calls += 1
        (folder / "a.bin").write_bytes(b"first")
        (folder / "b.bin").write_bytes(b"second")
        return Written(tools={"tool": "1.2"}, inputs=(("input", "float32", ("batch", 3)),))


@pytest.fixture
def write():
    return Writer()


def contents(folder):
    """Every path below a folder, without locks."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != LOCK_NAME}


def test_the_folder_can_be_guessed(tmp_path, write):
    artefact = prepare(REQUEST, tmp_path, write)
    assert Path(artefact.folder) == tmp_path / "vgg11" / f"fp32-224-raw-{REQUEST.key[:8]}"
    assert artefact.path.read_bytes() == b"first"
    assert artefact.files == {name: file_sha256(Path(artefact.folder) / name) for name in ("a.bin", "b.bin")}
    assert artefact.bytes == len(b"first" + b"second")
    assert artefact.spec == SPEC.to_json()


def test_the_same_request_twice_does_nothing_the_second_time(tmp_path, write):
    first = prepare(REQUEST, tmp_path, write)
    stamp = first.path.stat().st_mtime_ns
    assert prepare(REQUEST, tmp_path, write) == first == read_artefact(Path(first.folder))
    assert write.calls == 1
    assert first.path.stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "onnx"},
        {"format": "other"},
        {"precision": "bf16"},
        {"material": {"n": 2}},
        {"opset": 21},
        {"options": {"layout": "trt"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_decides_the_content_is_in_the_key(tmp_path, write, change):
    prepare(REQUEST, tmp_path, write)
    prepare(replace(REQUEST, **change), tmp_path, write)
    assert write.calls == 2


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, ExportError])
def test_a_writer_that_fails_leaves_nothing(tmp_path, write, error):
    def fail(folder):
        write(folder)
        raise error

    with pytest.raises(error):
        prepare(REQUEST, tmp_path, fail)
    assert contents(tmp_path) == {"vgg11"}
    prepare(REQUEST, tmp_path, write)


def test_garbage_is_collected_again_afterwards(tmp_path, write):
    during = []

    def watching(folder):
        during.append(gc.isenabled())
        return write(folder)

    prepare(REQUEST, tmp_path, watching)
    assert (during, gc.isenabled()) == ([False], True)


HALF_WAY = """
import sys
from pathlib import Path
from tests.artefacts.test_store import REQUEST
from vggbench.artefacts.store import prepare

def write(folder):
    (folder / "a.bin").write_bytes(b"half")
    print("half", flush=True)
    sys.stdin.read()

prepare(REQUEST, Path(sys.argv[1]), write)
"""


def test_a_killed_export_leaves_nothing_that_counts_and_the_next_one_cleans_up(tmp_path, write):
    command = [sys.executable, "-c", HALF_WAY, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    left = contents(tmp_path)
    assert any(UNFINISHED in name for name in left)
    assert not (tmp_path / REQUEST.folder).exists()
    artefact = prepare(REQUEST, tmp_path, write)
    check_files(artefact)
    assert not any(UNFINISHED in name for name in contents(tmp_path))


ONE_OF_TWO = """
import sys
from pathlib import Path
from tests.artefacts.test_store import REQUEST, Writer
from vggbench.artefacts.store import prepare

write = Writer()
print("ready", flush=True)
sys.stdin.readline()
artefact = prepare(REQUEST, Path(sys.argv[1]), write)
print(write.calls, artefact.sha256, flush=True)
"""


def test_two_at_once_write_once_and_agree(tmp_path):
    command = [sys.executable, "-c", ONE_OF_TWO, str(tmp_path)]
    both = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _process in range(2)
    ]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate()[0].split() for process in both]
    assert sorted(calls for calls, _sha256 in answers) == ["0", "1"]
    assert len({sha256 for _calls, sha256 in answers}) == 1


def test_a_lock_that_is_never_given_back_is_named(tmp_path, write, monkeypatch):
    monkeypatch.setattr(store, "LOCK_TIMEOUT_S", 0.05)
    (tmp_path / "vgg11").mkdir()
    with FileLock(tmp_path / "vgg11" / LOCK_NAME), pytest.raises(ArtefactError, match="another process has held it"):
        prepare(REQUEST, tmp_path, write)
    assert write.calls == 0


def test_a_folder_of_another_key_is_refused(tmp_path, write):
    other = replace(REQUEST, material={"n": 2})
    (tmp_path / "vgg11").mkdir()
    Path(prepare(other, tmp_path, write).folder).rename(tmp_path / REQUEST.folder)
    with pytest.raises(ArtefactError, match=f"made for key {other.key}, this request has {REQUEST.key}"):
        prepare(REQUEST, tmp_path, write)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "b.bin").unlink(), r"b\.bin: the file is missing; remove the folder"),
        (lambda folder: (folder / "a.bin").write_bytes(b"fir"), r"a\.bin: 3 bytes, the manifest says 5"),
        (lambda folder: (folder / MANIFEST_NAME).unlink(), r"manifest\.json: the file is missing"),
        (lambda folder: (folder / MANIFEST_NAME).write_text("{"), r"manifest\.json: not JSON"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(tmp_path, write, damage, said):
    damage(Path(prepare(REQUEST, tmp_path, write).folder))
    with pytest.raises(ArtefactError, match=said):
        prepare(REQUEST, tmp_path, write)
    assert write.calls == 1


def test_a_flipped_bit_is_noticed_before_the_file_is_opened(tmp_path, write):
    artefact = prepare(REQUEST, tmp_path, write)
    content = bytearray(artefact.path.read_bytes())
    content[2] ^= 1
    artefact.path.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"a\.bin: SHA-256 is"):
        check_files(prepare(REQUEST, tmp_path, write))


def test_a_place_that_cannot_be_written_is_named(tmp_path, write):
    (tmp_path / "exports").write_text("a file")
    with pytest.raises(ArtefactError, match=r"exports/vgg11/.*: cannot be written: .*name another exports folder"):
        prepare(REQUEST, tmp_path / "exports", write)


def test_the_manifest_says_what_made_it_and_nothing_of_where(tmp_path, write, monkeypatch):
    monkeypatch.chdir(tmp_path)
    artefact = prepare(REQUEST, Path("exports"), write)
    assert Path(artefact.folder).is_absolute()
    text = (Path(artefact.folder) / MANIFEST_NAME).read_text()
    assert str(tmp_path) not in text
    assert '"tool": "1.2"' in text


def test_files_can_be_read_by_whoever_may_read_the_manifest(tmp_path, write):
    def private(folder):
        written = write(folder)
        (folder / "a.bin").chmod(0o600)
        return written

    artefact = prepare(REQUEST, tmp_path, private)
    assert artefact.path.stat().st_mode == (Path(artefact.folder) / MANIFEST_NAME).stat().st_mode


def test_the_folder_of_a_weights_file_is_nobodys_business(tmp_path):
    path = tmp_path / "own.safetensors"
    path.write_bytes(b"anything")
    spec = make_spec("vgg11", weights=str(path))
    assert portable_spec(spec) == spec.to_json() | {"weights": "own.safetensors"}


def test_a_missing_package_is_named():
    with pytest.raises(ExportError, match="no-such-package is not installed"):
        store.tool_versions("no-such-package")
