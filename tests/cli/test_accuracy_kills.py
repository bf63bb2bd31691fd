"""`vggbench accuracy`, killed at random moments: what it had predicted is kept, and predicted once."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest

from tests.data.writing import write_folders
from tests.fakes import ARGUMENTS
from tests.killing import begin, kill_at_random
from vggbench.results.predictions import INFO_NAME, PREDICTIONS_NAME

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="waits for other processes in Linux's way"),
]


def test_what_was_killed_goes_on_and_ends_as_if_it_had_not_been(tmp_path: Path):
    pixels = np.random.default_rng(1).integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    write_folders(tmp_path / "photos", {name: list(pixels[place::5]) for place, name in enumerate("abcde")})
    images = ("--data", tmp_path / "photos", "--exports", tmp_path / "exports")
    asked = (*ARGUMENTS, "--backend", "fake", "--batch-size", "1", "--threads", "1")

    def go_on(folder: Path):
        started = (folder / INFO_NAME).exists()
        return begin("accuracy", *(("--resume",) if started else asked), *images, "--output", folder)

    moments, before = Random(20140904), b""
    for _ in range(4):
        kill_at_random(go_on(tmp_path / "killed"), moments, ("preparing", "preparing", "["), 0.3)
        journal = tmp_path / "killed" / PREDICTIONS_NAME
        after = journal.read_bytes() if journal.exists() else b""
        assert after.startswith(before)
        before = after[: after.rfind(b"\n") + 1]
    tables = []
    for name in ("killed", "whole"):
        with go_on(tmp_path / name) as process:
            _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        with (tmp_path / name / "accuracy.csv").open() as file:
            tables.append([{**row, "started_at": ""} for row in csv.DictReader(file)])
    assert tables[0] == tables[1]
    assert [row["images"] for row in tables[0]] == ["50", "50"]
