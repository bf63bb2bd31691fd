"""Rows as a tidy pandas DataFrame, and samples as one. The only module that imports pandas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import IO, TYPE_CHECKING, Any

from vggbench.measure.records import RoundRecord
from vggbench.results.accuracy import AccuracyRow, accuracy_columns
from vggbench.results.columns import Row

if TYPE_CHECKING:
    import pandas as pd

_TYPES = {"str": "string", "int": "Int64", "float": "Float64"}


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Return a row a cell, with nullable types: missing is NA in every column."""
    import pandas as pd

    table = pd.DataFrame([asdict(row) for row in rows], columns=[column.name for column in fields(Row)])
    types = {column.name: _TYPES[str(column.type).removesuffix(" | None")] for column in fields(Row)}
    return table.astype(types)


def accuracy_frame(rows: Sequence[AccuracyRow]) -> pd.DataFrame:
    """Return a row a cell of an accuracy run, likewise."""
    import pandas as pd

    kinds = {name: kind for name, (kind, _meaning) in accuracy_columns().items()}
    table = pd.DataFrame([row.values for row in rows], columns=list(kinds))
    return table.astype({name: _TYPES[kind.removesuffix(" | None")] for name, kind in kinds.items()})


def sample_frame(records: Iterable[RoundRecord]) -> pd.DataFrame:
    """Return a row a sample: cell, round, requests in flight, block, kind, images in it, nanoseconds."""
    import pandas as pd

    columns = ["cell_id", "round", "in_flight", "block", "kind", "images", "sample", "duration_ns"]
    return pd.DataFrame(_samples(records), columns=columns)


def _samples(records: Iterable[RoundRecord]) -> list[tuple[Any, ...]]:
    return [
        (record.cell_id, record.round, session.in_flight, number, block.kind, block.images, index, sample)
        for record in records
        for session in record.sessions
        for number, block in enumerate(session.blocks)
        for index, sample in enumerate(block.samples_ns)
    ]


def write_csv(table: pd.DataFrame, file: IO[bytes]) -> None:
    """Write CSV with full precision; missing is empty."""
    table.to_csv(file, index=False, lineterminator="\n")


def write_parquet(table: pd.DataFrame, file: IO[bytes]) -> None:
    """Write Parquet."""
    table.to_parquet(file, index=False)
