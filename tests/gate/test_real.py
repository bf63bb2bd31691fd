"""A paired gate with real processes of two environments, and a real library in them. Not how fast anything is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.gate.watching import GateWatcher
from vggbench.gate.choice import BothSides
from vggbench.gate.environments import SIDES, look, own_source, starters
from vggbench.gate.journal import read_pairs
from vggbench.gate.paired import new_gate, start_gate
from vggbench.gate.pairs import BlockPace
from vggbench.gate.records import Rule
from vggbench.measure.pinning import can_pin
from vggbench.plan import find_cells, selection
from vggbench.runner import Places

PACE = BlockPace(pairs=2, block_s=0.005, warmup_least_s=0.01, warmup_most_s=0.1)
NETWORK = {"config": ["8,M,16,M"], "input_size": 32, "num_classes": 5, "classifier_width": 16}


@pytest.mark.slow
def test_both_sides_export_verify_and_time_in_turn_on_the_same_cores(tmp_path: Path):
    asked = selection({**NETWORK, "backend": ["onnxruntime"], "precision": ["fp32"]})
    places = Places(folder=tmp_path / "gate", exports=tmp_path / "exports")
    with own_source() as variables:
        sides = {side: look(side, place) for side, place in zip(SIDES, (sys.executable, sys.prefix), strict=True)}
        started = starters(sides, variables)
        cells, _versions = find_cells([asked], device="cpu", threads=1, probe=BothSides(started))
        info = new_gate(cells, sides, {}, Rule(), seed=5, pace=PACE)
        report = start_gate(info, places, started, GateWatcher())
    assert "outputs: the same to the bit on both sides, in 1 of 1 cells" in report.notes
    assert (report.missing, dict(report.differences)) == ((), {})
    records = [record for record in read_pairs(places.folder, info) if record.stage == 1]
    assert [record.round for record in records] == list(range(7))
    assert all(record.whole for record in records)
    assert {record.draw.starts[0] for record in records} == {"base", "head"}
    sessions = [record.sides[side].session for record in records for side in SIDES]
    found = [session for session in sessions if session is not None]
    assert {session.timeline for session in found} == {"host"}
    assert len({session.pinned_cpus for session in found}) == 1
    assert (found[0].pinned_cpus is not None) == can_pin()
    assert len({session.artefact_sha256 for session in found}) == 1
    assert all(len(block) >= 8 for session in found for block in session.samples("compute"))
    assert len(list((tmp_path / "exports").rglob("*.safetensors"))) == 1
