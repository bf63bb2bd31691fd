"""Peaks of memory, as the kernel accounts them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vggbench.measure.memory import peak_memory, tree_peak_memory

MIB = 2**20
HOLD = f"held = bytearray({60 * MIB}); held[::4096] = b'x' * len(held[::4096]); print(1, flush=True); input()"


def test_where_the_system_keeps_no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory(tmp_path) is None
    assert tree_peak_memory(tmp_path) is None


def account(root: Path, pid: str, kib: int, children: str = "") -> None:
    folder = root / pid / "task" / "1"
    folder.mkdir(parents=True)
    (root / pid / "status").write_text(f"Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t  {kib} kB\n")
    (folder / "children").write_text(children)


def test_a_tree_is_the_sum_of_its_processes(tmp_path: Path) -> None:
    account(tmp_path, "self", 300, "7 8 ")
    account(tmp_path, "7", 20, "9 ")
    account(tmp_path, "9", 4)
    assert peak_memory(tmp_path) == 300 * 1024
    assert tree_peak_memory(tmp_path) == 324 * 1024  # 8 has ended


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")
def test_a_child_that_lives_counts() -> None:
    alone = tree_peak_memory()
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        together = tree_peak_memory()
        child.communicate(b"\n")
    assert alone is not None
    assert together is not None
    assert together - alone > 60 * MIB
