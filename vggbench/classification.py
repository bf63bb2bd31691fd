"""Images -> what cells say of them: the accuracy of a plan on a data set, and the classes of single photographs.

Every cell runs in a worker of its own, in the very session that was verified there, as in a run. Images are read and
prepared here. Imports no backend's library, no pandas and no Pillow at start.
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.space import check_room
from vggbench.artefacts.store import DEFAULT_EXPORTS
from vggbench.data.dataset import DataSet, Preprocessing, spread
from vggbench.data.transform import normalised, square
from vggbench.errors import CellError, CheckFailed, Interrupted, RequestError, RunFolderError, VggbenchWarning
from vggbench.measure.predicting import Prediction
from vggbench.measure.records import RoundRecord
from vggbench.measure.rounds import predict_round
from vggbench.models.description import describe
from vggbench.models.network_file import Network
from vggbench.parity.inputs import IMAGES
from vggbench.plan import Cell, Plan
from vggbench.preparation import Materials, missing_bytes, on_images_of, prepare_all
from vggbench.results.accuracy import AccuracyRow, accuracy_rows
from vggbench.results.journal import JOURNAL_NAME, Journal, read_rounds
from vggbench.results.predictions import (
    INFO_NAME,
    PREDICTIONS_NAME,
    DataRecord,
    Labels,
    PredictedBatch,
    PredictionJournal,
    read_data_record,
    read_predictions,
    write_data_record,
)
from vggbench.results.rows import derive_rows
from vggbench.results.run_folder import held, make_folder, write_whole
from vggbench.results.run_info import FILE_NAME, RunInfo, read_run_info, write_run_info
from vggbench.runner import (
    Observer,
    Places,
    Silent,
    check_same_artefacts,
    check_same_environment,
    new_info,
    round_request,
)

if TYPE_CHECKING:
    from PIL.Image import Image

TABLE_NAME = "accuracy.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What is said of the preprocessing instead of what the weights say; None where nothing is.

    Attributes:
        mean, std: of each colour.
        resize: of the shorter side; the network's input is then cut out of the middle.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | None = None

    def of(self, network: Network) -> Preprocessing:
        """Return the preprocessing of a network's images."""
        found = Preprocessing.of_spec(network)
        if self.mean is not None:
            found = replace(found, mean=self.mean)
        if self.std is not None:
            found = replace(found, std=self.std)
        return found if self.resize is None else replace(found, resize=self.resize, crop=network.input_size)


def start_accuracy(
    plan: Plan,
    data: DataSet,
    places: Places,
    *,
    backend_versions: Mapping[str, str],
    limit: int | None = None,
    steps: Steps | None = None,
    observer: Observer | None = None,
) -> list[AccuracyRow]:
    """Predict the images of a set with every cell of the plan, in a new folder; returns the rows.

    With a `limit`, only so many of them, evenly spread. Raises `RequestError` where networks and images do not fit,
    `DiskSpaceError` where the artefacts do not, both before anything is written.
    """
    chosen = steps or Steps()
    record = DataRecord(
        name=data.name,
        sha256=data.sha256,
        images=len(data),
        used=len(spread(len(data), len(data) if limit is None else limit)),
        skipped=data.skipped,
        mean=chosen.mean,
        std=chosen.std,
        resize=chosen.resize,
    )
    _check_fit(plan, data, chosen)
    check_room(missing_bytes(plan, places.exports), places.exports)
    plan = _verified_on(plan, data, chosen, places.exports)
    make_folder(places.folder)
    with held(places.folder):
        _refuse_used(places.folder)
        write_data_record(places.folder, record)
        write_run_info(places.folder, new_info(plan, backend_versions), INFO_NAME)
        return _carry_on(places, data, observer or Silent())


def resume_accuracy(places: Places, data: DataSet, *, observer: Observer | None = None) -> list[AccuracyRow]:
    """Go on where the run in a folder stopped; what failed is tried again. `data` has to be what it was."""
    read_run_info(places.folder, INFO_NAME)  # says that there is no run before a lock is made there
    with held(places.folder):
        check_same_environment(read_run_info(places.folder, INFO_NAME).environment)
        record = read_data_record(places.folder)
        if data.sha256 != record.sha256:
            raise RunFolderError(
                f"{places.folder} is about {record.name} with the hash {record.sha256[:12]}..., {data.name} has "
                f"{data.sha256[:12]}...; name the same --data, or start in another folder"
            )
        return _carry_on(places, data, observer or Silent())


