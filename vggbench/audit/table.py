"""Anybody's table as entries that rules can hold against each other.

Reads CSV, TSV and Markdown, and the results of a run's folder. Standard library, and the tables of the networks.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vggbench.audit.figures import Figure, read_figure
from vggbench.audit.headings import Columns, factor_of_parameters, normalised, recognise
from vggbench.errors import RequestError
from vggbench.models.configs import VARIANTS, find_variant
from vggbench.models.layers import totals, walk
from vggbench.models.spec import CUSTOM, ModelSpec, make_spec

RESULTS_NAME = "results.csv"
OWN_NETWORK = "against itself"  # what a row of ours has for a reference where a file was given, whatever its name
MOST_BYTES = 64 << 20  # a table of a million rows; beyond it the file is something else
_MARKDOWN_RULE = re.compile(r"\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)*\|?")
_LOOSE_NAME = re.compile(r"(?:.*[/.])?vgg[\W_]*(11|13|16|19)[\W_]*(?:d|with)?[\W_]*(b(?:atch)?[\W_]*n(?:orm)?)?[\W_]*")
# Text that differs between rows without making their times incomparable.
_NOT_SETTINGS = {
    *("status", "reasons", "stop_reason", "warmup", "timing", "placement", "precision_ran", "cell_id", "spec_hash"),
    *(
        "artefact_sha256",
        "verified_sha256",
        "configuration",
        "weights",
        "local_response_norm",
        "paper_name",
        "bound_by",
        "held_back_by",
    ),
    *("notes", "note", "comment", "comments", "reference"),
    *("samples_needed", "in_flight_tried"),
}
# Numbers that say what was measured.
_NUMERIC_SETTINGS = {
    *("threads", "input_size", "resolution", "image_size", "num_classes", "classes", "classifier_width", "workers"),
    *("gpus", "num_gpus", "iterations", "opset"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the table that is about a VGG.

    Attributes:
        line: in the file, the headings' line being 1 in CSV.
        variant: our own name of it; `custom` for a configuration.
        spec: the network; None where the row describes none that can be built.
        settings: the texts that must agree before two rows are comparable, by column; the batch is not among them.
        latency: of a request, in seconds.
        throughput: in images a second.
        parameters: as the table says.
        macs: as the table says, in its own unit, for one image.
        cells: every text of the row by its normalised heading.
        numbers: the value of each cell that holds a figure.
    """

    line: int
    variant: str
    spec: ModelSpec | None
    settings: tuple[tuple[str, str], ...]
    batch: int | None
    in_flight: int | None
    latency: Figure | None
    throughput: Figure | None
    parameters: Figure | None
    macs: Figure | None
    cells: Mapping[str, str]
    numbers: Mapping[str, float]

    @property
    def title(self) -> str:
        """A short name of the row."""
        words = [self.variant, *(text for name, text in self.settings if normalised(name) in _IN_TITLE and text)]
        return " ".join([*words, *([f"batch {self.batch}"] if self.batch else [])]) + f" (line {self.line})"


_IN_TITLE = ("backend", "framework", "options", "precision", "dtype", "device")


@dataclass(frozen=True, slots=True)
class Table:
    """The entries of a table, and the number of its rows that are about something else."""

    entries: tuple[Entry, ...]
    others: int


def read_table(path: Path) -> Table:
    """Read a table, or the results in a run's folder; `RequestError` says why it is none that can be judged."""
    file = path / RESULTS_NAME if path.is_dir() else path
    headings, rows = _split(file, _read_text(file))
    columns = recognise(headings, _settings(headings, [row for _line, row in rows]))
    _refuse_unusable(file, headings, columns)
    assert columns is not None
    vggs = [(line, row) for line, row in rows if row.get("reference") != OWN_NETWORK]
    found = [(line, row, variant) for line, row in vggs if (variant := _variant(row[columns.variant])) is not None]
    counts = [figure.value for _, row, _ in found if (figure := _figure(row, columns.parameters)) is not None]
    unit = factor_of_parameters(columns.parameters or "", largest=max(counts, default=0.0))
    entries = tuple(_entry(line, row, variant, columns, unit) for line, row, variant in found)
    return Table(entries, len(rows) - len(entries))


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise RequestError(f"{path} has {path.stat().st_size >> 20} MiB: too large for a table of results")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}; give a run's folder or a table") from None
    except UnicodeDecodeError:
        raise RequestError(f"{path} is not text in UTF-8; give a CSV, TSV or Markdown table") from None


