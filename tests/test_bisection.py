"""Faults planted at known layers of exported files and weights files: each is located exactly, in every backend."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from tests.fakes import InlineWorker, fake_cell
from tests.network_files import write
from tests.parity import damage
from tests.parity.chain import Operation, chain_of, flat, replaced
from tests.parity.damaged_file import ExportedFile
from vggbench.artefacts.artefact import Artefact, combined_hash, file_sha256
from vggbench.artefacts.network_file import read_network_file
from vggbench.artefacts.onnx import onnx_artefact
from vggbench.artefacts.quantization import QUANTIZED_PRECISIONS, Calibration
from vggbench.artefacts.weights import WEIGHTS_FILE, weights_artefact, write_safetensors
from vggbench.backends.base import Available
from vggbench.backends.registry import find_backend
from vggbench.bisection import LOST_BEFORE, NOTHING_TO_FIND, bisect, bisect_failures
from vggbench.errors import CellError
from vggbench.measure.client import WorkerFailure
from vggbench.measure.rounds import verify_round
from vggbench.models.spec import ModelSpec, make_spec
from vggbench.models.weights import load_module
from vggbench.parity.bisect import Bisection
from vggbench.plan import Cell
from vggbench.preparation import Materials, materials, request_for
from vggbench.runner import Verification

NARROW = {"input_size": 32, "num_classes": 10, "classifier_width": 32}
NETWORKS = {
    "vgg11": make_spec(config="8,M,16,M,24,24,M,32,32,M,32,32,M", **NARROW),
    "vgg16": make_spec(config="8,8,M,16,16,M,24,24,24,M,32,32,32,M,32,32,32,M", **NARROW),
    "vgg16_bn": make_spec(config="8,8,M,16,16,M,24,24,24,M,32,32,32,M,32,32,32,M", batch_norm=True, **NARROW),
    "vgg11_lrn": make_spec(
        config="8,M,16,M,24,24,M,32,32,M", local_response_norm="literal", **(NARROW | {"input_size": 48})
    ),
}
Change = Callable[[nn.Module], nn.Module | None]
Edit = Callable[[onnx.ModelProto, str], None]


@dataclass(frozen=True)
class Fault:
    """What is changed of which layer, None leaving it out, and in which cell that is looked for.

    A file of other types than fp32 is edited. Of a batch norm that is folded in, `found` is the layer that has it.
    """

    kind: str
    layer: str
    network: str
    backend: str
    precision: str
    change: Change | Edit
    found: str = ""

    def __str__(self) -> str:
        return f"{self.kind}, {self.layer} of {self.network}, {self.backend} {self.precision}"


def other_seed(layer: nn.Module) -> nn.Module:
    weight = torch.empty(layer.weight.shape).normal_(generator=torch.Generator().manual_seed(1)) * layer.weight.std()
    return replaced(layer, weight=weight)


def average(layer: nn.Module) -> nn.Module:
    return damage.average_instead(layer)


def padded_by_edges(layer: nn.Module) -> nn.Module | None:
    return damage.padded_otherwise(lambda: damage.padded(1, 1, "replicate", "edge"))(layer)


def read_as_nhwc(_layer: nn.Module) -> nn.Module:
    return nn.Sequential(damage.transposed(0, 2, 3, 1), Operation("Flatten", lambda x: x.flatten(1)))


def left_out(_layer: nn.Module) -> None:
    return None


def enlarged(values: np.ndarray) -> np.ndarray:
    return values * 1.5


def edited(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    """Change a stored tensor of a layer in its own type."""

    def edit(model: onnx.ModelProto, layer: str) -> None:
        (tensor,) = [each for each in model.graph.initializer if each.name == f"{layer}.{name}"]
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(change(values).astype(values.dtype), tensor.name))

    return edit


def node_left_out(model: onnx.ModelProto, layer: str) -> None:
    (node,) = [each for each in model.graph.node if each.name == layer]
    for each in model.graph.node:
        each.input[:] = [node.input[0] if name == node.output[0] else name for name in each.input]
    model.graph.node.remove(node)


ORT, OV, EAGER, ORACLE = "onnxruntime", "openvino", "torch", "onnx-reference"
FAULTS = [
    Fault("bias dropped", "features.0", "vgg16", ORT, "fp32", damage.bias_dropped),
    Fault("bias dropped", "features.26", "vgg16", ORT, "fp32", damage.bias_dropped),
    Fault("channels swapped", "features.7", "vgg16", ORT, "fp32", damage.channels_swapped),
    Fault("weights 5 % larger", "features.12", "vgg16", ORT, "fp32", damage.scaled(1.05)),
    Fault("weights 5 % larger", "classifier.3", "vgg16", ORT, "fp32", damage.scaled(1.05)),
    Fault("weights of another seed", "features.21", "vgg16", ORT, "fp32", other_seed),
    Fault("padded by the edges", "features.17", "vgg16", ORT, "fp32", padded_by_edges),
    Fault("ReLU left out", "features.8", "vgg16", ORT, "fp32", left_out),
    Fault("ReLU left out", "classifier.4", "vgg11", ORT, "fp32", left_out),
    Fault("average for max pool", "features.16", "vgg16", ORT, "fp32", average),
    Fault("flattened as NHWC", "reshape", "vgg11", ORT, "fp32", read_as_nhwc),
    Fault("bins off by one", "avgpool", "vgg11_lrn", ORT, "fp32", damage.bins_off_by_one),
    Fault("response norm's other reading", "features.2", "vgg11_lrn", ORT, "fp32", damage.other_reading),
    Fault("two classes swapped", "classifier.6", "vgg11", ORT, "fp32", damage.channels_swapped),
    Fault("batch norm's mean off", "features.21", "vgg16_bn", OV, "fp32", damage.mean_off, "features.20"),
    Fault("kernel transposed", "features.34", "vgg16_bn", OV, "fp32", damage.kernel_transposed),
    Fault("weights of another seed", "features.10", "vgg16_bn", OV, "bf16", other_seed),
    Fault("ReLU left out", "features.22", "vgg16", OV, "bf16", left_out),
    Fault("input channels swapped", "features.6", "vgg11", OV, "bf16", damage.input_channels_swapped),
    Fault("ReLU left out", "features.8", "vgg11", ORACLE, "fp16", node_left_out),
    Fault("channels swapped", "features.20", "vgg16_bn", ORACLE, "bf16", edited("weight", lambda x: x[::-1])),
    Fault("channels swapped", "features.6", "vgg11", ORT, "int8", edited("weight/quantized", lambda x: x[::-1])),
    Fault("bias dropped", "features.0", "vgg16_bn", ORT, "int8", edited("bias/quantized", np.zeros_like)),
    Fault(
        "weights' step wrong", "features.3", "vgg11", OV, "int8", edited("weight/scale", lambda x: x * np.float32(1.5))
    ),
    Fault("weights' step wrong", "features.13", "vgg11", ORACLE, "fp8", edited("weight/scale", lambda x: x * 1.5)),
    Fault("bias dropped", "features.14", "vgg16", EAGER, "fp32", damage.bias_dropped),
    Fault("weights 5 % larger", "features.10", "vgg16", EAGER, "fp16", damage.scaled(1.05)),
    Fault("weights 5 % larger", "features.0", "vgg16_bn", EAGER, "fp32", damage.scaled(1.05)),
    Fault("batch norm's statistics dropped", "features.31", "vgg16_bn", EAGER, "bf16", damage.statistics_dropped),
    Fault("weights of another seed", "features.24", "vgg16", EAGER, "bf16", other_seed),
]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


def cell_of(spec: ModelSpec, backend: str, precision: str = "fp32") -> Cell:
    found = find_backend(backend)
    if not isinstance(found.availability("cpu"), Available) or not found.supports(precision, "cpu").supported:
        pytest.skip(f"{backend} has no native {precision} here")
    cell = fake_cell(backend=backend, spec=spec, precision=precision, batch_size=8, threads=1)
    quantized = precision in QUANTIZED_PRECISIONS
    return replace(cell, export_options=Calibration(images=8).options) if quantized else cell


def planted(fault: Fault, cell: Cell, exports: Path, folder: Path) -> Artefact:
    """Return the cell's artefact with the fault in it, by hashes that are its own: a file that was exported so."""
    whole = materials(cell, exports).artefact
    if whole.precision != "fp32":
        model = onnx.load(whole.path)
        fault.change(model, fault.layer)
        onnx.save(model, folder / whole.main)
        return hashed(replace(whole, folder=str(folder)), folder)
    network = load_module(cell.spec, weights_artefact(cell.spec, exports).path)
    chain = chain_of(network)
    (place,) = [index for index, layer in enumerate(chain) if layer.name == fault.layer]
    changed = fault.change(chain[place])
    if whole.kind == "weights":
        assert changed is not None
        state = network.state_dict() | {f"{fault.layer}.{key}": value for key, value in changed.state_dict().items()}
        write_safetensors(folder / WEIGHTS_FILE, state)
        return hashed(replace(whole, folder=str(folder)), folder)
    for part in flat([changed or nn.Sequential()]):
        if isinstance(part, Operation):
            part.name = fault.layer
    mutant = flat([*chain[:place], changed or nn.Sequential(), *chain[place + 1 :]])
    return hashed(ExportedFile(whole, chain, folder).damaged(mutant), folder)


