"""torch's sessions on the stand-in of its CUDA calls: the CPU computes, the harness is driven as on a GPU."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

from tests import cuda_stand_in
from tests.contract.conftest import SPEC, THREADS
from tests.cuda_stand_in import CudaStandIn
from vggbench.artefacts.weights import weights_artefact
from vggbench.backends import torch_compile
from vggbench.backends.torch_compile import CompiledTorchSession
from vggbench.backends.torch_eager import BACKEND, TorchSession, load_network
from vggbench.errors import RequestError
from vggbench.models.layers import mac_layers
from vggbench.parity.inputs import input_images

torch = pytest.importorskip("torch")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> CudaStandIn:
    return cuda_stand_in.install(monkeypatch)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory):
    return weights_artefact(SPEC, tmp_path_factory.mktemp("exports"))


def opened(artefact, device: str, *, in_flight: int = 1, precision: str = "fp32", **options: str) -> TorchSession:
    return BACKEND.open(
        artefact,
        device=device,
        precision=precision,
        batch_size=2,
        threads=THREADS,
        in_flight=in_flight,
        options={"memory_format": "contiguous", **options},
    )


def answers(session: TorchSession, images: np.ndarray) -> list[np.ndarray]:
    outputs = []
    for slot in range(session.slots):
        session.stage(slot, np.ascontiguousarray(images[2 * slot : 2 * slot + 2]))
        session.enqueue(slot)
    for slot in range(session.slots):
        session.wait(slot)
        outputs.append(session.fetch(slot))
    return outputs


def test_every_slot_computes_on_its_stream_what_the_cpu_computes(machine: CudaStandIn, artefact, tmp_path):
    images = input_images(SPEC, tmp_path, None)
    with opened(artefact, "cpu") as session:
        assert (session.timeline, session.device_slots) == ("host", None)
        expected = [answers(session, images[start:])[0] for start in (0, 2)]
    with opened(artefact, "cuda", in_flight=2) as session:
        assert session.timeline == "cuda"
        assert len(session.device_slots) == 2
        assert np.allclose(answers(session, images), expected, atol=1e-5)
        busy = [stream.busy_until_ns for stream in machine.streams]
    assert min(busy) > 0


def test_threads_only_enqueue_and_are_not_divided(machine: CudaStandIn, artefact):
    with opened(artefact, "cuda", in_flight=4) as session:
        assert session.evidence().threads == THREADS


def test_evidence_is_read_from_the_tensors_and_not_from_the_request(machine: CudaStandIn, artefact):
    with opened(artefact, "cuda", cudnn_benchmark="on") as session:
        evidence = session.evidence()
    assert evidence.device == "cpu"  # where the stand-in computes: its row would be `fallback`
    assert evidence.flags["cudnn_benchmark"] == "on"
    assert (evidence.flags["cuda_conv_fp32_precision"], evidence.flags["cuda_matmul_fp32_precision"]) == ("ieee",) * 2


def test_without_the_option_cudnn_chooses_by_itself(machine: CudaStandIn, artefact):
    torch.backends.cudnn.benchmark = True
    with opened(artefact, "cuda") as session:
        assert session.evidence().flags["cudnn_benchmark"] == "off"


def test_a_graph_is_captured_once_a_slot_and_replayed(machine: CudaStandIn, artefact, monkeypatch):
    captured, replayed = [], []

    class Graph:
        def replay(self) -> None:
            replayed.append(self)

    @contextmanager
    def capture(graph, *, stream):
        captured.append((graph, stream))
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    with opened(artefact, "cuda", in_flight=2, cuda_graph="on") as session:
        assert [stream for _graph, stream in captured] == machine.streams
        outputs = [session.device_slots.output(slot).data_ptr() for slot in range(2)]
        for slot in (0, 1, 1):
            session.enqueue(slot)
        assert replayed == [captured[0][0], captured[1][0], captured[1][0]]
        assert outputs == [session.device_slots.output(slot).data_ptr() for slot in range(2)]


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
@pytest.mark.parametrize(("in_flight", "graph"), [(2, {}), (1, {"cuda_graph": "on"})])
def test_a_mode_with_a_graph_of_its_own_serves_one_request(
    machine: CudaStandIn, artefact, mode: str, in_flight: int, graph: dict[str, str]
):
    options = {"memory_format": "contiguous", "mode": mode, "freezing": "off", **graph}
    network = load_network(artefact, "fp32", options, "cuda")
    with pytest.raises(RequestError, match=f"mode={mode} of torch-compile has a CUDA graph of its own"):
        CompiledTorchSession(network, 2, THREADS, in_flight, options)


def test_a_closed_session_holds_no_memory(machine: CudaStandIn, artefact):
    session = opened(artefact, "cuda")
    session.close()
    session.close()
    assert len(session.device_slots) == 0


@pytest.mark.slow
def test_what_a_profile_does_not_see_is_told_as_given_to_inductor(machine: CudaStandIn, artefact, monkeypatch):
    options = {"memory_format": "contiguous", "mode": "default", "freezing": "off"}
    with CompiledTorchSession(load_network(artefact, "fp32", options, "cuda"), 2, THREADS, 1, options) as session:
        assert session.timeline == "cuda"
        seen = session.evidence()
        assert "products_seen" not in seen.flags
        monkeypatch.setattr(torch_compile, "_outermost_products", lambda _events: iter(()))
        given = session.evidence()
    assert given.flags["products_seen"] == "as given to inductor"
    assert {layer.placement for layer in given.layers} == {"inductor"}
    assert set(given.placements) == {"inductor"}
    assert given.batch_size == 2
    macs = sum(layer.macs for layer in mac_layers(SPEC, 2))
    assert sum(layer.macs for layer in seen.layers) == sum(layer.macs for layer in given.layers) == macs
    assert session.compilation.seconds > 0
