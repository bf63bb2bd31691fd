"""From predictions to rows: how often each cell is right, how sure that is, and whether it differs from fp32.

No torch, no pandas. `reports/README.md` has the columns as a page; a test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggbench.measure.predicting import MOST_NAMED
from vggbench.measure.validity import is_of_what_was_asked
from vggbench.results.columns import COLUMNS, Row, columns_table
from vggbench.results.predictions import DataRecord, Labels
from vggbench.stats import PairedChange, wilson_interval

SIGNIFICANT = 0.05  # a p-value below it is called a difference
BASELINE_PRECISION, BASELINE_BACKEND = "fp32", "torch"
# What a row of accuracy has of a run's row, before its own columns and after them.
FRONT = (
    *("variant", "configuration", "backend", "options", "precision", "export_options", "device", "batch_size"),
    *("input_size", "num_classes", "weights", "status", "reasons"),
)
BACK = (
    *("precision_ran", "placement", "threads", "inputs", "parity_error", "parity_tolerance", "quantization_error"),
    *("artefact_sha256", "verified_sha256", "artefact_mib", "device_name", "backend_version", "vggbench_version"),
    *("commit", "started_at", "cell_id", "spec_hash"),
)


def _column(description: str) -> Any:
    return field(default=None, metadata={"description": description})


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """The columns of accuracy. Missing is None, never 0."""

    data: str | None = _column("Data set and split.")
    data_sha256: str | None = _column("Hash over its class names and every image's size, label and pixels, in order.")
    preprocessing: str | None = _column("How images became inputs: resize, crop, scale, mean, std.")
    images: int | None = _column("Images that were predicted.")
    unreadable_files: int | None = _column("Files of the data set that hold no image; `data.json` names them.")
    top1_percent: float | None = _column("Images whose likeliest class is theirs.")
    top1_low_percent: float | None = _column("Lower end of its 95 % interval over images (Wilson).")
    top1_high_percent: float | None = _column("Upper end of that interval.")
    top5_percent: float | None = _column(
        "Images whose class is among the five likeliest; empty where there are no more than five."
    )
    top5_low_percent: float | None = _column("Lower end of its 95 % interval over images (Wilson).")
    top5_high_percent: float | None = _column("Upper end of that interval.")
    against: str | None = _column(
        "The row that this one is held against: the same network's fp32 in `torch`, else its first sound fp32 row."
    )
    changed: int | None = _column("Images whose likeliest class is another there.")
    lost: int | None = _column("Images that are right there and wrong here.")
    won: int | None = _column("Images that are wrong there and right here.")
    change_points: float | None = _column("Change of `top1_percent`, in percentage points.")
    p_value: float | None = _column(
        "How likely a change at least as uneven is where neither row is better (McNemar's exact test, two-sided)."
    )
    verdict: str | None = _column(
        f"`no difference shown`, or the change, where `p_value` is below {SIGNIFICANT:g}. One row of twenty that do "
        "not differ is called different by chance."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyRow:
    """A cell's verification, as a run's row has it, and what it said of the images."""

    row: Row
    accuracy: Accuracy

    @property
    def values(self) -> dict[str, Any]:
        """Every column's value, in the columns' order."""
        shared, own = asdict(self.row), asdict(self.accuracy)
        return {**{name: shared[name] for name in FRONT}, **own, **{name: shared[name] for name in BACK}}


def accuracy_columns() -> dict[str, tuple[str, str]]:
    """Return type and meaning of each column, in their order."""
    shared = {found.name: (str(found.type), COLUMNS[found.name]) for found in fields(Row)}
    own = {found.name: (str(found.type), str(found.metadata["description"])) for found in fields(Accuracy)}
    return {**{name: shared[name] for name in FRONT}, **own, **{name: shared[name] for name in BACK}}


def accuracy_dictionary() -> str:
    """Return the columns as a Markdown table."""
    return columns_table(accuracy_columns())


def accuracy_rows(
    rows: Sequence[Row],
    data: DataRecord,
    labels: NDArray[np.int64],
    predictions: Mapping[str, Sequence[Labels]],
    preprocessing: Mapping[str, str],
) -> list[AccuracyRow]:
    """Return a row a cell.

    Args:
        rows: of the cells' verification.
        data: what the images are.
        labels: of the images that are used, `(N,)`.
        predictions: of each cell, by its id; figures are empty where they are fewer than N.
        preprocessing: of each cell, in words, by its id.
    """
    whole = {
        cell_id: np.array(found, dtype=np.int64) for cell_id, found in predictions.items() if len(found) == len(labels)
    }
    made = []
    for row in rows:
        about = Accuracy(
            data=data.name,
            data_sha256=data.sha256,
            preprocessing=preprocessing.get(row.cell_id or ""),
            unreadable_files=len(data.skipped),
        )
        found = whole.get(row.cell_id or "")
        made.append(AccuracyRow(row=row, accuracy=about if found is None else _with_shares(about, found, labels)))
    return [_compared(one, made, whole, labels) for one in made]


def _with_shares(about: Accuracy, found: NDArray[np.int64], labels: NDArray[np.int64]) -> Accuracy:
    hits = found == labels[:, None]
    shares = {"top1": hits[:, 0]}
    if found.shape[1] == MOST_NAMED:
        shares["top5"] = hits.any(axis=1)
    columns: dict[str, Any] = {}
    for name, right in shares.items():
        count = int(right.sum())
        low, high = wilson_interval(count, len(labels))
        columns |= {
            f"{name}_percent": 100 * count / len(labels),
            f"{name}_low_percent": 100 * low,
            f"{name}_high_percent": 100 * high,
        }
    return replace(about, images=len(labels), **columns)


def _compared(
    one: AccuracyRow,
    rows: Sequence[AccuracyRow],
    whole: Mapping[str, NDArray[np.int64]],
    labels: NDArray[np.int64],
) -> AccuracyRow:
    """Hold a row against the fp32 row of its network; one that is it, or has none, stays as it is."""
    baseline = _baseline(one.row.spec_hash, rows, whole)
    found = whole.get(one.row.cell_id or "")
    if baseline is None or baseline is one or found is None:
        return one
    here, there = found[:, 0], whole[baseline.row.cell_id or ""][:, 0]
    change = PairedChange(
        lost=int(((there == labels) & (here != labels)).sum()),
        won=int(((there != labels) & (here == labels)).sum()),
        images=len(labels),
    )
    accuracy = replace(
        one.accuracy,
        against=f"{baseline.row.backend} {baseline.row.precision}",
        changed=int((here != there).sum()),
        lost=change.lost,
        won=change.won,
        change_points=change.points,
        p_value=change.p_value,
        verdict=verdict(change),
    )
    return replace(one, accuracy=accuracy)


def _baseline(
    spec_hash: str | None, rows: Sequence[AccuracyRow], whole: Mapping[str, NDArray[np.int64]]
) -> AccuracyRow | None:
    sound = [
        one
        for one in rows
        if one.row.spec_hash == spec_hash
        and one.row.precision == BASELINE_PRECISION
        and one.row.cell_id in whole
        and is_of_what_was_asked(one.row.status)
    ]
    return min(sound, key=lambda one: one.row.backend != BASELINE_BACKEND, default=None)


def verdict(change: PairedChange) -> str:
    """Say in words whether two ways of judging the same images differ in how often they are right."""
    p_value = change.p_value
    if p_value >= SIGNIFICANT:
        return "no difference shown"
    return f"{change.points:+.2f} points (p = {p_value:.2g})"
