"""Environments that are asked what they have: this one, small ones made here, and programs that are none."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.gate.two_sides import BASE, HEAD, environment
from vggbench.errors import RequestError
from vggbench.gate.copying import copy_with
from vggbench.gate.environments import (
    NEEDED,
    PythonEnvironment,
    Starter,
    differences,
    interpreter_of,
    look,
    own_source,
    require,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the programs in an interpreter's place are scripts")

SITE = Path("lib") / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


@pytest.fixture(scope="session")
def this_side() -> PythonEnvironment:
    return look("base", sys.executable)


def program(folder: Path, script: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def small(folder: Path) -> Path:
    """Make an environment that has what this one has, and can be written to; return where its own packages lie."""
    venv.create(folder, with_pip=False, symlinks=True)
    packages = folder / SITE
    found = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "other.pth").write_text("\n".join(found) + "\n")
    return packages


def install(packages: Path, name: str, version: str) -> None:
    info = packages / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_this_environment_says_what_it_has(this_side: PythonEnvironment):
    assert this_side.python == sys.executable
    assert this_side.version == ".".join(map(str, sys.version_info[:3]))
    assert {"numpy", "pydantic", "torch"} <= this_side.distributions.keys()
    assert this_side.lacking == ()
    assert this_side.text == f"{sys.prefix} (Python {this_side.version})"


def test_a_folder_and_its_interpreter_are_the_same_environment(this_side: PythonEnvironment):
    if Path(sys.prefix, "bin/python").is_file():
        assert look("head", sys.prefix).distributions == this_side.distributions


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (" ", "an environment's name is empty"),
        ("{}/none", "is not there; give the folder of a Python environment"),
        ("{}", "is no Python environment: it has no bin/python"),
        ("{}/text", "is no interpreter: it cannot be executed"),
    ],
)
def test_a_place_that_is_no_environment_is_one_line(tmp_path: Path, place: str, words: str):
    (tmp_path / "text").write_text("hello")
    with pytest.raises(RequestError, match=words):
        interpreter_of(place.format(tmp_path))


def answer(**changes: object) -> str:
    values = {"version": [3, 12, 0], "prefix": "/p", "folders": [], "distributions": {}, "lacking": [], **changes}
    return f"echo '{json.dumps(values)}'"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo SyntaxError: old >&2; exit 1", "head: .* is no Python that can be used: SyntaxError: old"),
        ("exit 3", "is no Python that can be used: it ended with code 3 and said nothing"),
        ("echo hello", "is no Python that can be used: hello"),
        ("echo '[1]'", "is no Python that can be used"),
        (answer(version=[3, 9, 2]), "is Python 3.9.2; the gate needs 3.11 or newer there"),
        (
            answer(lacking=["numpy", "filelock"]),
            "lacks numpy filelock; install it there: .* -m pip install numpy filelock",
        ),
    ],
)
def test_what_is_no_usable_python_is_one_line(tmp_path: Path, script: str, words: str):
    with pytest.raises(RequestError, match=words) as caught:
        look("head", program(tmp_path, script))
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_no_system_can_execute_is_one_line(tmp_path: Path):
    path = tmp_path / "python"
    path.write_bytes(b"\x7fELF nothing")
    path.chmod(0o755)
    with pytest.raises(RequestError, match="cannot be asked what is installed: Exec format error"):
        look("base", str(path))


def test_one_that_never_answers_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vggbench.gate.environments._LOOK_TIMEOUT_S", 0.1)
    with pytest.raises(RequestError, match="cannot be asked what is installed: no answer within 0 s"):
        look("base", program(tmp_path, "exec sleep 60"))


def test_what_is_lacking_is_told_only_where_it_is_needed():
    lacking = environment(lacking=("torch",))
    require("head", lacking, NEEDED)
    with pytest.raises(RequestError, match="head: /env/bin/python lacks torch"):
        require("head", lacking, ("torch", "onnx"))


def test_the_libraries_that_matter_come_first_and_what_is_gone_is_named():
    base = environment(version="3.11.7", distributions={"aaa": "1", "onnx": "1.20", "torch": "2.13", "zlib": "1"})
    head = environment(version="3.12.1", distributions={"bbb": "2", "onnx": "1.21", "torch": "2.14", "zlib": "1"})
    expected = {
        "python": ("3.11.7", "3.12.1"),
        "torch": ("2.13", "2.14"),
        "onnx": ("1.20", "1.21"),
        "aaa": ("1", None),
        "bbb": (None, "2"),
    }
    assert list(differences(base, head).items()) == list(expected.items())
    assert differences(BASE, HEAD) == {"torch": ("2.13.0", "2.14.0")}
    assert differences(BASE, BASE) == {}


def test_another_vggbench_that_is_installed_there_does_not_matter(tmp_path: Path):
    packages = small(tmp_path / "env")
    (packages / "vggbench").mkdir()
    (packages / "vggbench" / "__init__.py").write_text("raise RuntimeError('another vggbench')\n")
    install(packages, "vggbench", "9.9")
    found = look("head", str(tmp_path / "env"))
    assert found.distributions["vggbench"] == "9.9"
    with own_source() as variables:
        assert [path.name for path in Path(variables["PYTHONPATH"]).iterdir()] == ["vggbench"]
        with Starter(python=found.python, variables=variables)() as worker:
            assert worker.call("close")["peak_memory_bytes"] > 0
        code = "import vggbench, pathlib; print(pathlib.Path(vggbench.__file__).resolve())"
        said = subprocess.run(
            [found.python, "-P", "-c", code], env=variables, capture_output=True, text=True, check=True
        )
    assert said.stdout.strip() == str(Path(sys.modules["vggbench"].__file__ or "").resolve())
    assert not Path(variables["PYTHONPATH"]).exists()


# Copies

PIP = """
import pathlib, sys
place = pathlib.Path(__file__).parents[1]
for name, _, version in (text.partition("==") for text in sys.argv[1:] if "==" in text):
    if version == "404":
        print("ERROR: No matching distribution found for", name, file=sys.stderr)
        sys.exit(1)
    (place / "thing.py").unlink(missing_ok=True)
    (place / "thing.py").write_text("changed")
    info = place / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