def predict_images(
    cell: Cell, found: Sequence[Image], exports: Path, steps: Steps, *, backend_versions: Mapping[str, str]
) -> list[tuple[tuple[int, float], ...]]:
    """Return for each image the likeliest classes and their probabilities, by a session that was verified.

    Raises `CheckFailed` where it does not compute what it should, and `CellError` where it cannot be had.
    """
    plan = Plan(cells=(cell,), rounds=1, round_seconds=1.0, seed=0, timeout_s=600.0)
    check_room(missing_bytes(plan, exports), exports)
    preprocessing = steps.of(cell.spec)
    pixels = [square(image, preprocessing, cell.spec.input_size) for image in found]
    kept, materials = prepare_all(plan, exports, Silent().preparing)
    info = replace(new_info(plan, backend_versions), prepared=kept)
    heard: list[Prediction] = []
    records: list[RoundRecord] = []
    if cell.id in materials:
        batches = (
            normalised(np.stack(pixels[start : start + cell.batch_size]), preprocessing)
            for start in range(0, len(pixels), cell.batch_size)
        )
        records.append(predict_round(round_request(info, cell, 0, materials[cell.id]), batches, heard.append))
    (row,) = derive_rows(info, records)
    if row.status in {"failed", "timeout", "unsupported"}:
        raise CellError(f"{cell.title}: {row.status}: {row.reasons}")
    if row.status != "ok":
        raise CheckFailed(f"{cell.title}: {row.status}: {row.reasons}")
    return [
        tuple(zip(classes, probabilities, strict=True))
        for one in heard
        for classes, probabilities in zip(one.classes, one.probabilities, strict=True)
    ]


def only_cell(cells: Sequence[Cell]) -> Cell:
    """Return the one cell that predicts; `RequestError` where several were chosen, or it is not supported."""
    if len(cells) > 1:
        raise RequestError(
            f"predict takes one network, backend and precision, not {len(cells)}: {cells[0].title}, {cells[1].title}"
        )
    if cells[0].unsupported:
        raise RequestError(f"{cells[0].title}: {cells[0].unsupported}")
    return cells[0]


def class_names(network: Network) -> Sequence[str]:
    """Return the classes' names by label; `class 0` and so on where the weights do not say them."""
    return describe(network).classes or [f"class {number}" for number in range(network.num_classes)]


def _check_fit(plan: Plan, data: DataSet, steps: Steps) -> None:
    """Refuse networks that tell other classes apart than the images have, and images of another size."""
    for network in dict.fromkeys(cell.spec for cell in plan.cells):
        if network.num_classes != len(data.classes):
            raise RequestError(
                f"{network.variant} tells {network.num_classes} classes apart and {data.name} has "
                f"{len(data.classes)}; give --num-classes, or the weights and images of one task"
            )
        _check_names(network, data)
        data.sized([0], steps.of(network), network.input_size)


def _verified_on(plan: Plan, data: DataSet, steps: Steps, exports: Path) -> Plan:
    """Let cells be verified on images of the set: what quantising costs depends on them.

    Not where they are too few, or prepared otherwise than the weights say, which is how their inputs are kept.
    """
    if len(data) < IMAGES or steps != Steps():
        return plan
    return replace(plan, cells=on_images_of(plan.cells, data, exports))


def _check_names(network: Network, data: DataSet) -> None:
    """Names that are the weights' and the images' stand at one place, or every figure would be of wrong labels."""
    named = describe(network).classes
    if named and not set(named) & set(data.classes):
        text = f"the weights name other classes ({named[0]}, ...) than {data.name} ({data.classes[0]}, ...)"
        warnings.warn(f"{text}: they are matched by their order", VggbenchWarning, stacklevel=2)
    if set(named) & set(data.classes) and named != data.classes:
        place = next(label for label, name in enumerate(data.classes) if named[label] != name)
        raise RequestError(
            f"class {place} is {named[place]!r} to the weights and {data.classes[place]!r} in {data.name}; name the "
            "folders of the images as the weights do"
        )


def _refuse_used(folder: Path) -> None:
    for name in (INFO_NAME, FILE_NAME, JOURNAL_NAME, PREDICTIONS_NAME, TABLE_NAME):
        if (folder / name).exists():
            raise RunFolderError(f"{folder} holds a {name} already; continue it with --resume or name another folder")


