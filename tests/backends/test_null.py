from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fakes import SPEC, fake_cell, fake_request
from vggbench.backends.base import Available, Unavailable
from vggbench.backends.null import BACKEND
from vggbench.backends.script import script_artefact, script_reference
from vggbench.data.synthetic import images
from vggbench.measure.rounds import run_round
from vggbench.plan import Cell


def test_it_does_nothing_and_says_so(fake_exports: Path):
    artefact = script_artefact(SPEC, fake_exports)
    opened = BACKEND.open(artefact, device="cpu", precision="fp32", batch_size=2, threads=1, in_flight=3, options={})
    with opened as session:
        assert (session.slots, session.timeline) == (3, "host")
        session.stage(0, np.ones(session.input_spec.shape, dtype=np.float32))
        session.enqueue(0)
        session.wait(0)
        assert not session.fetch(0).any()
        assert session.fetch(0).shape == session.output_spec.shape == (2, SPEC.num_classes)
        assert session.evidence().layers == ()


def test_it_is_on_the_cpu_alone():
    assert isinstance(BACKEND.availability("cpu"), Available)
    assert isinstance(BACKEND.availability("cuda"), Unavailable)
    assert BACKEND.supports("anything", "cpu").supported


def test_it_never_passes_parity(inline_workers: None, fake_exports: Path):
    cell: Cell = fake_cell(backend="null")
    record = run_round(fake_request(cell, fake_exports))
    assert record.failure is None
    assert not record.sessions[0].parity.passed


@pytest.mark.parametrize("make", ["artefact", "reference"])
def test_what_the_scripted_backends_open_is_found_again(fake_exports: Path, make: str):
    artefact = script_artefact(SPEC, fake_exports)
    if make == "artefact":
        assert script_artefact(SPEC, fake_exports) == artefact
    else:
        inputs = images(8, 32, seed=1)
        reference = script_reference(SPEC, fake_exports, artefact, inputs)
        assert script_reference(SPEC, fake_exports, artefact, inputs) == reference
        with np.load(reference.path) as arrays:
            assert np.array_equal(arrays["inputs"], inputs)
            assert arrays["logits"].dtype == np.float64
