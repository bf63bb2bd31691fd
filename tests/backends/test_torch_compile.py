"""What `torch-compile` promises beside the contract: that it compiled, when, and that nothing runs otherwise."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
import pytest

from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.weights import weights_artefact
from vggbench.backends.base import Available, Unavailable
from vggbench.backends.registry import check_options
from vggbench.backends.torch_compile import BACKEND, CompiledTorchSession
from vggbench.measure.validity import judge_evidence
from vggbench.models.layers import totals, walk
from vggbench.models.spec import make_spec

SPEC = make_spec(config="8@1,M,8,M", batch_norm=True, input_size=8, classifier_width=8, num_classes=5)
MACS = totals(walk(SPEC)).macs
BATCH = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return weights_artefact(SPEC, tmp_path_factory.mktemp("exports"))


def opened(artefact: Artefact, **options: str) -> CompiledTorchSession:
    options = check_options(BACKEND, options)
    return BACKEND.open(artefact, device="cpu", precision="fp32", batch_size=2, threads=2, in_flight=1, options=options)


def findings(session: CompiledTorchSession, macs: int = MACS) -> list[str]:
    evidence = session.evidence()
    found = judge_evidence(evidence, precision="fp32", device="cpu", batch_size=2, threads=2, macs=macs)
    return [finding.status for finding in found]


def operations(session: CompiledTorchSession) -> set[str]:
    return {layer.operation for layer in session.evidence().layers}


# Availability


def test_it_is_there_with_a_compiler():
    state = BACKEND.availability("cpu")
    if isinstance(state, Unavailable):
        pytest.skip(state.reason)
    assert isinstance(state, Available)


def test_without_a_compiler_it_says_which_to_install():
    from torch._inductor import config

    with config.patch({"cpp.cxx": (None, "/nowhere/g++")}):
        state = BACKEND.availability("cpu")
    assert state == Unavailable("inductor finds no C++ compiler", "install g++, or name another compiler in CXX")


def test_without_pythons_headers_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", lambda: "g++")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    state = BACKEND.availability("cpu")
    assert isinstance(state, Unavailable)
    assert str(tmp_path / "Python.h") in state.reason
    assert "python3-dev" in state.remedy


def test_a_python_that_dynamo_does_not_know_is_a_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch._dynamo.eval_frame.is_dynamo_supported", lambda: False)
    state = BACKEND.availability("cpu")
    assert isinstance(state, Unavailable)
    assert "Python" in state.reason


# Sessions


def test_a_network_that_was_not_compiled_is_a_fallback(artefact: Artefact, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")  # torch.compile then gives back what it was given
    with opened(artefact) as session:
        assert session.compilation.cached is None
        assert findings(session) == ["fallback"]
        assert session.evidence().placements == {"inductor": 0, "eager": 5}


@pytest.mark.slow
@pytest.mark.skipif(isinstance(BACKEND.availability("cpu"), Unavailable), reason="no C++ compiler")
class TestCompiled:
    def test_one_graph_runs_everything_and_comes_from_the_cache_the_second_time(
        self, artefact: Artefact, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
        for cached in (False, True):
            with opened(artefact) as session:
                assert session.compilation.cached is cached
                assert session.compilation.seconds > 0
                assert findings(session) == []
                evidence = session.evidence()
                assert evidence.placements == {"inductor": 5}
                assert (evidence.flags["graphs"], evidence.flags["graph_breaks"]) == ("1", "0")
                assert sum(layer.macs for layer in evidence.layers) == 2 * MACS
                assert operations(session) == {"aten::convolution", "aten::addmm"}
        assert any((tmp_path / "cache").iterdir())

    def test_frozen_weights_are_laid_out_for_onednn(self, artefact: Artefact):
        with opened(artefact, freezing="on") as session:
            assert findings(session) == []
            assert "mkldnn::_convolution_pointwise" in operations(session)
            assert "aten::convolution" not in operations(session)

    def test_a_pixelwise_convolution_that_became_a_product_is_no_other_batch(self, artefact: Artefact):
        with opened(artefact, mode="max-autotune") as session:
            assert findings(session) == []
            rows = [layer.macs for layer in session.evidence().layers]
            assert len(rows) == 5

    def test_an_input_it_was_not_compiled_for_raises_instead_of_compiling_while_timed(self, artefact: Artefact):
        from torch._dynamo.exc import RecompileError

        with opened(artefact) as session:
            session.stage(0, np.concatenate([BATCH, BATCH]))
            with pytest.raises(RecompileError):
                session.enqueue(0)

    def test_it_raises_in_every_thread_that_serves_a_slot(self, artefact: Artefact):
        from concurrent.futures import ThreadPoolExecutor

        from torch._dynamo.exc import RecompileError

        with opened(artefact) as session, ThreadPoolExecutor(1) as pool:
            session.stage(0, np.concatenate([BATCH, BATCH]))
            with pytest.raises(RecompileError):
                pool.submit(session.enqueue, 0).result()

    def test_work_that_inductor_did_not_hand_to_a_library_is_not_proven(self, artefact: Artefact):
        with opened(artefact) as session:
            assert findings(session, macs=2 * MACS) == ["precision_mismatch"]


def test_a_closed_session_runs_nothing(artefact: Artefact, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    session = opened(artefact)
    session.close()
    session.stage(0, BATCH)
    with pytest.raises(RuntimeError, match="closed"):
        session.enqueue(0)
