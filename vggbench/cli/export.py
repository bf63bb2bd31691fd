"""`vggbench export`: just the artefacts. Imports nothing heavy."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import typer

from vggbench.artefacts.engine_form import asked_engine, engine_layout
from vggbench.artefacts.onnx_form import BF16_OPSET, DEFAULT_OPSET, OPSETS, OnnxForm, default_opset
from vggbench.cli.engine import (
    CapabilitiesOption,
    EngineBatchOption,
    LevelOption,
    WorkspaceOption,
)
from vggbench.cli.options import (
    CalibrationMethodOption,
    CalibrationOption,
    JsonOption,
    KeepFp32Option,
    split_commas,
)
from vggbench.cli.planning import ExportsOption, takes_model
from vggbench.cli.progress import say
from vggbench.cli.room import announce_need
from vggbench.errors import VggbenchError, worst_exit_code
from vggbench.models.configs import VARIANTS, find_variant
from vggbench.models.spec import ModelSpec, make_spec

if TYPE_CHECKING:
    from rich.progress import Progress

    from vggbench.artefacts.artefact import Artefact
    from vggbench.artefacts.engine_form import EngineForm

ALL = "all"
_FILE = "File"

FormatOption = Annotated[
    Literal["onnx", "tensorrt-rtx", "tensorrt"],
    typer.Option(
        "--format",
        help="What to write: an ONNX file, or the engine that TensorRT for RTX (on any machine) or TensorRT 10 or 11 "
        "(on its GPU) builds from it, its precision proven by the builder's list of layers.",
        rich_help_panel=_FILE,
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="Of the file's types: fp32, fp16, bf16, int8 or fp8; its input and outputs are fp32. Weights that a type "
        "is too small for are counted, and refused where they would be infinite.",
        rich_help_panel=_FILE,
    ),
]
LayoutOption = Annotated[
    Literal["ort", "trt"] | None,
    typer.Option(
        "--layout",
        help="Where the quantisers of an int8 file stand: as ONNX Runtime and OpenVINO want them on a CPU (ort, the "
        "default), or as TensorRT does (trt), which fp8 files have.",
        show_default=False,
        rich_help_panel=_FILE,
    ),
]
OpsetOption = Annotated[
    int | None,
    typer.Option(
        "--opset",
        metavar="N",
        help=f"Version of ONNX's operators, {OPSETS[0]} to {OPSETS[-1]}; {DEFAULT_OPSET} without it, {BF16_OPSET} for "
        "bf16.",
        show_default=False,
        rich_help_panel=_FILE,
    ),
]
FoldOption = Annotated[
    bool,
    typer.Option(
        "--fold-batch-norm/--keep-batch-norm",
        help="Batch norms folded into the convolutions before them, or nodes of their own.",
        rich_help_panel=_FILE,
    ),
]
ExternalDataOption = Annotated[
    bool,
    typer.Option(
        "--external-data/--single-file",
        help="Weights in a file beside the graph, or both in one file, which ends at 2 GiB.",
        rich_help_panel=_FILE,
    ),
]


@takes_model
def export(
    shape: dict[str, Any],
    file_format: FormatOption = "onnx",
    precision: PrecisionOption = "fp32",
    keep_fp32: KeepFp32Option = None,
    calibration: CalibrationOption = None,
    calibration_method: CalibrationMethodOption = None,
    layout: LayoutOption = None,
    opset: OpsetOption = None,
    fold_batch_norm: FoldOption = True,
    external_data: ExternalDataOption = True,
    batch_size: EngineBatchOption = None,
    workspace_mib: WorkspaceOption = None,
    optimization_level: LevelOption = None,
    compute_capability: CapabilitiesOption = None,
    exports: ExportsOption = Path("exports"),
    json_output: JsonOption = False,
) -> None:
    """Write networks as ONNX files or engines and print their paths; `--variant all` takes every variant.

    A file that exists already is found again. A variant that fails does not stop the others.
    """
    from vggbench.artefacts.calibration import quantization

    names = _names(shape.pop("variant"))
    engine = asked_engine(file_format, batch_size, workspace_mib, optimization_level, split_commas(compute_capability))
    form = OnnxForm(
        opset=default_opset(precision) if opset is None else opset,
        fold_batch_norm=fold_batch_norm,
        external_data=external_data,
        precision=precision,
        keep_fp32=tuple(sorted({*split_commas(keep_fp32)})),
        **quantization(precision, engine_layout(file_format, layout, precision), calibration, calibration_method),
    )
    jobs = _Jobs(shape, exports, form, engine)
    jobs.read(names)
    announce_need(jobs.needed_bytes, exports)
    with _progress(len(names)) as display:
        jobs.run(display)
    _print(jobs.records, json_output)
    if jobs.codes:
        raise typer.Exit(worst_exit_code(jobs.codes))


def _names(items: list[str]) -> list[str | None]:
    """Return canonical names without repetition, `[None]` where the layers are given instead of a name."""
    if ALL in (item.lower() for item in items):
        return list(VARIANTS)
    return list(dict.fromkeys(find_variant(item).name for item in items)) or [None]


class _Jobs:
    """Exports one network after the other and keeps what became of each."""

    def __init__(self, shape: dict[str, Any], exports: Path, form: OnnxForm, engine: EngineForm | None = None) -> None:
        self._shape = shape
        self._exports = exports
        self._form = form
        self._engine = engine
        self._specs: list[tuple[str | None, ModelSpec | VggbenchError]] = []
        self.needed_bytes = 0
        self.records: list[dict[str, Any]] = []
        self.codes: list[int] = []

    def read(self, names: Sequence[str | None]) -> None:
        """Find out what the networks are and need; the error of a single one is raised, those of several are kept."""
        for name in names:
            try:
                spec = make_spec(name, **self._shape)
                self.needed_bytes += self._missing_bytes(spec)
                self._specs.append((name, spec))
            except VggbenchError as error:
                if len(names) == 1:
                    raise
                self._specs.append((name, error))

    def run(self, display: _Display) -> None:
        """Export all; errors as in `read`."""
        for name, spec in self._specs:
            try:
                if isinstance(spec, VggbenchError):
                    raise spec
                display.doing(spec.variant)
                record = _record(spec, self._export(spec, display))
                if losses := _losses(record):
                    display.note(f"{spec.variant}: {losses}")
                self.records.append(record)
            except VggbenchError as error:
                if len(self._specs) == 1:
                    raise
                display.failed(f"{name}: {error}")
                self.records.append({"variant": name, "status": "failed", "reasons": str(error)})
                self.codes.append(error.exit_code)
            display.finished()

    def _missing_bytes(self, spec: ModelSpec) -> int:
        from vggbench.artefacts import exported, tensorrt

        if self._engine is None:
            return exported.missing_bytes(spec, self._exports, [self._form])
        return tensorrt.missing_bytes(spec, self._exports, self._form, self._engine)

    def _export(self, spec: ModelSpec, display: _Display) -> Artefact:
        from vggbench.artefacts.exported import exported
        from vggbench.artefacts.tensorrt import engine_artefact

        if self._engine is None:
            return exported(spec, self._exports, self._form, hash_existing=True)

        def building(phase: str, done: int, total: int) -> None:
            display.step(f"{spec.variant}: {phase} {done}/{total}")

        return engine_artefact(spec, self._exports, self._form, self._engine, building, hash_existing=True)


def _record(spec: ModelSpec, artefact: Artefact) -> dict[str, Any]:
    from vggbench.artefacts.manifest import read_manifest

    has_facts = artefact.kind == "plan" or artefact.precision != "fp32"
    facts = read_manifest(Path(artefact.folder)).facts if has_facts else {}
    return {
        "variant": spec.variant,
        "status": "ok",
        "path": str(artefact.path),
        "precision": artefact.precision,
        "input_size": spec.input_size,
        "artefact_sha256": artefact.sha256,
        "artefact_mib": artefact.bytes / 2**20,
        "export_s": artefact.seconds,
        "spec_hash": spec.digest(),
        **facts,
    }


def _losses(record: dict[str, Any]) -> str:
    """Say how many weights the file's type was too small for; empty if it was for none."""
    counts = record.get("rounding", {})
    lost = [
        f"{counts[key]} {words}"
        for key, words in (("became_zero", "became 0"), ("became_subnormal", "lost digits as subnormal numbers"))
        if counts.get(key)
    ]
    if not lost:
        return ""
    layers = counts["layers"]
    most = max(layers, key=lambda name: sum(layers[name].values()))
    return f"of {counts['weights']} weights {' and '.join(lost)} in {record['precision']}; most in {most}"