def _carry_on(places: Places, data: DataSet, observer: Observer) -> list[AccuracyRow]:
    run = _Run(places.folder, data)
    try:
        run.predict(places.exports, observer)
    except KeyboardInterrupt:
        run.derive()
        command = ["vggbench", "accuracy", "--resume", "--output", str(places.folder), "--data", "DIR"]
        if places.exports != DEFAULT_EXPORTS:
            command += ["--exports", str(places.exports)]
        raise Interrupted(f"stopped; continue with: {shlex.join(command)}") from None
    return run.derive()


class _Run:
    """One accuracy run: what is in its folder, and what is left to do."""

    def __init__(self, folder: Path, data: DataSet) -> None:
        self._folder = folder
        self._data = data
        self._record = read_data_record(folder)
        self._steps = Steps(mean=self._record.mean, std=self._record.std, resize=self._record.resize)
        self._indices = spread(len(data), self._record.used)

    @property
    def _info(self) -> RunInfo:
        return read_run_info(self._folder, INFO_NAME)

    @property
    def _predictions(self) -> dict[str, list[Labels]]:
        return read_predictions(self._folder, self._info.plan, self._record.used)

    def predict(self, exports: Path, observer: Observer) -> None:
        """Make what the cells need, and let each predict what is left of its images."""
        info = self._info
        kept, found = prepare_all(info.plan, exports, observer.preparing)
        check_same_artefacts(info.prepared, kept)
        info = replace(info, prepared=kept)
        write_run_info(self._folder, info, INFO_NAME)
        records = {record.cell_id: record for record in read_rounds(self._folder, info.plan)}
        before = self._predictions
        left = [cell for cell in info.plan.cells if cell.id in found and _is_left(records.get(cell.id))]
        batches = (-(-(self._record.used - len(before[cell.id])) // cell.batch_size) for cell in left)
        progress = _Progress(observer, sum(batches))
        journal = Journal(self._folder / JOURNAL_NAME)
        for cell in left:
            attempt = records[cell.id].attempt + 1 if cell.id in records else 1
            made = self._predict_cell(info, cell, found[cell.id], len(before[cell.id]), progress)
            journal.append(replace(made, attempt=attempt))
            observer.measured(cell, made)

    def _predict_cell(
        self, info: RunInfo, cell: Cell, found: Materials, first: int, progress: _Progress
    ) -> RoundRecord:
        journal = PredictionJournal(self._folder / PREDICTIONS_NAME)
        place = first

        def keep(prediction: Prediction) -> None:
            nonlocal place
            journal.append(PredictedBatch(cell_id=cell.id, first=place, classes=prediction.classes))
            place += prediction.images

        progress.show(cell)
        batches = progress.counted(cell, self._batches(cell, first))
        record = predict_round(round_request(info, cell, 0, found), batches, keep)
        journal.flush()  # before the round is said to be over
        return record

    def _batches(self, cell: Cell, first: int) -> Iterator[NDArray[np.float32]]:
        preprocessing = self._steps.of(cell.spec)
        for start in range(first, len(self._indices), cell.batch_size):
            indices = self._indices[start : start + cell.batch_size]
            yield self._data.batch(indices, preprocessing, cell.spec.input_size)

    def derive(self) -> list[AccuracyRow]:
        """Write `accuracy.csv` from what is in the folder; return the rows."""
        from vggbench.report.frame import accuracy_frame, write_csv

        info = self._info
        rows = accuracy_rows(
            derive_rows(info, read_rounds(self._folder, info.plan)),
            self._record,
            self._data.labels[self._indices],
            self._predictions,
            {cell.id: self._steps.of(cell.spec).text for cell in info.plan.cells},
        )
        write_whole(self._folder / TABLE_NAME, lambda file: write_csv(accuracy_frame(rows), file))
        return rows


def _is_left(record: RoundRecord | None) -> bool:
    return record is None or record.failure is not None


class _Progress:
    """Tells an observer of batches as of rounds: so many over, of so many in all cells."""

    def __init__(self, observer: Observer, total: int) -> None:
        self._observer = observer
        self._total = total
        self._done = 0

    def show(self, cell: Cell) -> None:
        """Say which cell is in hand."""
        self._observer.measuring(cell, self._done, self._total)

    def counted(self, cell: Cell, batches: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Hand on batches, and say of each that it begins."""
        for batch in batches:
            self.show(cell)
            self._done += 1
            yield batch