def hashed(artefact: Artefact, folder: Path) -> Artefact:
    files = {path.name: file_sha256(path) for path in folder.iterdir()}
    return replace(artefact, files=files, sha256=combined_hash(files))


def searched(cell: Cell, found: Materials, exports: Path) -> Bisection:
    """Bisect a cell that must fail."""
    request = request_for(cell, found, 0, in_flight=1, seconds=1.0, seed=0, timeout_s=60.0)
    record = verify_round(request)
    assert record.failure is not None or not record.sessions[0].parity.passed, "the fault hides under the tolerance"
    said: list[str] = []
    failed = Verification(cell=cell, materials=found, request=request, record=record)
    bisection = bisect(failed, exports, said.append)
    assert len(said) == bisection.builds
    last = bisection.depths[-1]
    assert last.layer == "classifier.6"
    assert last.passed == (bisection.layer == "")
    return bisection


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_planted_fault_is_located_exactly(inline_workers: None, exports: Path, tmp_path: Path, fault: Fault) -> None:
    cell = cell_of(NETWORKS[fault.network], fault.backend, fault.precision)
    found = materials(cell, exports)
    bisection = searched(cell, replace(found, artefact=planted(fault, cell, exports, tmp_path)), exports)
    print(bisection.builds, bisection.remark)
    layer = fault.found or fault.layer
    assert bisection.layer == layer, bisection
    assert bisection.remark.startswith(f"{layer} (")
    assert bisection.builds <= math.ceil(math.log2(45)) + 1
    before = [depth for depth in bisection.depths if depth.passed]
    (first,) = [depth for depth in bisection.depths if depth.layer == layer]
    assert all(depth.depth < first.depth for depth in before)
    assert first.own_error is not None
    assert first.own_error > (first.own_tolerance or math.inf)


