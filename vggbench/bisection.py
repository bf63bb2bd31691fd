"""Cells that failed parity -> the layer at which each goes wrong: prefixes of its chain, run as its rounds run it.

Imports torch, onnx and the backends' libraries inside functions at most.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact, file_sha256
from vggbench.artefacts.exported import exported
from vggbench.artefacts.network_file import load_graph
from vggbench.artefacts.onnx_prefix import chain_of_cuts, layer_values, prefix_artefact
from vggbench.artefacts.quantization import QUANTIZED_PRECISIONS
from vggbench.artefacts.weights import weights_artefact
from vggbench.backends.registry import find_backend
from vggbench.backends.torch_eager import UNTIL
from vggbench.errors import CellError, RequestError
from vggbench.measure.records import RoundRecord
from vggbench.measure.request import RoundRequest
from vggbench.measure.rounds import verify_round
from vggbench.models.network_file import NetworkFile
from vggbench.models.spec import ModelSpec
from vggbench.parity.bisect import Bisection, Depth, Expected, first_departure
from vggbench.parity.prefixes import FilePrefixes, ModulePrefixes, Prefixes, QuantizedPrefixes
from vggbench.plan import Cell
from vggbench.preparation import Materials, onnx_form
from vggbench.runner import Verification

if TYPE_CHECKING:
    from torch import nn

NOTHING_TO_FIND = "parity holds: there is nothing to find"
LOST_BEFORE = "no layer departs: the backend computes what the file says, and the signal was lost in quantising it"


def bisect_failures(
    verifications: Sequence[Verification], exports: Path, announce: Callable[[str], None]
) -> dict[str, Bisection]:
    """Search every cell that failed, and say of the others that there is nothing to find; by cell id."""
    found = {}
    for each in verifications:
        if _only_quantising_cost_too_much(each.record):
            found[each.cell.id] = Bisection(layer="", remark=LOST_BEFORE)
        elif _failed(each.record):
            announce(f"bisecting {each.cell.title}")
            found[each.cell.id] = bisect(each, exports, announce)
        else:
            found[each.cell.id] = Bisection(layer="", remark=NOTHING_TO_FIND)
    return found


def _failed(record: RoundRecord) -> bool:
    return record.failure is not None or not all(session.parity.passed for session in record.sessions)


def _only_quantising_cost_too_much(record: RoundRecord) -> bool:
    """Say whether a cell failed for what its file says, which the backend computes as it should."""
    parities = [session.parity for session in record.sessions if not session.parity.passed]
    agree = [
        parity.passing_tolerance is not None and parity.passing_tolerance <= parity.tolerance for parity in parities
    ]
    return record.failure is None and bool(parities) and all(agree)


def bisect(failed: Verification, exports: Path, announce: Callable[[str], None]) -> Bisection:
    """Find the first layer of a cell that departs; what stands in the way is the remark of the answer."""
    try:
        with np.load(failed.materials.reference.path, allow_pickle=False) as arrays:
            images = arrays["inputs"]
        with TemporaryDirectory(prefix="vggbench-bisect-") as folder:
            chain = _chain(failed.cell, failed.materials, images, exports)
            return _Search(chain, failed, Path(folder), announce).answer()
    except (CellError, RequestError) as error:
        return Bisection(layer="", remark=f"cannot be bisected: {error}")
    except OSError as error:
        return Bisection(layer="", remark=f"cannot be bisected: {error.filename or 'a file'}: {error.strerror}")
    except MemoryError:
        return Bisection(layer="", remark="cannot be bisected: memory ran out")


@dataclass(frozen=True, slots=True)
class _Point:
    """Where a chain can be cut.

    Attributes:
        layer: what is named, if it goes wrong.
        operation: what it is.
        last: name of the last module that belongs to it: a batch norm that is folded in comes after `layer`.
        value: of an ONNX file; empty where modules are cut.
    """

    layer: str
    operation: str
    last: str
    value: str = ""

    @property
    def title(self) -> str:
        return f"{self.layer} ({self.operation}" + (f", {self.last} folded in)" if self.last != self.layer else ")")


@dataclass(frozen=True, slots=True)
class _Chain:
    """The places where a cell's network can be cut, and what its prefixes should make of the images."""

    images: NDArray[np.float32]
    points: Sequence[_Point]
    prefixes: Prefixes


