"""What the backends say they have done on a network that is no VGG: grouped, with a residual branch."""

from __future__ import annotations

import pytest

from tests.network_files import LENGTHS, MACS, write
from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.network_file import network_artefact, read_network_file
from vggbench.backends.registry import find_backend


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    folder = tmp_path_factory.mktemp("network")
    return network_artefact(read_network_file(str(write(folder / "net.onnx"))), folder / "exports")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_every_layer_is_seen_once(artefact: Artefact, name: str):
    opening = {"device": "cpu", "precision": "fp32", "batch_size": 3, "threads": 1, "in_flight": 1, "options": {}}
    with find_backend(name).open(artefact, **opening) as session:
        assert (session.input_spec.name, session.output_spec.name) == ("pixels", "scores")
        evidence = session.evidence()
    assert len(evidence.layers) == len(LENGTHS)
    seen = sum(layer.macs for layer in evidence.layers) / (3 * MACS)
    # ONNX Runtime pads few channels to the width of a vector, and multiplies the padding too.
    assert 1 <= seen < 2 if name == "onnxruntime" else seen == 1
    assert evidence.batch_size == 3
    assert {layer.precision for layer in evidence.layers} == {"fp32"}
