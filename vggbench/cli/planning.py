"""What commands share: the options that choose a model or cells, and how they become a plan. Imports nothing heavy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vggbench.cli.options import (
    BatchNormOption,
    CalibrationMethodOption,
    CalibrationOption,
    ClassifierWidthOption,
    ConfigOption,
    HeadOption,
    InputSizeOption,
    KeepFp32Option,
    LocalResponseNormOption,
    NumClassesOption,
    OnnxOption,
    OutputsOption,
    SeedOption,
    VariantsOption,
    WeightsOption,
    folder,
    split_commas,
)
from vggbench.errors import RequestError
from vggbench.models.spec import CLASSIFIER_WIDTH

if TYPE_CHECKING:
    from vggbench.plan import Cell, PlanFile
    from vggbench.plan.expansion import Probe

_CELLS = "Cells"
_PLACES = "Places"
_LONGEST_QUOTE = 40  # characters of a wrong value that say enough of it
_PARAMETERS = {"weights_seed": "seed"}  # of commands, where a selection's field has another name
_NAMED_OTHERWISE = {"local_response_norm": "--lrn", "weights_seed": "--seed"}

BackendsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--backend",
        metavar="NAME[:OPTION=VALUE]",
        help="torch, torch-compile, onnxruntime, onnxruntime-tensorrt, openvino; torch:memory_format=channels_last "
        "sets an option. Repeatable, and a,b,c. Without it, all that work on the device; on a CPU not torch-compile.",
        show_default=False,
        rich_help_panel=_CELLS,
    ),
]
PrecisionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="fp32, tf32, fp16, bf16, int8, fp8. Repeatable, and a,b,c. Without it, those of fp32, bf16 and int8, on a "
        "GPU of fp32, tf32, fp16 and int8, that backend and device do natively.",
        show_default=False,
        rich_help_panel=_CELLS,
    ),
]
BatchSizesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        help="Images in a request; 1 without it. Repeatable, and a,b,c.",
        show_default=False,
        rich_help_panel=_CELLS,
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="cpu, cuda, or cuda:1 and so on; without it, a GPU where there is one.",
        show_default=False,
        rich_help_panel=_CELLS,
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        help="Threads of every backend; the physical cores this process may use without it.",
        show_default=False,
        rich_help_panel=_CELLS,
    ),
]
PlanOption = Annotated[
    Path | None,
    typer.Option(
        "--plan", metavar="FILE", help="A TOML file that says all this.", show_default=False, rich_help_panel=_CELLS
    ),
]
ExportsOption = Annotated[
    Path,
    typer.Option("--exports", metavar="DIR", help="Where artefacts are kept.", parser=folder, rich_help_panel=_PLACES),
]


@dataclass(frozen=True, slots=True)
class CellChoice:
    """What the command line says of the cells.

    Attributes:
        chosen: fields of a `Selection`, those that were given.
        plan: the TOML file that says it instead.
    """

    chosen: Mapping[str, Any]
    device: str | None
    threads: int | None
    plan: Path | None

    @property
    def is_given(self) -> bool:
        """Whether anything was said; a run that is resumed has its own cells."""
        return bool(self.chosen) or any(value is not None for value in (self.device, self.threads, self.plan))

    def read_file(self) -> PlanFile | None:
        """Return the plan file, if one was named; `RequestError` if cells are chosen beside it."""
        from vggbench.plan import read_plan_file

        if self.plan is None:
            return None
        if self.chosen:
            options = ", ".join(_option_name(name) for name in self.chosen)
            raise RequestError(f"{options} cannot be given beside --plan; write it into the plan file")
        return read_plan_file(self.plan)

    def read_cells(
        self, file: PlanFile | None, probe: Callable[[str, str], Probe] | None = None, *, broad: bool = False
    ) -> tuple[tuple[Cell, ...], dict[str, str]]:
        """Return the cells, and the versions of the backends in them; `probe` and `broad` as `find_cells` has them."""
        from vggbench.plan import find_cells, selection

        device = self.device if self.device is not None else (file.device if file else None)
        threads = self.threads if self.threads is not None else (file.threads if file else None)
        selections = file.cells if file else [selection(self.chosen)]
        return find_cells(selections, device=device, threads=threads, probe=probe, broad=broad)


def choose_model(
    variant: VariantsOption = None,
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
) -> dict[str, Any]:
    """Collect the options' values by the names of `make_spec`, the variants in a list."""
    return {
        "variant": split_commas(variant),
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


def choose_cells(
    onnx: OnnxOption = None,
    backend: BackendsOption = None,
    precision: PrecisionsOption = None,
    keep_fp32: KeepFp32Option = None,
    calibration: CalibrationOption = None,
    calibration_method: CalibrationMethodOption = None,
    batch_size: BatchSizesOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    plan: PlanOption = None,
    **model: Any,
) -> CellChoice:
    """Collect the options' values, `model` being those of `choose_model`; `takes_cells` keeps those that were given."""
    chosen = choose_model(**model)
    chosen |= {
        "weights_seed": chosen.pop("seed"),
        "onnx": onnx,
        "backend": split_commas(backend),
        "precision": split_commas(precision),
        "keep_fp32": split_commas(keep_fp32),
        "calibration": calibration,
        "calibration_method": calibration_method,
        "batch_size": _whole_numbers(batch_size) if batch_size else None,
    }
    return CellChoice(chosen, device, threads, plan)


def takes_cells(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a model and of cells; its first parameter gets the `CellChoice`.

    An option of the command's own takes the place of one of the same name, which a plan file then can still say.
    """
    own = {option.name for option in _options(command)}
    shared = [option for option in (*_options(choose_model), *_options(choose_cells)) if option.name not in own]
    names = {option.name for option in shared}

    def choose(context: typer.Context, values: dict[str, Any]) -> CellChoice:
        choice = choose_cells(**values)
        chosen = {name: value for name, value in choice.chosen.items() if _PARAMETERS.get(name, name) in names}
        return replace(choice, chosen=_given(chosen, context))

    return _with_options(command, shared, choose)


def takes_model(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a model; its first parameter gets what `choose_model` returns."""
    return takes_options(choose_model)(command)


def takes_options(choose: Callable[..., object]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `choose` before its own; its first parameter gets what that returns."""
    return lambda command: _with_options(command, _options(choose), lambda _context, values: choose(**values))


def _with_options(
    command: Callable[..., None],
    shared: list[inspect.Parameter],
    choose: Callable[[typer.Context, dict[str, Any]], object],
) -> Callable[..., None]:
    """Put shared options in front of a command's own, and hand it what `choose` makes of their values."""
    _first, *own = _options(command)

    def call(*, context: typer.Context, **values: Any) -> None:
        choice = choose(context, {option.name: values.pop(option.name) for option in shared})
        command(choice, **values)

    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    options = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*shared, *own)]
    parameters = [context, *options]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.__name__, call.__doc__, call.__module__ = command.__name__, command.__doc__, command.__module__
    return call


def _options(function: Callable[..., object]) -> list[inspect.Parameter]:
    """Return the parameters that have a name of their own."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    return [parameter for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_KEYWORD]


def _given(values: Mapping[str, Any], context: typer.Context) -> dict[str, Any]:
    """Return the values that the command line has; one that equals its default is as given as any other."""
    sources = {name: context.get_parameter_source(_PARAMETERS.get(name, name)) for name in values}
    return {name: values[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def _option_name(field: str) -> str:
    """Return what a selection's field is called on the command line."""
    return _NAMED_OTHERWISE.get(field) or "--" + field.replace("_", "-")


def _whole_numbers(values: list[str]) -> list[int]:
    return [_whole_number(text) for text in split_commas(values)]


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # no number, or one of thousands of digits
        raise RequestError(f"batch size is {text[:_LONGEST_QUOTE]!r}; it must be a whole number") from None
