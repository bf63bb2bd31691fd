"""What is wrong with a row, by the evidence of its rounds, and what is worth saying of it. No torch, no pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vggbench.artefacts.onnx_form import KEEP_FP32
from vggbench.artefacts.quantization import CALIBRATION, SYNTHETIC
from vggbench.backends.registry import ORACLES
from vggbench.measure.records import InputRecord, RoundRecord, SessionRecord, gave_up
from vggbench.measure.validity import Finding, judge_evidence
from vggbench.models.layers import mac_layers
from vggbench.models.network_file import NetworkFile
from vggbench.plan import DEFAULT_ROUNDS, Cell
from vggbench.results.figures import launches, warmup_ends
from vggbench.results.run_info import Prepared
from vggbench.stats import diagnose

ENOUGH_ROUNDS = "12 to 20"  # with fewer, modes and drift mostly go unseen (benchmarks/README.md, Calibration)
_MOST_OF_THEM = 20
NOISY_PERCENT = 5.0  # either way of the estimate: two rows that are 10 % apart could not be told from each other


def findings(cell: Cell, prepared: Prepared, records: Sequence[RoundRecord], planned: int) -> list[Finding]:
    """Return everything that is wrong with the cell's row; `planned` is how many rounds there should be."""
    found = proof_findings(cell, prepared, records, planned)
    return found if cell.unsupported or prepared.failure else [*found, *launch_findings(records)]


def proof_findings(cell: Cell, prepared: Prepared, records: Sequence[RoundRecord], planned: int) -> list[Finding]:
    """Return what is wrong but for how alike the rounds are: whether they are there, ran as asked, and got steady."""
    if cell.unsupported:
        return [Finding("unsupported", cell.unsupported)]
    if prepared.failure is not None:
        return [Finding(prepared.failure.status, f"{prepared.failure.stage}: {prepared.failure.reason}")]
    found: list[Finding] = []
    for record in records:
        if record.failure is not None:
            where = f"round {record.round + 1} at {record.failure.stage}"
            found.append(Finding(record.failure.status, f"{where}: {record.failure.reason}"))
        for session in record.sessions:
            found += session_findings(cell, prepared, session)
    if len(records) < planned and not any(gave_up(record) for record in records):
        text = f"{len(records)} of {planned} rounds were run; continue with --resume"
        found.append(Finding("failed", text))
    return found + _warmup_findings(records)


def session_findings(cell: Cell, prepared: Prepared, session: SessionRecord) -> list[Finding]:
    """Return what is wrong with one session: outputs, files, inputs, and whether what was asked is what ran."""
    findings = [Finding("parity_failed", reason) for reason in session.parity.reasons]
    if not session.parity.passed and not findings:
        findings.append(Finding("parity_failed", "the outputs were not accepted"))
    findings += [
        Finding("parity_failed", f"after a timed {block.kind} block: {block.wrong}; reinstall the backend's library")
        for block in session.blocks
        if block.wrong
    ]
    hashes = {session.artefact_sha256, session.parity.artefact_sha256, prepared.artefact.get("sha256")}
    if len(hashes) != 1:
        findings.append(Finding("failed", "the files timed, verified and planned are not the same; export again"))
    findings += _input_findings(session.inputs)
    return findings + judge_evidence(
        session.evidence,
        precision=cell.precision,
        device=cell.device,
        batch_size=cell.batch_size,
        threads=cell.threads,
        macs=prepared.macs,
        kept_fp32_macs=_kept_macs(cell),
    )


def _kept_macs(cell: Cell) -> int:
    """Return the multiply-accumulates of one image in the layers that the file keeps in fp32."""
    kept = cell.export_options.get(KEEP_FP32, "").split(",")
    if kept == [""] or isinstance(cell.spec, NetworkFile):
        return 0
    return sum(layer.macs for layer in mac_layers(cell.spec) if layer.name in kept)


def _input_findings(found: InputRecord | None) -> list[Finding]:
    """Requests with one input, or from one hot buffer, are not what a caller sends: no figure of what was asked."""
    if found is None or min(found.different, found.buffers) > 1:
        return []
    text = f"the {found.batches} timed batches have {found.different} different contents in {found.buffers} buffers"
    return [Finding("failed", f"{text}: the input was not varied; remove the reference from exports and run again")]


def launch_findings(records: Sequence[RoundRecord]) -> list[Finding]:
    """Look whether the rounds are alike: where they are not, an interval over them need not hold."""
    seen = launches((record for record in records if record.failure is None), "compute")
    if not seen:
        return []
    rounds = f" and give {ENOUGH_ROUNDS} --rounds" if len(seen) < _MOST_OF_THEM else ""
    modes, drift = diagnose(seen)
    found = []
    if modes.found:
        text = f"{modes.reason}; the interval may hold neither mode: look at the rounds in samples.parquet{rounds}"
        found.append(Finding("bimodal", text))
    if drift.found:
        text = f"{drift.reason}; the interval may not hold: measure on a quieter machine{rounds}"
        found.append(Finding("drifting", text))
    return found


def _warmup_findings(records: Sequence[RoundRecord]) -> list[Finding]:
    ends = warmup_ends(records)
    unsettled = len(ends) - ends.count("steady")
    if 2 * unsettled <= len(ends):
        return []
    text = f"{unsettled} of {len(ends)} warm-ups were not seen to get steady; give --time-budget-s more"
    return [Finding("unsteady", text)]


def doubts(figures: Mapping[str, Any]) -> list[Finding]:
    """Return which figures, by their columns' names, have an interval too wide to be of use."""
    named = (
        ("latency", "latency_ms", "latency_low_ms", "latency_high_ms"),
        ("throughput", "throughput_img_s", "throughput_low_img_s", "throughput_high_img_s"),
    )
    return [
        finding
        for name, *columns in named
        if (finding := _judge_width(name, *(figures.get(column) for column in columns))) is not None
    ]


def _judge_width(name: str, middle: float | None, low: float | None, high: float | None) -> Finding | None:
    if middle is None or low is None or high is None:
        return None
    percent = 100 * (high - low) / 2 / middle
    if percent <= NOISY_PERCENT:
        return None
    text = f"{name} is known to ±{percent:.0f} % only (let pass: {NOISY_PERCENT:g} %); give more --rounds"
    return Finding("noisy", f"{text}, or measure on a quieter machine")


def notes(cell: Cell, finished: Sequence[RoundRecord]) -> list[str]:
    """Return what is worth saying of a row without changing its status."""
    timed = any(session.samples("compute") for record in finished for session in record.sessions)
    texts = []
    if timed and cell.backend in ORACLES:
        texts.append(f"{cell.backend} is an oracle, not an engine: its times are those of the evaluation in numpy")
    if finished and cell.export_options.get(CALIBRATION) == SYNTHETIC:
        texts.append(
            "calibrated with SYNTHETIC images: what it costs in accuracy on photographs is not known; --calibration DIR"
        )
    if again := sum(record.attempt > 1 for record in finished):
        texts.append(f"{again} of {len(finished)} rounds failed before and were measured when tried again")
    if timed and not cell.unsupported and len(finished) < DEFAULT_ROUNDS:
        texts.append(f"no interval: {len(finished)} rounds, {DEFAULT_ROUNDS} are needed")
    return texts
