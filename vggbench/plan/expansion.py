"""From selections to cells: their product, on the backends that are there.

No torch, no onnx, no backend's library: which backends are there is told by probes made elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Protocol

from vggbench.artefacts.calibration import choose_calibration
from vggbench.artefacts.onnx_form import KEEP_FP32, TYPED_PRECISIONS, check_layers
from vggbench.artefacts.quantization import (
    CALIBRATION,
    DEFAULT_METHOD,
    NO_CALIBRATION,
    QUANTIZED_PRECISIONS,
    SYNTHETIC,
    Calibration,
)
from vggbench.backends.base import PRECISIONS, Backend, default_precisions
from vggbench.backends.registry import check_options, default_backends, find_backend
from vggbench.errors import NothingToJudge, RequestError
from vggbench.models.network_file import Network, NetworkFile
from vggbench.plan.cells import GPU_BATCH_SIZES, LARGEST_BATCH, MOST_IN_FLIGHT, Cell
from vggbench.plan.devices import CPU, choose_device
from vggbench.plan.devices import Probe as Usable
from vggbench.plan.selections import Selection


class Probe(Usable, Protocol):
    """What is known of a backend on this machine; `measure.client.BackendProbe` is one."""

    @property
    def version(self) -> str:
        """Return the library's version; empty where it cannot be used."""
        ...

    @property
    def precisions(self) -> Mapping[str, str]:
        """Return for each precision why it is not native; empty text if it is."""
        ...


def expand(
    selections: Iterable[Selection], *, device: str, threads: int, probe: Callable[[str], Probe]
) -> tuple[Cell, ...]:
    """Return the cells of all selections, each once, in their order.

    Backends that are not named are the device's default ones that are available; precisions that are not named are its
    default ones that are native to backend and device. What is named and not there is an error (backend; cells that are
    unsupported by `if_missing`) or an unsupported cell (precision). An option of the export belongs to the cells whose
    file it decides; `RequestError` if there are none.
    """
    cells: dict[str, Cell] = {}
    # All of them before the first probe, which takes seconds.
    checked = [(selection, _checked_specs(selection), _calibration(selection, device)) for selection in selections]
    for selection, specs, calibration in checked:
        found = list(_expand_one(selection, specs, calibration, device, threads, probe))
        _check_effect(selection, found)
        cells |= {cell.id: cell for cell in found if cell.id not in cells}
    if not cells:
        raise NothingToJudge(f"no backend is available on {device}; `vggbench doctor` says why")
    return tuple(cells.values())


def find_cells(
    selections: Sequence[Selection],
    *,
    device: str | None,
    threads: int | None,
    probe: Callable[[str, str], Probe] | None = None,
    broad: bool = False,
) -> tuple[tuple[Cell, ...], dict[str, str]]:
    """Probe this machine's backends and return the cells, and the versions of the backends in them.

    Without a device it is a GPU where there is one, as `choose_device` says. `probe` takes a backend's name and the
    device; without it, this environment is asked. With `broad`, a selection that says nothing has several batch sizes
    on a GPU.
    """
    from vggbench.environment import default_threads
    from vggbench.measure import client

    chosen_threads = default_threads() if threads is None else threads
    _check_threads(chosen_threads)
    probed = cache(probe or client.probe)
    named = [parse_backend(text)[0] for selection in selections for text in selection.backend]
    chosen = choose_device(device, named, probed)
    if broad and chosen != CPU:
        selections = [one if one.model_fields_set else Selection(batch_size=[*GPU_BATCH_SIZES]) for one in selections]
    cells = expand(selections, device=chosen, threads=chosen_threads, probe=lambda name: probed(name, chosen))
    return cells, {name: probed(name, chosen).version for name in sorted({cell.backend for cell in cells})}


