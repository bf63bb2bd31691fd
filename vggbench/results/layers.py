"""A profile joined with the layer walk: what each layer took, and how near that is to what the machine could do.

No torch, no pandas. Which operation is which layer is told by its name, where the backend kept the names of the file;
by order and size where it has none: a VGG is a chain, so that its products can only run in the network's order. Where
neither tells, nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from vggbench.backends.base import LayerTime
from vggbench.measure.profiling import Profile
from vggbench.measure.roofline import BANDWIDTH, COMPUTE, Ceiling, Work, attainable, best, layer_works
from vggbench.models.layers import Layer, mac_layers
from vggbench.models.network_file import NetworkFile
from vggbench.models.spec import IMAGE_CHANNELS, ModelSpec
from vggbench.plan import Cell

LAYER, OTHER, OUTSIDE = "layer", "other", "outside"
OUTSIDE_NAME = "outside the layers"
_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One operation of a request.

    Attributes:
        layer: its name in the network; in the backend's graph where it is none of the layers with MACs.
        part: `layer` with MACs, `other` operation, or `outside`: the request's time in none of them.
        operation: the backend's name of it.
        time_ms: mean over the profiled requests, so that the rows add up.
        share_percent: of the profiled request; all rows together are 100.
        gflop: of one request.
        gflop_s: achieved.
        least_mib: weights, and the network's input or output: what must be moved whatever is cached.
        attainable_ms: the least time on this machine.
        percent_of_attainable: over 100 where fewer multiplications do, as in Winograd's convolutions.
        bound_by: `compute` or `bandwidth`.
    """

    layer: str
    part: str
    operation: str
    time_ms: float
    share_percent: float
    gflop: float | None = None
    gflop_s: float | None = None
    least_mib: float | None = None
    attainable_ms: float | None = None
    percent_of_attainable: float | None = None
    bound_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellProfile:
    """What one cell's requests spend their time on.

    Attributes:
        requests: profiled.
        request_ms: of the same requests without the profiler, in the same process.
        profiled_request_ms: with it; the rows divide this one.
        profiler_percent: what the profiler costs a request.
        layers: in the order in which they run, and the rest of the request last.
        unassigned: layers that no operation could be told to be.
        macs_agree: whether the layers multiply what the network does; False where a backend's shapes are all that is
            known of an ONNX file's layers, and are padded.
        ceiling_gflop_s, ceiling_gb_s: what the rows are held against; None where it was not measured.
    """

    requests: int
    request_ms: float
    profiled_request_ms: float
    profiler_percent: float
    layers: tuple[LayerRow, ...]
    unassigned: tuple[str, ...]
    macs_agree: bool
    ceiling_gflop_s: float | None
    ceiling_gb_s: float | None


def cell_profile(
    cell: Cell, macs: int, plain_ns: Sequence[int], profile: Profile, ceilings: Sequence[Ceiling]
) -> CellProfile:
    """Join a cell's profile with its network; `macs` are one image's, `plain_ns` requests without the profiler."""
    request_ns, plain = fmean(profile.samples_ns), fmean(plain_ns)
    names = layer_names(profile.layers, cell)
    works = _works(profile.layers, names, cell)
    agree = sum(work.flops for work in works.values()) == 2 * macs * cell.batch_size
    compute, traffic = best(ceilings, COMPUTE, cell.precision), best(ceilings, BANDWIDTH)
    rows = []
    for time, name in zip(profile.layers, names, strict=True):
        time_ns = fmean(time.samples_ns)
        row = LayerRow(
            layer=name or time.name,
            part=LAYER if name else OTHER,
            operation=time.operation,
            time_ms=time_ns / 1e6,
            share_percent=100 * time_ns / request_ns,
            **_against_the_machine(works.get(name) if agree else None, time_ns, compute, traffic),
        )
        rows.append(row)
    rest = request_ns / 1e6 - sum(row.time_ms for row in rows)
    outside = LayerRow(
        layer=OUTSIDE_NAME, part=OUTSIDE, operation="", time_ms=rest, share_percent=100e6 * rest / request_ns
    )
    return CellProfile(
        requests=len(profile.samples_ns),
        request_ms=plain / 1e6,
        profiled_request_ms=request_ns / 1e6,
        profiler_percent=100 * (request_ns / plain - 1),
        layers=(*rows, outside),
        unassigned=tuple(name for name in works if name not in names),
        macs_agree=agree,
        ceiling_gflop_s=compute.rate / 1e9 if compute else None,
        ceiling_gb_s=traffic.rate / 1e9 if traffic else None,
    )