def _split(path: Path, text: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return headings and rows with their line; rows of another width than the headings are refused."""
    lines = _markdown(text) if _is_markdown(text) else _delimited(path, text)
    if not lines:
        raise RequestError(f"{path} holds no table: it is empty")
    (_, headings), *rest = lines
    for line, cells in rest:
        if len(cells) != len(headings):
            raise RequestError(f"{path}, line {line}: {len(cells)} cells under {len(headings)} headings")
    return headings, [(line, dict(zip(headings, cells, strict=True))) for line, cells in rest]


def _is_markdown(text: str) -> bool:
    return any(_MARKDOWN_RULE.fullmatch(line.strip()) and "|" in line for line in text.splitlines())


def _markdown(text: str) -> list[tuple[int, list[str]]]:
    """Return the cells of the first table's lines."""
    lines = text.splitlines()
    rule = next(number for number, line in enumerate(lines) if "|" in line and _MARKDOWN_RULE.fullmatch(line.strip()))
    table: list[tuple[int, list[str]]] = []
    for number in range(max(rule - 1, 0), len(lines)):
        if "|" not in lines[number]:
            break
        if number != rule:
            cells = lines[number].strip().removeprefix("|").removesuffix("|").split("|")
            table.append((number + 1, [cell.strip().strip("*`").strip() for cell in cells]))
    return table


def _delimited(path: Path, text: str) -> list[tuple[int, list[str]]]:
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        return [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]
    except csv.Error as error:
        raise RequestError(f"{path}, line {reader.line_num}: not CSV: {error}") from None


def _settings(headings: Sequence[str], rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the columns that say what was measured: texts, and the numbers that are known to."""
    names = {heading: normalised(heading) for heading in headings}
    texts = {heading for heading in headings if any(row[heading] and read_figure(row[heading]) is None for row in rows)}
    return [
        heading
        for heading, name in names.items()
        if name in _NUMERIC_SETTINGS or (heading in texts and name not in _NOT_SETTINGS)
    ]


def _refuse_unusable(path: Path, headings: Sequence[str], columns: Columns | None) -> None:
    shown = ", ".join(headings[:12])
    if columns is None:
        raise RequestError(f"{path} has no column of variants (variant, model, network, ...) among: {shown}")
    if columns.latency is None and columns.throughput is None:
        raise RequestError(f"{path} has no latency (latency_ms, ...) and no throughput (img/s, ...) among: {shown}")
    if columns.latency is not None and columns.latency_unit is None:
        raise RequestError(f"{path}: column {columns.latency!r} names no unit; write for example latency_ms")


def _variant(text: str) -> str | None:
    """Return our name for how a table calls a VGG; None for another network."""
    name = text.strip()
    if name.lower() in VARIANTS or name in (CUSTOM, f"{CUSTOM}_bn"):
        return name.lower()
    loose = _LOOSE_NAME.fullmatch(name.lower())
    if loose is None:
        return None
    return find_variant(f"vgg{loose[1]}" + ("_bn" if loose[2] else "")).name


def _entry(line: int, row: Mapping[str, str], variant: str, columns: Columns, parameter_unit: float) -> Entry:
    cells = {normalised(heading): text for heading, text in row.items()}
    latency = _with_ends(row, columns.latency, columns.latency_ends)
    parameters = _figure(row, columns.parameters)
    known = (columns.batch, columns.in_flight, columns.parameters, columns.macs)
    return Entry(
        line=line,
        variant=variant,
        spec=_spec(variant, cells),
        settings=tuple((name, row[name]) for name in columns.settings if name not in known),
        batch=_whole(row, columns.batch),
        in_flight=_whole(row, columns.in_flight),
        latency=latency.scaled(columns.latency_unit) if latency and columns.latency_unit else None,
        throughput=_with_ends(row, columns.throughput, columns.throughput_ends),
        # `138.4M` under a heading in millions is a count already.
        parameters=parameters.scaled(parameter_unit if parameters.value < 1e6 else 1.0) if parameters else None,
        macs=_figure(row, columns.macs),
        cells=cells,
        numbers={name: figure.value for name, text in cells.items() if (figure := read_figure(text)) is not None},
    )


def _figure(row: Mapping[str, str], column: str | None) -> Figure | None:
    return read_figure(row[column]) if column else None


def _whole(row: Mapping[str, str], column: str | None) -> int | None:
    figure = _figure(row, column)
    return int(figure.value) if figure and figure.value >= 1 and figure.value == int(figure.value) else None


def _with_ends(row: Mapping[str, str], column: str | None, ends: tuple[str, str] | None) -> Figure | None:
    figure = _figure(row, column)
    low, high = (_figure(row, end) for end in ends) if ends else (None, None)
    return figure.within(low.value, high.value) if figure and low and high else figure


def _spec(variant: str, cells: Mapping[str, str]) -> ModelSpec | None:
    """Return the network that a row describes; None where it is not enough or not possible."""
    configuration = cells.get("configuration")
    custom = variant.removesuffix("_bn") == CUSTOM
    shape = {
        "input_size": _count(cells, "input_size", "resolution", "image_size"),
        "num_classes": _count(cells, "num_classes", "classes"),
        "head": cells.get("head") or None,
        "classifier_width": _count(cells, "classifier_width"),
    }
    given = {name: value for name, value in shape.items() if value is not None}
    try:
        if custom:
            return make_spec(config=configuration, batch_norm=variant.endswith("_bn"), **given)  # type: ignore[arg-type]
        return make_spec(variant, **given)  # type: ignore[arg-type]
    except RequestError:
        return None


def _count(cells: Mapping[str, str], *names: str) -> int | None:
    texts = [cells[name].partition("x")[0] for name in names if cells.get(name)]  # `224x224` too
    return int(texts[0]) if texts and texts[0].isdecimal() and texts[0].isascii() else None


def published_parameters(spec: ModelSpec) -> int:
    """Return the exact number of weights and biases."""
    return totals(walk(spec)).parameters


def macs_of(spec: ModelSpec) -> int:
    """Return the multiply-accumulates of one image."""
    return totals(walk(spec)).macs