def _check_threads(threads: int) -> None:
    """Refuse more threads than this process has: they would only take turns."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not 1 <= threads <= usable:
        raise RequestError(f"threads is {threads}; this process may use from 1 to {usable}")


def _checked_specs(selection: Selection) -> list[Network]:
    _check_batch_sizes(selection.batch_size)
    for precision in selection.precision:
        if precision not in PRECISIONS:
            raise RequestError(f"unknown precision {precision!r}; it can be {', '.join(PRECISIONS)}")
    specs = selection.specs()
    for spec in specs:
        _check_batch_sizes(selection.batch_sizes(spec))
        _check_kept(selection, spec)
    return specs


def _check_kept(selection: Selection, spec: Network) -> None:
    if isinstance(spec, NetworkFile):
        if selection.keep_fp32:
            raise RequestError(f"{spec.variant} is opened as it is; no layers of an ONNX file can be kept in fp32")
    else:
        check_layers(spec, tuple(selection.keep_fp32))


def _check_effect(selection: Selection, cells: Sequence[Cell]) -> None:
    """Refuse an option of the export that no cell heeds: its rows would look as if one had."""
    heeded = {name for cell in cells for name in cell.export_options}
    asked = selection.calibration is not None or selection.calibration_method is not None
    if asked and cells and CALIBRATION not in heeded:
        raise RequestError(
            f"images calibrate files of {' or '.join(QUANTIZED_PRECISIONS)}, and none of the cells opens one; name "
            "such a precision and a backend that opens ONNX files"
        )
    if selection.keep_fp32 and cells and KEEP_FP32 not in heeded:
        raise RequestError(
            f"layers are kept in fp32 in files of {' or '.join(TYPED_PRECISIONS)}, and none of the cells opens one; "
            "name such a precision and a backend that goes by the file's types"
        )


def _calibration(selection: Selection, device: str) -> Calibration:
    """Return what int8 and fp8 files are calibrated with: synthetic images where they, or no precisions, are named.

    `RequestError` where such a precision is asked for by name and nothing is said of images, and for images that are
    not there.
    """
    where, names = selection.calibration, [name for name in selection.precision if name in QUANTIZED_PRECISIONS]
    if (
        where is None
        and names
        and any(_opens_onnx(backend) for backend in selection.backend or default_backends(device))
    ):
        raise RequestError(NO_CALIBRATION.format(precision=names[0]))
    method = DEFAULT_METHOD if selection.calibration_method is None else selection.calibration_method
    return choose_calibration(SYNTHETIC if where is None else where, method)


def _opens_onnx(backend: str) -> bool:
    return find_backend(parse_backend(backend)[0]).artefact_kind == "onnx"


def _check_batch_sizes(sizes: Iterable[int]) -> None:
    for size in sizes:
        if not 1 <= size <= LARGEST_BATCH:
            raise RequestError(f"batch size is {size}; it must be from 1 to {LARGEST_BATCH}")


def _expand_one(
    selection: Selection,
    specs: list[Network],
    calibration: Calibration,
    device: str,
    threads: int,
    probe: Callable[[str], Probe],
) -> Iterable[Cell]:
    openable = [name for name in default_backends(device) if any(not _closed(name, spec) for spec in specs)]
    backends = selection.backend or openable
    absence = selection.if_missing if selection.backend else "omit"
    usable = list(_backends(backends, device, probe, absence))
    for spec, (backend, options, known) in product(specs, usable):
        closed = _closed(backend, spec)
        if closed and not selection.backend:
            continue
        unsupported: dict[str, str] = {name: closed or _unsupported(name, spec, known, backend) for name in PRECISIONS}
        usual = default_precisions(device)
        native = [precision for precision in usual if not (known.available and unsupported[precision])]
        for precision, size in product(selection.precision or native, selection.batch_sizes(spec)):
            yield Cell(
                spec=spec,
                backend=backend,
                options=options,
                precision=precision,
                device=device,
                batch_size=size,
                threads=threads,
                in_flight=_in_flight(threads, device),
                unsupported=unsupported[precision],
                export_options=_export_options(selection, calibration, find_backend(backend), precision, options),
                stage=selection.stage,
            )


def _unsupported(precision: str, spec: Network, known: Probe, backend: str) -> str:
    """Return why a precision is not run; empty if it is."""
    if not known.available:
        return f"{backend} cannot be used: {known.reason}; {known.remedy}"
    if isinstance(spec, NetworkFile) and precision in QUANTIZED_PRECISIONS:
        return "an ONNX file is opened as it is; networks of vggbench's own are quantised"
    return known.precisions.get(precision, f"{backend} does not know {precision}")


def _export_options(
    selection: Selection, calibration: Calibration, backend: Backend, precision: str, options: Mapping[str, str]
) -> dict[str, str]:
    """Return what else decides the file that a backend opens for a precision."""
    opened = backend.file_form(precision, options).precision if backend.artefact_kind == "onnx" else "fp32"
    if opened in QUANTIZED_PRECISIONS:
        return calibration.options
    if opened in TYPED_PRECISIONS and selection.keep_fp32:
        return {KEEP_FP32: ",".join(sorted(set(selection.keep_fp32)))}
    return {}


def _closed(backend: str, spec: Network) -> str:
    """Return why a backend cannot run the network at all; empty if it can."""
    if not isinstance(spec, NetworkFile) or find_backend(parse_backend(backend)[0]).artefact_kind == "onnx":
        return ""
    return f"{backend} opens no ONNX file; measure it with onnxruntime or openvino"


def _in_flight(threads: int, device: str) -> int:
    """Return the most requests in flight; on a CPU they share the threads evenly: no backend then has more in use."""
    if device != "cpu":
        return MOST_IN_FLIGHT
    return max(count for count in range(1, MOST_IN_FLIGHT + 1) if threads % count == 0)


def _backends(
    names: Sequence[str], device: str, probe: Callable[[str], Probe], absence: str
) -> Iterable[tuple[str, dict[str, str], Probe]]:
    parsed = [parse_backend(text) for text in names]
    named = [(name, check_options(find_backend(name), options, device)) for name, options in parsed]
    for name, options in named:
        known = probe(name)
        if known.available or absence == "unsupported":
            yield name, options, known
        elif absence == "refuse":
            raise RequestError(f"backend {name} cannot be used on {device}: {known.reason}; {known.remedy}")


def parse_backend(text: str) -> tuple[str, dict[str, str]]:
    """Split `torch:memory_format=channels_last` into the backend's name and its options."""
    name, *settings = text.split(":")
    options: dict[str, str] = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator or not key or not value:
            raise RequestError(f"backend {text!r}: write options as {name}:name=value")
        if key in options:
            raise RequestError(f"backend {text!r}: option {key} is given twice; name the backend twice to measure both")
        options[key] = value
    return name, options