def _against_the_machine(
    work: Work | None, time_ns: float, compute: Ceiling | None, traffic: Ceiling | None
) -> dict[str, Any]:
    """Return the columns of a layer with work; those that need a ceiling are left out without one."""
    if work is None:
        return {}
    seconds = time_ns / 1e9
    values = {
        "gflop": work.flops / 1e9,
        "gflop_s": work.flops / 1e9 / seconds if seconds else None,
        "least_mib": work.bytes / _MIB,
    }
    if compute is None or traffic is None:
        return values
    least = attainable([work], flops_per_s=compute.rate, bytes_per_s=traffic.rate)
    percent = 100 * least.seconds / seconds if seconds else None
    return {
        **values,
        "attainable_ms": least.seconds * 1e3,
        "percent_of_attainable": percent,
        "bound_by": least.bound_by,
    }


def _works(times: Sequence[LayerTime], names: Sequence[str], cell: Cell) -> Mapping[str, Work]:
    """Return the work of each layer with MACs by its name."""
    if isinstance(cell.spec, NetworkFile):
        seen = [(time, name) for time, name in zip(times, names, strict=True) if name]
        layers = [(name, time.macs // cell.batch_size, time.weights) for time, name in seen]
    else:
        layers = [(layer.name, layer.macs, layer.parameters) for layer in mac_layers(cell.spec)]
    works = layer_works(
        [(macs, weights) for _name, macs, weights in layers],
        input_elements=IMAGE_CHANNELS * cell.spec.input_size**2,
        outputs=cell.spec.num_classes,
        batch_size=cell.batch_size,
        precision=cell.precision,
    )
    return {name: work for (name, _macs, _weights), work in zip(layers, works, strict=True)}


def layer_names(times: Sequence[LayerTime], cell: Cell) -> list[str]:
    """Return for each operation the layer with MACs that it is; empty where it is none, or nothing tells which."""
    if isinstance(cell.spec, NetworkFile):  # its layers are what the backend calls them
        return [time.name if time.macs else "" for time in times]
    layers = mac_layers(cell.spec, cell.batch_size)
    names: list[str] = []
    nameless = []
    for place, time in enumerate(times):
        name = _by_name(time.name, cell.spec, layers) if time.macs else ""
        if name is None:
            nameless.append(place)
        names.append(name if name and name not in names else "")
    left = [layer for layer in layers if layer.name not in names]
    if [times[place].macs for place in nameless] == [layer.macs for layer in left]:
        for place, layer in zip(nameless, left, strict=True):
            names[place] = layer.name
    return names


def _by_name(name: str, spec: ModelSpec, layers: Sequence[Layer]) -> str | None:
    """Return the layer that a product's name says it is, empty for the pool's products, None if it says nothing.

    What is fused behind a layer may have given it its own name: `features.2` is the ReLU of `features.0`.
    """
    module, _, _ = name.partition("/")
    part, _, index = module.rpartition(".")
    if module == "avgpool" and spec.head == "adaptive":
        return ""
    if part not in {"features", "classifier"} or not index.isdecimal():
        return None
    before = [
        layer.name
        for layer in layers
        if layer.name.startswith(f"{part}.") and int(layer.name.rpartition(".")[2]) <= int(index)
    ]
    return before[-1] if before else None