def test_the_faults_are_many_and_spread() -> None:
    assert len(FAULTS) >= 20
    assert len({fault.kind for fault in FAULTS}) >= 10
    assert {(fault.backend, fault.precision) for fault in FAULTS} == {
        *((ORT, "fp32"), (OV, "fp32"), (OV, "bf16"), (EAGER, "fp32"), (EAGER, "fp16"), (EAGER, "bf16")),
        *((ORACLE, "fp16"), (ORACLE, "bf16"), (ORACLE, "fp8"), (ORT, "int8"), (OV, "int8")),
    }


@pytest.mark.slow
def test_prefixes_run_in_worker_processes_of_their_own(exports: Path, tmp_path: Path) -> None:
    cell = cell_of(NETWORKS["vgg11"], ORT)
    fault = Fault("weights 5 % larger", "features.6", "vgg11", ORT, "fp32", damage.scaled(1.05))
    found = replace(materials(cell, exports), artefact=planted(fault, cell, exports, tmp_path))
    assert searched(cell, found, exports).layer == "features.6"


def convolutions(evidence: dict[str, Any]) -> int:
    return sum("Conv" in layer["operation"] for layer in evidence["layers"])


class Dying(InlineWorker):
    """A backend that dies of every network with a third convolution in it, as one with a broken kernel does."""

    def call(self, command: str, **arguments: object):
        answer = super().call(command, **arguments)
        if command == "evidence" and convolutions(answer) >= 3:
            raise WorkerFailure("open", "failed", "the worker was killed by SIGSEGV")
        return answer