def _print(records: list[dict[str, Any]], json_output: bool) -> None:
    if json_output:
        print(json.dumps(records, indent=1))
        return
    for record in records:
        if "path" in record:
            print(record["path"])


class _Display(Protocol):
    def doing(self, text: str) -> None: ...

    def step(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...

    def failed(self, text: str) -> None: ...

    def finished(self) -> None: ...


@contextmanager
def _progress(total: int) -> Iterator[_Display]:
    """Yield the display that fits stderr: a bar on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield _PlainLines(total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as live:
        yield _LiveBar(live, total)


class _PlainLines:
    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def doing(self, text: str) -> None:
        say(f"[{self._done + 1}/{self._total}] {text}")

    def step(self, text: str) -> None:
        """Say nothing: a line that is printed cannot be taken back."""

    def note(self, text: str) -> None:
        self.doing(text)

    def failed(self, text: str) -> None:
        self.note(f"failed: {text}")

    def finished(self) -> None:
        self._done += 1


class _LiveBar:
    def __init__(self, live: Progress, total: int) -> None:
        self._live = live
        self._task = live.add_task("", total=total)

    def doing(self, text: str) -> None:
        self._live.update(self._task, description=text)

    def step(self, text: str) -> None:
        self.doing(text)

    def note(self, text: str) -> None:
        self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def failed(self, text: str) -> None:
        self.note(f"failed: {text}")

    def finished(self) -> None:
        self._live.advance(self._task)