def _chain(cell: Cell, found: Materials, images: NDArray[np.float32], exports: Path) -> _Chain:
    if isinstance(cell.spec, NetworkFile):
        return _chain_of_file(cell.spec, found.artefact, images)
    kind = find_backend(cell.backend).artefact_kind
    if kind not in ("weights", "onnx"):
        raise RequestError(f"{cell.backend} runs no layers, so that no part of them can be run")
    if found.artefact.precision in QUANTIZED_PRECISIONS:
        return _chain_of_quantized(cell.spec, found.artefact, images, exported(cell.spec, exports, onnx_form(cell)))
    points = _points_of_module(cell.spec) if kind == "weights" else _points_of_export(cell.spec, found.artefact)
    weights = weights_artefact(cell.spec, exports)
    return _Chain(images, points, ModulePrefixes(cell.spec, weights.path, images, [point.last for point in points]))


def _chain_of_quantized(
    spec: ModelSpec, artefact: Artefact, images: NDArray[np.float32], as_exported: Artefact
) -> _Chain:
    """Cut the file that is opened where the one that was exported has its layers: the same file, if all is well."""
    points = _points_of_export(spec, as_exported)
    prefixes = QuantizedPrefixes(as_exported.path, spec.input_name, images, [point.value for point in points])
    values = layer_values(load_graph(artefact.path).graph, spec.input_name)
    opened: list[_Point] = []
    for point in points:
        before = opened[-1].value if opened else spec.input_name
        opened.append(replace(point, value=values.get(point.layer, before)))
    return _Chain(images, opened, prefixes)


def _chain_of_file(network: NetworkFile, artefact: Artefact, images: NDArray[np.float32]) -> _Chain:
    cuts = chain_of_cuts(Path(network.path), load_graph(artefact.path), network.input_name)
    points = [_Point(cut.layer, cut.operation, cut.layer, cut.value) for cut in cuts]
    prefixes = FilePrefixes(artefact.path, network.input_name, images, network.batch_size or 1, cuts)
    return _Chain(images, points, prefixes)


def _points_of_module(spec: ModelSpec) -> list[_Point]:
    return [
        _Point(name, type(layer).__name__, name) for name, layer in _layers(spec).items() if not _is_identity(layer)
    ]


def _points_of_export(spec: ModelSpec, artefact: Artefact) -> list[_Point]:
    """Return a point a layer that the network has, whether or not the file has it: one that is missing is a fault.

    Its value is then the one before. A batch norm is part of the convolution before it where the file has none.
    """
    import torch

    layers, values = _layers(spec), layer_values(load_graph(artefact.path).graph, spec.input_name)
    if layers.keys().isdisjoint(values):
        raise RequestError(f"{artefact.path.name} names none of the network's layers")
    norms = {name for name, layer in layers.items() if isinstance(layer, torch.nn.BatchNorm2d)}
    folded = norms if norms.isdisjoint(values) else set()
    points: list[_Point] = []
    value = spec.input_name
    for name, layer in layers.items():
        value = values.get(name, value)
        if name in folded:
            points[-1] = replace(points[-1], last=name)
        elif name in values or not _is_identity(layer):
            points.append(_Point(name, type(layer).__name__, name, value))
    return points


def _layers(spec: ModelSpec) -> dict[str, nn.Module]:
    from vggbench.models.vgg import layers_in_order
    from vggbench.models.weights import empty_module

    return layers_in_order(empty_module(spec))


def _is_identity(layer: nn.Module) -> bool:
    """Say whether a layer leaves all values as they are, so that there is nothing to do wrong."""
    import torch

    from vggbench.models.spec import POOLED_SIZE
    from vggbench.models.vgg import AdaptivePool7

    plain = isinstance(layer, torch.nn.Dropout | torch.nn.Identity | torch.nn.Flatten)
    return plain or (isinstance(layer, AdaptivePool7) and layer.feature_size == POOLED_SIZE)


