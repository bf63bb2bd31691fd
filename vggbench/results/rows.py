"""From a run's head and journal to rows: everything a row says is derived here, and can be derived again.

No torch, no pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from vggbench.artefacts.quantization import QUANTIZED_PRECISIONS, shown_options
from vggbench.data.source import SYNTHETIC
from vggbench.measure.disturbance import judge_disturbance
from vggbench.measure.records import RoundRecord
from vggbench.measure.validity import gravest, is_of_what_was_asked, precision_shares
from vggbench.models.network_file import Network, NetworkFile
from vggbench.models.spec import IMAGENET, ModelSpec
from vggbench.plan import Cell, format_options
from vggbench.results.columns import Row
from vggbench.results.conditions import conditions, disturbance_of
from vggbench.results.device import device_columns, exposure_findings
from vggbench.results.energy import energy
from vggbench.results.figures import MIB, costs, figures
from vggbench.results.findings import doubts, findings, notes
from vggbench.results.limits import in_flight, limits, overlap_findings
from vggbench.results.run_info import Prepared, RunInfo


def derive_rows(info: RunInfo, records: Iterable[RoundRecord]) -> list[Row]:
    """Return one row a cell of the plan, in the plan's order."""
    plan = info.plan
    by_cell: dict[str, list[RoundRecord]] = {cell.id: [] for cell in plan.cells}
    for record in records:
        if record.cell_id in by_cell:
            by_cell[record.cell_id].append(record)
    rows = [
        _row(info, plan.rounds, cell, sorted(by_cell[cell.id], key=lambda record: record.round)) for cell in plan.cells
    ]
    return _with_speedups(rows)


def _row(info: RunInfo, planned_rounds: int, cell: Cell, records: Sequence[RoundRecord]) -> Row:
    prepared = info.prepared.get(cell.id, Prepared())
    finished = [record for record in records if record.failure is None]
    numbers = figures(finished)
    disturbance = disturbance_of(finished)
    found = [*findings(cell, prepared, records, planned_rounds), *judge_disturbance(disturbance), *doubts(numbers)]
    found += exposure_findings(finished)
    found += overlap_findings(numbers, batch_size=cell.batch_size, requests=in_flight(cell, prepared))
    texts = [finding.reason for finding in found] + notes(cell, finished)
    values = {
        **_identity(info, cell, prepared),
        **_artefact(prepared),
        **_proof(records),
        **numbers,
        **conditions(disturbance, records),
        **device_columns(finished, numbers["latency_ms"]),
        **costs(records, prepared.in_flight_tried),
        **energy(finished, cell.device, info.idle_power_w),
        **limits(cell, prepared, info.ceilings, numbers["latency_ms"]),
        "status": gravest(found),
        "reasons": "; ".join(dict.fromkeys(texts)) or None,
        "rounds": len(finished),
    }
    return Row(**values)


def _identity(info: RunInfo, cell: Cell, prepared: Prepared) -> dict[str, Any]:
    return {
        **_network(cell.spec),
        **({"reference": "quantised file in float64"} if cell.precision in QUANTIZED_PRECISIONS else {}),
        "backend": cell.backend,
        "options": " ".join(format_options(cell.options)) or None,
        "precision": cell.precision,
        "export_options": " ".join(format_options(shown_options(cell.export_options))) or None,
        "device": cell.device,
        "batch_size": cell.batch_size,
        "replica": cell.replica or None,
        "inputs": cell.source.text if cell.source else SYNTHETIC,
        "requests_in_flight": in_flight(cell, prepared),
        "in_flight_tried": ", ".join(f"{tried.in_flight}: {tried.img_s:.3g}" for tried in prepared.in_flight_tried)
        or None,
        "parameters": prepared.parameters or None,
        "gmacs": prepared.macs / 1e9 if prepared.macs else None,
        "device_name": info.device_name,
        "driver": info.environment.get("system", {}).get("driver") if cell.device != "cpu" else None,
        "backend_version": info.backend_versions.get(cell.backend),
        "vggbench_version": info.vggbench_version,
        "commit": info.environment.get("commit"),
        "started_at": info.started_at,
        "cell_id": cell.id,
    }


def _network(spec: Network) -> dict[str, Any]:
    shared = {
        "variant": spec.variant,
        "input_size": spec.input_size,
        "num_classes": spec.num_classes,
        "spec_hash": spec.digest(),
    }
    if isinstance(spec, NetworkFile):
        return {**shared, "weights": f"file {spec.sha256[:12]}", "reference": "against itself"}
    return {
        **shared,
        "configuration": spec.configuration,
        "head": spec.head,
        "classifier_width": spec.classifier_width,
        "local_response_norm": spec.local_response_norm,
        "outputs": spec.outputs,
        "weights": _weights(spec),
        "reference": "float64 module",
    }


def _weights(spec: ModelSpec) -> str:
    if spec.has_generated_weights:
        return f"{spec.weights} {spec.seed}"
    return f"{IMAGENET} {spec.origin.name}" if spec.origin else f"file {spec.weights_sha256[:12]}"


def _artefact(prepared: Prepared) -> dict[str, Any]:
    if not prepared.artefact:
        return {}
    return {
        "artefact_mib": prepared.artefact_bytes / MIB,
        "export_s": prepared.artefact.get("seconds"),
        "parity_tolerance": prepared.tolerance,
    }


def _proof(records: Sequence[RoundRecord]) -> dict[str, Any]:
    sessions = [session for record in records for session in record.sessions]
    if not sessions:
        return {}
    parities = [session.parity for session in sessions]
    metrics = [parity.metrics for parity in parities if parity.metrics is not None]
    evidence = sessions[-1].evidence
    shares = precision_shares(evidence)
    return {
        "precision_ran": " ".join(f"{name}:{share:.1%}" for name, share in shares.items()) or None,
        "placement": " ".join(f"{name}:{count}" for name, count in evidence.placements.items()) or None,
        "threads": evidence.threads,
        "timing": sessions[0].timeline,
        "backend_version": sessions[-1].backend_version,
        "artefact_sha256": _only(session.artefact_sha256 for session in sessions),
        "verified_sha256": _only(parity.artefact_sha256 for parity in parities),
        "parity_error": _extreme(max, (metric["signal_error"] for metric in metrics)),
        "quantization_error": _extreme(max, (parity.quantization_error for parity in parities)),
        "parity_cosine": _extreme(min, (metric["cosine"] for metric in metrics)),
        "top1_agreement": _extreme(min, (metric["top1_agreement"] for metric in metrics)),
    }


def _only(values: Iterable[str]) -> str | None:
    different = set(values)
    return different.pop() if len(different) == 1 else None


def _extreme(choose: Callable[[list[float]], float], values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return choose(present) if present else None


def _with_speedups(rows: list[Row]) -> list[Row]:
    """Fill `speedup` where the same run has a sound eager fp32 row of the same model, batch and threads."""
    baselines = {
        _comparison_key(row): row.latency_ms
        for row in rows
        if row.backend == "torch"
        and row.precision == "fp32"
        and row.options == "memory_format=contiguous"
        and is_of_what_was_asked(row.status)
    }
    return [_with_speedup(row, baselines.get(_comparison_key(row))) for row in rows]


def _with_speedup(row: Row, baseline_ms: float | None) -> Row:
    if baseline_ms is None or row.latency_ms is None or not is_of_what_was_asked(row.status):
        return row
    return replace(row, speedup=baseline_ms / row.latency_ms)


def _comparison_key(row: Row) -> tuple[Any, ...]:
    return row.spec_hash, row.batch_size, row.device, row.threads, row.replica
