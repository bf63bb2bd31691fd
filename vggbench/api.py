"""The functions behind `import vggbench`. Standard library at module level; the rest is imported when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from vggbench.artefacts.artefact import Artefact
    from vggbench.models.spec import ModelSpec
    from vggbench.models.vgg import VGG
    from vggbench.plan import Cell

Texts = str | Sequence[str]


def build(variant: str | None = None, **shape: Any) -> VGG:
    """Return the network as a `torch.nn.Module` in eval mode.

    `shape` takes the fields of a model spec: `config`, `batch_norm`, `local_response_norm`, `num_classes`,
    `input_size`, `head`, `classifier_width`, `outputs`, `weights`, `seed`. Inputs are `(N, 3, H, W)`, outputs
    `(N, num_classes)`. Raises `RequestError` for an unknown variant or an impossible shape.
    """
    from vggbench.models.weights import build_module

    return build_module(_spec(variant, shape))


def export(
    variant: str | None = None,
    *,
    exports: str | Path = "exports",
    opset: int | None = None,
    fold_batch_norm: bool = True,
    external_data: bool = True,
    precision: str = "fp32",
    keep_fp32: str | Sequence[str] = (),
    calibration: str | None = None,
    calibration_method: str | None = None,
    layout: str | None = None,
    format: str = "onnx",  # noqa: A002 - what the command line calls it
    batch_size: str | int | None = None,
    workspace_mib: int | None = None,
    optimization_level: int | None = None,
    compute_capability: Texts = (),
    **shape: Any,
) -> Artefact:
    """Write the network as ONNX, unless that file exists already, and return the artefact; `path` is the file.

    With `format` `tensorrt-rtx` or `tensorrt` it is the engine that is built from that file; the parameters after it
    are for engines alone, with values as of `vggbench export`.

    Batch norms are folded into the convolutions before them or stay nodes; weights lie beside the graph or inside its
    file. `precision` is that of the file's types (`fp32`, `fp16`, `bf16`, `int8`, `fp8`), but for the layers of
    `keep_fp32`; inputs and outputs are fp32. The last two need `calibration`, a folder of images or `synthetic`;
    `calibration_method` and `layout` as of `vggbench export`. `shape` as in `build`.

    Raises `ExportError` if the exporter fails, writes something else than was asked, or weights are too large for the
    type, `CalibrationError` for images that say nothing, `DiskSpaceError` before anything is written if there is no
    room for it, and `ArtefactError` if a file that exists is not what its manifest says.
    """
    from vggbench.artefacts.calibration import quantization
    from vggbench.artefacts.engine_form import asked_engine, engine_layout
    from vggbench.artefacts.exported import exported
    from vggbench.artefacts.onnx_form import OnnxForm, default_opset
    from vggbench.artefacts.tensorrt import engine_artefact

    capabilities = [compute_capability] if isinstance(compute_capability, str) else [*compute_capability]
    batches = None if batch_size is None else str(batch_size)
    engine = asked_engine(format, batches, workspace_mib, optimization_level, capabilities)
    layout = engine_layout(format, layout, precision)
    form = OnnxForm(
        opset=default_opset(precision) if opset is None else opset,
        fold_batch_norm=fold_batch_norm,
        external_data=external_data,
        precision=precision,
        keep_fp32=tuple(sorted({keep_fp32} if isinstance(keep_fp32, str) else {*keep_fp32})),
        **quantization(precision, layout, calibration, calibration_method),
    )
    spec = _spec(variant, shape)
    if engine is None:
        return exported(spec, Path(exports), form, hash_existing=True)
    return engine_artefact(spec, Path(exports), form, engine, hash_existing=True)


def verify(
    variant: Texts | None = None,
    *,
    backend: Texts | None = None,
    precision: Texts | None = None,
    batch_size: int | Sequence[int] | None = None,
    device: str | None = None,
    threads: int | None = None,
    data: str | Path | None = None,
    exports: str | Path = "exports",
    **shape: Any,
) -> pd.DataFrame:
    """Compare every cell's outputs with PyTorch's in float64 and return a row a cell; a failure is a row, not an error.

    `shape` as in `build`, and `onnx`, files of networks of your own, which are held against themselves; lists make the
    product of their items. Without `batch_size` it is 1; without `data`, a folder of images, inputs are synthetic. The
    columns are those of a run's CSV.
    """
    from vggbench.plan import Pace
    from vggbench.report.frame import frame
    from vggbench.runner import verify_plan

    cells, versions = _cells(variant, backend, precision, batch_size, device, threads, shape)
    cells = _on_images(cells, data, exports)
    return frame(verify_plan(Pace(rounds=1).plan(cells), Path(exports), backend_versions=versions))


def run(
    variant: Texts | None = None,
    *,
    backend: Texts | None = None,
    precision: Texts | None = None,
    batch_size: int | Sequence[int] | None = None,
    device: str | None = None,
    threads: int | None = None,
    rounds: int | None = None,
    replicas: int = 1,
    time_budget_s: float | None = None,
    roofline: bool = True,
    data: str | Path | None = None,
    output: str | Path | None = None,
    exports: str | Path = "exports",
    **shape: Any,
) -> pd.DataFrame:
    """Export, verify and measure every cell, write the run folder, and return a row a cell.

    As `vggbench run`, with arguments as `verify` has them; without `output` the folder is `reports/<time>`. `roofline`
    measures the machine's own ceilings before and after. A cell that failed is a row with its reasons, not an error.
    Raises `RunFolderError` if the folder holds a run already.
    """
    from vggbench.measure.saturation import saturate
    from vggbench.plan import DEFAULT_ROUNDS, Pace
    from vggbench.report.frame import frame
    from vggbench.runner import Places, default_folder, plan_ceilings, start_run

    rounds = DEFAULT_ROUNDS if rounds is None else rounds
    pace = Pace(rounds=rounds, replicas=replicas, time_budget_s=time_budget_s)
    cells, versions = _cells(variant, backend, precision, batch_size, device, threads, shape)
    cells = _on_images(cells, data, exports)
    places = Places(folder=Path(output) if output else default_folder(), exports=Path(exports))
    gauge = plan_ceilings if roofline else None
    return frame(start_run(pace.plan(cells), places, backend_versions=versions, gauge=gauge, search=saturate))


def accuracy(
    variant: Texts | None = None,
    *,
    data: str | Path,
    backend: Texts | None = None,
    precision: Texts | None = None,
    batch_size: int | Sequence[int] = 32,
    device: str | None = None,
    threads: int | None = None,
    limit: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: int | None = None,
    output: str | Path | None = None,
    exports: str | Path = "exports",
    **shape: Any,
) -> pd.DataFrame:
    """Let every cell predict the test images of a folder, or so many of them, and return a row a cell.

    As `vggbench accuracy`, with arguments as `run` has them; the columns are those of `accuracy.csv`. `mean`, `std` (a
    number a colour) and `resize` (pixels) replace what the weights say of their images. Raises `DataError` for images
    that cannot be read, `RequestError` for a network that tells other classes apart.
    """
    from vggbench.classification import Steps, start_accuracy
    from vggbench.data.dataset import open_dataset
    from vggbench.plan import Pace
    from vggbench.report.frame import accuracy_frame
    from vggbench.runner import Places, default_folder

    images = open_dataset(Path(data), "test")
    cells, versions = _cells(variant, backend, precision, batch_size, device, threads, shape)
    places = Places(folder=Path(output) if output else default_folder(), exports=Path(exports))
    steps = Steps(mean=tuple(mean) if mean else None, std=tuple(std) if std else None, resize=resize)
    plan = Pace(rounds=1).plan(cells)
    rows = start_accuracy(plan, images, places, backend_versions=versions, limit=limit, steps=steps)
    return accuracy_frame(rows)


def predict(
    images: str | Path | Sequence[str | Path],
    variant: str | None = None,
    *,
    backend: str = "torch",
    precision: str = "fp32",
    device: str | None = None,
    threads: int | None = None,
    exports: str | Path = "exports",
    **shape: Any,
) -> list[list[tuple[str, float]]]:
    """Return for each image file its likeliest classes with their probabilities, the likeliest first.

    `shape` as in `build`; images are prepared as the weights say. Raises `DataError` for a file that is no image,
    `CheckFailed` for a backend that does not compute what it should.
    """
    from vggbench.classification import Steps, class_names, only_cell, predict_images
    from vggbench.data.image_file import read_image

    paths = [images] if isinstance(images, str | Path) else images
    found = [read_image(Path(path)) for path in paths]
    cells, versions = _cells(variant, backend, precision, 1, device, threads, shape)
    cell = only_cell(cells)
    names = class_names(cell.spec)
    predictions = predict_images(cell, found, Path(exports), Steps(), backend_versions=versions)
    return [[(names[number], probability) for number, probability in one] for one in predictions]


def _spec(variant: str | None, shape: dict[str, Any]) -> ModelSpec:
    from vggbench.models.spec import make_spec

    return make_spec(variant, **shape)


def _cells(
    variant: Texts | None,
    backend: Texts | None,
    precision: Texts | None,
    batch_size: int | Sequence[int] | None,
    device: str | None,
    threads: int | None,
    shape: dict[str, Any],
) -> tuple[tuple[Cell, ...], dict[str, str]]:
    from vggbench.plan import find_cells, selection

    chosen = {"variant": variant, "backend": backend, "precision": precision, "batch_size": batch_size, **shape}
    return find_cells([selection(chosen)], device=device, threads=threads)


def _on_images(cells: tuple[Cell, ...], data: str | Path | None, exports: str | Path) -> tuple[Cell, ...]:
    from vggbench.data.dataset import open_dataset
    from vggbench.preparation import on_images_of

    return cells if data is None else on_images_of(cells, open_dataset(Path(data), "test"), Path(exports))
