"""How long `vggbench --help` takes: what somebody waits for who only wants to look."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

# A person notices a longer wait.
LONGEST_S = 0.3


@pytest.mark.benchmark(disable_gc=True, warmup=False)
def test_help_starts_at_once(benchmark: Any) -> None:
    command = [sys.executable, "-m", "vggbench", "--help"]
    # The best of several: whatever else the machine does can only add.
    benchmark.pedantic(subprocess.run, args=(command,), kwargs={"check": True, "capture_output": True}, rounds=7)
    assert benchmark.stats.stats.min < LONGEST_S
