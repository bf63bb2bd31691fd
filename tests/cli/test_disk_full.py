"""A disk that is really full, at every moment of a run and of an export: the last good state stays, and one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.fakes import ARGUMENTS
from tests.killing import WHOLE_RUN, check_whole, finished_lines, held_back
from vggbench.artefacts.artefact import check_files
from vggbench.artefacts.store import read_artefact
from vggbench.results.run_info import FILE_NAME

pytestmark = pytest.mark.slow

PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024 if hasattr(os, "sysconf") else 4  # a small disk's block
PLENTY_KIB = 64 * 1024


def _mount(*arguments: str) -> str:
    """Run mount(8); return what it complained about."""
    try:
        answer = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "there is no mount command"
    return answer.stderr.strip() if answer.returncode else ""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Return a function that makes a small disk, or gives it another size in KiB, and returns where it is."""
    if sys.platform != "linux":
        pytest.skip("small disks are made in Linux's way")
    place = tmp_path / "disk"
    place.mkdir()

    def size(kib: int) -> Path:
        options = f"size={kib}k"
        if place.is_mount():
            complaint = _mount("-o", f"remount,{options}", str(place))
        else:
            complaint = _mount("-t", "tmpfs", "-o", options, "tmpfs", str(place))
        if complaint:
            pytest.skip(f"a small disk cannot be mounted here: {complaint}")
        return place

    yield size
    if place.is_mount():
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.usefixtures("inline_workers")
@pytest.mark.parametrize("pages", range(1, 24))
def test_a_run_stops_in_one_line_and_goes_on_when_there_is_room(
    disk: Callable[[int], Path], command_line: CommandLine, fake_exports: Path, pages: int
):
    folder = disk(pages * PAGE_KIB) / "run"
    places = ("--output", folder, "--exports", fake_exports)
    plan = ("run", *ARGUMENTS, "--backend", "fake", "--rounds", "6", "--time-budget-s", "0.5", "--threads", "1")
    said = command_line(*plan, *places)
    assert (said.code, said.out) == (2, "") or said.code == 0
    if said.code:
        assert "No space left on device" in said.message
        assert [line for line in said.err.splitlines() if line.startswith("vggbench:")] == [said.message]
        assert "Traceback" not in said.err
        assert "Exception ignored" not in said.err
    check_whole(folder)
    assert held_back(folder) == []
    before = finished_lines(folder)
    disk(PLENTY_KIB)
    again = ("run", "--resume") if (folder / FILE_NAME).exists() else plan
    assert command_line(*again, *places).code == 0
    check_whole(folder)
    assert finished_lines(folder).startswith(before)
    assert finished_lines(folder).count(b"\n") == 12
    assert {path.name for path in folder.iterdir()} == WHOLE_RUN


def test_the_sizes_tried_are_of_a_disk_too_small_and_of_one_just_large_enough(
    disk: Callable[[int], Path], command_line: CommandLine, fake_exports: Path, inline_workers: None
):
    codes = []
    for pages in (1, 24):
        folder = disk(pages * PAGE_KIB) / f"run-{pages}"
        plan = ("--backend", "fake", "--rounds", "6", "--time-budget-s", "0.5", "--threads", "1")
        codes.append(command_line("run", *ARGUMENTS, *plan, "--output", folder, "--exports", fake_exports).code)
    assert codes == [2, 0]


@pytest.mark.parametrize("asked", [True, False], ids=["asked before", "found out"])
@pytest.mark.parametrize("pages", [1, 48, 96, 160])
def test_an_export_leaves_nothing_half_made_and_is_made_when_there_is_room(
    disk: Callable[[int], Path],
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    pages: int,
    asked: bool,
):
    if not asked:  # somebody else takes the room after it was asked for
        monkeypatch.setattr("vggbench.artefacts.onnx.check_room", lambda *_arguments: None)
        monkeypatch.setattr("vggbench.cli.room.check_room", lambda *_arguments: None)
    exports = disk(pages * PAGE_KIB)
    command = ("export", *ARGUMENTS, "--classifier-width", "64", "--exports", exports)
    said = command_line(*command)
    assert (said.code, said.out) == (2, "") or said.code == 0
    if said.code:
        assert "make room there or name another" in said.message
        assert "Traceback" not in said.err
    assert held_back(exports) == []
    for folder in exports.glob("*/[!.]*"):
        check_files(read_artefact(folder))
    disk(PLENTY_KIB)
    said = command_line(*command)
    assert said.code == 0
    check_files(read_artefact(Path(said.out.strip()).parent))


@pytest.mark.parametrize("pages", [2, 16])
def test_the_reference_likewise(disk: Callable[[int], Path], command_line: CommandLine, pages: int):
    exports = disk(pages * PAGE_KIB)
    command = ("verify", *ARGUMENTS, "--backend", "torch", "--precision", "fp32", "--exports", exports)
    said = command_line(*command)
    assert said.code in {0, 2}
    assert "Traceback" not in said.err
    assert "Exception ignored" not in said.err
    assert held_back(exports) == []
    disk(PLENTY_KIB)
    assert command_line(*command).code == 0