class _Search:
    """Runs prefixes in the backend, each once, and keeps what they gave."""

    def __init__(self, chain: _Chain, failed: Verification, folder: Path, announce: Callable[[str], None]) -> None:
        self._images, self._points, self._prefixes = chain.images, chain.points, chain.prefixes
        self._whole, self._request, self._folder, self._announce = failed, failed.request, folder, announce
        self._depths: dict[int, Depth] = {}
        self._expected: dict[int, Expected] = {}
        self._outputs: dict[int, NDArray[np.floating] | None] = {0: self._images.reshape(len(self._images), -1)}

    def answer(self) -> Bisection:
        """Search, and say what was found."""
        depth = first_departure(len(self._points), self._passes, self._departs)
        return Bisection(
            layer=self._points[depth - 1].layer if depth else "",
            remark=self._found(depth) if depth else self._not_found(),
            depths=(*(self._depths[each] for each in sorted(self._depths)), *self._uncut()),
            builds=len(self._depths),
        )

    def _uncut(self) -> list[Depth]:
        """Return what the cell itself gave, where its last layer was not asked for."""
        count = len(self._points)
        return [] if count in self._depths else [_depth(count, self._points[-1], self._request, self._whole.record)]

    def _found(self, depth: int) -> str:
        point, seen = self._points[depth - 1], self._depths[depth]
        why = seen.reason
        if seen.own_error is not None:
            why = f"its own error is {seen.own_error:.2g} of the signal, {seen.own_tolerance:.2g} is what "
            why += f"{self._request.precision} allows it"
        return f"{point.title} is the first layer that departs: {why}"

    def _not_found(self) -> str:
        failed = [each for each in sorted(self._depths) if not self._depths[each].passed]
        if not failed:
            return "no layer departs: cut behind its last layer the network passes, so the fault is in what follows it"
        first = self._points[failed[0] - 1]
        return (
            f"no single layer departs: {first.title} is the first beyond the tolerance of a network that ends there, "
            f"and the own error of every layer up to it is what {self._request.precision} allows"
        )

    def _passes(self, depth: int) -> bool:
        if depth not in self._depths:
            self._depths[depth] = self._run(depth)
        return self._depths[depth].passed

    def _departs(self, depth: int) -> bool:
        """Say whether a prefix's last layer has an error of its own, beside what the prefix before handed it."""
        if depth > 1:
            self._passes(depth - 1)
        passed, handed, made = self._passes(depth), self._outputs[depth - 1], self._outputs[depth]
        if handed is None:
            return False
        if made is None:
            return not passed
        expected = self._expected[depth]
        own_error = expected.own_error(made, self._prefixes.continued(depth, handed))
        own_tolerance = expected.own_tolerance(self._request.precision)
        self._depths[depth] = replace(self._depths[depth], own_error=own_error, own_tolerance=own_tolerance)
        return not own_error <= own_tolerance

    def _run(self, depth: int) -> Depth:
        point = self._points[depth - 1]
        self._announce(f"running {depth} of {len(self._points)} layers, up to {point.layer}")
        expected = self._expected[depth] = self._prefixes.expected(depth)
        folder = self._folder / str(depth)
        folder.mkdir()
        request = self._prefix_request(point, expected, folder)
        record = verify_round(request)
        self._outputs[depth] = _kept_outputs(Path(request.outputs), expected.outputs.shape)
        shutil.rmtree(folder)
        return _depth(depth, point, request, record)

    def _prefix_request(self, point: _Point, expected: Expected, folder: Path) -> RoundRequest:
        """Return the round's request with a part of the chain in the place of the whole."""
        reference = folder / "reference.npz"
        np.savez(reference, inputs=self._images, logits=expected.outputs)
        changes: dict[str, Any] = {"options": {**self._request.options, UNTIL: point.last}}
        if point.value:
            part = prefix_artefact(self._whole.materials.artefact, point.value, expected.shape, folder / "artefact")
            changes = {"artefact": part.to_json()}
        return replace(
            self._request,
            **changes,
            reference=str(reference),
            reference_sha256=file_sha256(reference),
            tolerance=expected.tolerance(self._request.precision),
            outputs=str(folder / "outputs.npy"),
        )


def _kept_outputs(path: Path, shape: tuple[int, ...]) -> NDArray[np.floating] | None:
    """Return what the worker kept; None where it kept nothing that can be compared."""
    if not path.exists():
        return None
    outputs: NDArray[np.floating] = np.load(path, allow_pickle=False)
    return outputs if outputs.shape == shape else None


def _depth(depth: int, point: _Point, request: RoundRequest, record: RoundRecord) -> Depth:
    names = {"layer": point.layer, "operation": point.operation}
    known: dict[str, Any] = {"depth": depth, **names, "tolerance": request.tolerance}
    if record.failure is not None:
        failure = record.failure
        return Depth(**known, error=None, passed=False, reason=f"{failure.status} at {failure.stage}: {failure.reason}")
    parity = record.sessions[0].parity
    error = (parity.metrics or {}).get("signal_error")
    return Depth(**known, error=error, passed=parity.passed, reason="; ".join(parity.reasons))