def test_a_layer_that_kills_the_backend_is_named(
    inline_workers: None, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vggbench.measure.rounds.WorkerClient", Dying)
    cell = cell_of(NETWORKS["vgg11"], ORT)
    bisection = searched(cell, materials(cell, exports), exports)
    assert bisection.layer == "features.6"
    reason = "failed at open: the worker was killed by SIGSEGV"
    assert bisection.remark == f"features.6 (Conv2d) is the first layer that departs: {reason}"
    assert {depth.error for depth in bisection.depths if not depth.passed} == {None}


def verification(cell: Cell, exports: Path) -> Verification:
    found = materials(cell, exports)
    request = request_for(cell, found, 0, in_flight=1, seconds=1.0, seed=0, timeout_s=60.0)
    return Verification(cell=cell, materials=found, request=request, record=verify_round(request))


def test_a_network_that_passes_when_it_is_cut_has_its_fault_behind(inline_workers: None, exports: Path) -> None:
    bisection = bisect(verification(cell_of(NETWORKS["vgg11"], ORT), exports), exports, lambda _text: None)
    assert bisection.layer == ""
    assert bisection.remark.startswith("no layer departs: cut behind its last layer the network passes")
    assert all(depth.passed for depth in bisection.depths)


def test_nothing_is_run_of_a_cell_that_passes(inline_workers: None, exports: Path) -> None:
    passing = verification(fake_cell(), exports)
    assert bisect_failures([passing], exports, print) == {passing.cell.id: Bisection(layer="", remark=NOTHING_TO_FIND)}


def test_what_was_lost_in_quantising_is_no_layers_fault(inline_workers: None, exports: Path) -> None:
    passing = verification(fake_cell(), exports)
    (session,) = passing.record.sessions
    lost = replace(session.parity, passed=False, reasons=("quantisation cost 0.9",), quantization_error=0.9)
    record = replace(passing.record, sessions=(replace(session, parity=lost),))
    found = bisect_failures([replace(passing, record=record)], exports, print)
    assert found == {passing.cell.id: Bisection(layer="", remark=LOST_BEFORE)}


def test_a_backend_without_layers_says_so(inline_workers: None, exports: Path) -> None:
    bisection = bisect(verification(fake_cell(fault="wrong"), exports), exports, print)
    assert bisection.remark == "cannot be bisected: fake runs no layers, so that no part of them can be run"


def test_a_file_of_ones_own_with_branches_says_so(inline_workers: None, exports: Path, tmp_path: Path) -> None:
    network = read_network_file(str(write(tmp_path / "residual.onnx")))
    bisection = bisect(verification(replace(fake_cell(backend=ORT), spec=network), exports), exports, print)
    assert bisection.remark.startswith("cannot be bisected: residual.onnx is no chain, 3 products lie in branches")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "part.onnx"), "part.onnx: No space left on device"),
        (MemoryError(), "memory ran out"),
        (CellError("there is no reference"), "there is no reference"),
    ],
)
def test_what_stands_in_the_way_is_the_remark(
    inline_workers: None, exports: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    failed = verification(fake_cell(fault="wrong"), exports)
    monkeypatch.setattr("vggbench.bisection._chain", fail)
    assert bisect(failed, exports, print).remark == f"cannot be bisected: {words}"


class Enlarging(InlineWorker):
    """A backend that is wrong by 5 % from the third convolution on."""

    def call(self, command: str, **arguments: object):
        if command == "verify" and convolutions(super().call("evidence")) >= 3:
            session = self._worker.session
            plain = session.fetch
            session.fetch = lambda slot: 1.05 * plain(slot)
        return super().call(command, **arguments)


@pytest.mark.slow
def test_a_chain_of_ones_own_is_held_against_itself(
    inline_workers: None, exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vggbench.measure.rounds.WorkerClient", Enlarging)
    exported = onnx_artefact(NETWORKS["vgg11"], exports)
    shutil.copytree(exported.folder, tmp_path / "own")
    network = read_network_file(str(tmp_path / "own" / exported.main))
    cell = replace(cell_of(NETWORKS["vgg11"], ORT), spec=network)
    bisection = searched(cell, materials(cell, exports), exports)
    assert bisection.layer == "features.6"
    assert bisection.remark.startswith(
        "features.6 (Conv) is the first layer that departs: its own error is 0.12 of the signal"
    )
    assert bisection.builds <= 6