"""


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with a pip that needs no network."""
    folder = tmp_path_factory.mktemp("base") / "env"
    packages = small(folder)
    install(packages, "mine", "1.0")
    (packages / "thing.py").write_text("as it was")
    (packages / "pip").mkdir()
    (packages / "pip" / "__main__.py").write_text(PIP)
    (packages / "pip" / "__init__.py").write_text("")
    return folder


def test_a_copy_has_what_the_base_has_and_the_change_and_leaves_the_base_alone(base_folder: Path, tmp_path: Path):
    base = look("base", str(base_folder))
    copy = copy_with(base, ["added==2.0"], tmp_path)
    assert copy.distributions == {**base.distributions, "added": "2.0"}
    assert (base_folder / SITE / "thing.py").read_text() == "as it was"
    assert look("base", str(base_folder)) == base
    mark = Path(copy.prefix) / SITE / "mark"
    mark.write_text("")
    assert copy_with(base, ["added==2.0"], tmp_path) == copy  # found again
    assert mark.exists()
    assert copy_with(base, ["added==3.0"], tmp_path).prefix != copy.prefix


def test_a_build_that_failed_is_one_line_and_leaves_nothing(base_folder: Path, tmp_path: Path):
    base = look("base", str(base_folder))
    with pytest.raises(RequestError) as caught:
        copy_with(base, ["gone==404"], tmp_path)
    assert str(caught.value).startswith(
        "the head environment was not built: pip: ERROR: No matching distribution found"
    )
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("change", ["", "  ", "--index-url=http://example.org", "-r file"])
def test_what_is_no_requirement_is_refused(change: str, tmp_path: Path):
    with pytest.raises(RequestError, match="is no requirement; write it as 'openvino=="):
        copy_with(BASE, [change], tmp_path)


def test_a_base_without_pip_is_one_line(tmp_path: Path):
    packages = small(tmp_path / "env")
    (packages / "other.pth").unlink()
    (packages / "numpy").mkdir()
    for name in NEEDED:
        (packages / f"{name}.py").write_text("")
    with pytest.raises(RequestError, match=r"the head environment was not built: pip: .*No module named pip"):
        copy_with(look("base", str(tmp_path / "env")), ["a==1"], tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_one_line(base_folder: Path, tmp_path: Path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(RequestError, match=r"the head environment .* cannot be written: "):
        copy_with(look("base", str(base_folder)), ["added==2.0"], tmp_path / "cache")
