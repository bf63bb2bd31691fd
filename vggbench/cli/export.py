"""`vggbench export`: just the artefacts. Imports nothing heavy."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import typer

from vggbench.cli.options import (
    BatchNormOption,
    ClassifierWidthOption,
    ConfigOption,
    HeadOption,
    InputSizeOption,
    JsonOption,
    LocalResponseNormOption,
    NumClassesOption,
    OutputsOption,
    SeedOption,
    VariantsOption,
    WeightsOption,
    split_commas,
)
from vggbench.cli.planning import ExportsOption
from vggbench.cli.progress import say
from vggbench.errors import VggbenchError, worst_exit_code
from vggbench.models.configs import VARIANTS, find_variant
from vggbench.models.spec import CLASSIFIER_WIDTH, ModelSpec, make_spec

if TYPE_CHECKING:
    from rich.progress import Progress

    from vggbench.artefacts.artefact import Artefact

ALL = "all"
_FILE = "File"

FormatOption = Annotated[Literal["onnx"], typer.Option("--format", help="What to write.", rich_help_panel=_FILE)]
OpsetOption = Annotated[
    int | None,
    typer.Option(
        "--opset",
        metavar="N",
        help="Version of ONNX's operators, 18 to 25; 20 without it.",
        show_default=False,
        rich_help_panel=_FILE,
    ),
]


def export(
    variant: VariantsOption = None,
    *,
    config: ConfigOption = None,
    batch_norm: BatchNormOption = None,
    local_response_norm: LocalResponseNormOption = None,
    num_classes: NumClassesOption = None,
    input_size: InputSizeOption = None,
    head: HeadOption = None,
    classifier_width: ClassifierWidthOption = CLASSIFIER_WIDTH,
    outputs: OutputsOption = "logits",
    weights: WeightsOption = "random",
    seed: SeedOption = 0,
    file_format: FormatOption = "onnx",  # noqa: ARG001 - the one there is; scripts can already name it
    opset: OpsetOption = None,
    exports: ExportsOption = Path("exports"),
    json_output: JsonOption = False,
) -> None:
    """Write networks as ONNX files and print their paths; `--variant all` takes every variant.

    A file that exists already is found again. A variant that fails does not stop the others.
    """
    shape = {
        "config": config,
        "batch_norm": batch_norm,
        "local_response_norm": local_response_norm,
        "num_classes": num_classes,
        "input_size": input_size,
        "head": head,
        "classifier_width": classifier_width,
        "outputs": outputs,
        "weights": weights,
        "seed": seed,
    }
    jobs = _Jobs(shape, exports, opset)
    names = _names(split_commas(variant))
    with _progress(len(names)) as display:
        jobs.run(names, display)
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

    def __init__(self, shape: dict[str, Any], exports: Path, opset: int | None) -> None:
        self._shape = shape
        self._exports = exports
        self._opset = opset
        self.records: list[dict[str, Any]] = []
        self.codes: list[int] = []

    def run(self, names: Sequence[str | None], display: _Display) -> None:
        """Export all; the error of a single one is raised, those of several are kept."""
        for name in names:
            try:
                spec = make_spec(name, **self._shape)
                artefact = self._export(spec, display)
            except VggbenchError as error:
                if len(names) == 1:
                    raise
                display.failed(f"{name}: {error}")
                self.records.append({"variant": name, "status": "failed", "reasons": str(error)})
                self.codes.append(error.exit_code)
            else:
                self.records.append(_record(spec, artefact))
            display.finished()

    def _export(self, spec: ModelSpec, display: _Display) -> Artefact:
        from vggbench.artefacts.onnx import DEFAULT_OPSET, onnx_artefact

        opset = DEFAULT_OPSET if self._opset is None else self._opset
        display.doing(spec.variant)
        return onnx_artefact(spec, self._exports, opset=opset, hash_existing=True)


def _record(spec: ModelSpec, artefact: Artefact) -> dict[str, Any]:
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
    }


def _print(records: list[dict[str, Any]], json_output: bool) -> None:
    if json_output:
        print(json.dumps(records, indent=1))
        return
    for record in records:
        if "path" in record:
            print(record["path"])


class _Display(Protocol):
    def doing(self, text: str) -> None: ...

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

    def failed(self, text: str) -> None:
        self.doing(f"failed: {text}")

    def finished(self) -> None:
        self._done += 1


class _LiveBar:
    def __init__(self, live: Progress, total: int) -> None:
        self._live = live
        self._task = live.add_task("", total=total)

    def doing(self, text: str) -> None:
        self._live.update(self._task, description=text)

    def failed(self, text: str) -> None:
        self._live.console.print(f"failed: {text}", markup=False, highlight=False, soft_wrap=True)

    def finished(self) -> None:
        self._live.advance(self._task)
