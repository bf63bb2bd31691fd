"""Rows from records that were written by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes import SPEC, fake_cell
from tests.measure.replay import recorded_rounds
from tests.results.made import (
    CELL,
    MACS,
    SHA,
    block,
    evidence,
    failed_parity,
    info,
    parity,
    prepared,
    record,
    rounds,
    session,
    timed,
)
from vggbench.measure.latency import Block
from vggbench.measure.records import Failure, RoundRecord
from vggbench.measure.saturation import TriedRate
from vggbench.measure.validity import STATUSES
from vggbench.models.spec import make_spec
from vggbench.plan import Cell
from vggbench.plan.cells import replicate
from vggbench.results.columns import Row
from vggbench.results.rows import derive_rows
from vggbench.stats import hodges_lehmann, signed_rank_interval

SIX = [1.05, 1.0, 1.08, 1.02, 1.06, 1.03]  # neither in order nor in groups


def row_of(records: list[RoundRecord], cell: Cell = CELL, rounds: int = 6, **changes) -> Row:
    (row,) = derive_rows(info(cell, rounds=rounds, **changes), records)
    return row


def test_a_good_row_says_all_there_is():
    row = row_of(rounds(CELL, SIX))
    assert (row.status, row.reasons) == ("ok", None)
    assert (row.variant, row.configuration, row.backend) == ("custom", "8,M,16,M", "fake")
    assert (row.options, row.precision, row.device) == ("fault=none", "fp32", "cpu")
    assert (row.batch_size, row.input_size, row.num_classes, row.weights) == (2, 32, 5, "random 0")
    assert (row.requests_in_flight, row.threads, row.timing) == (2, 2, "host")
    assert (row.rounds, row.stop_reason, row.warmup) == (6, "time", "6/6")
    assert row.samples == 6 * 4 * 3
    assert (row.precision_ran, row.placement) == ("fp32:100.0%", "fake:5")
    assert (row.parity_error, row.parity_tolerance, row.parity_cosine) == (1e-6, 1e-4, 0.9999)
    assert row.top1_agreement == 1.0
    assert row.artefact_sha256 == row.verified_sha256 == SHA
    assert (row.artefact_mib, row.export_s) == (3.0, 1.5)
    assert (row.import_s, row.load_s, row.first_inference_ms) == (0.5, 0.25, 7.0)
    assert row.peak_memory_mib == 105
    assert row.gmacs == MACS / 1e9
    assert (row.device_name, row.driver, row.commit) == ("A processor", None, "c0ffee")
    assert (row.backend_version, row.vggbench_version) == ("1.2", "0.1.0")
    assert row.started_at == "2026-01-02T03:04:05+00:00"
    assert (row.cell_id, row.spec_hash) == (CELL.id, SPEC.digest())


@pytest.mark.parametrize(
    ("compilations", "seconds", "cache"),
    [
        ([(None, None)] * 3, None, None),
        ([(30.0, False), (4.0, True), (5.0, True)], 30.0, "2/3"),
        ([(4.0, True), (5.0, True), (6.0, True)], 5.0, "3/3"),
        ([(8.0, None), (9.0, False), (2.0, True)], 8.5, "1/3"),
    ],
)
def test_what_compiling_costs_is_told_apart_from_finding_it_compiled(compilations, seconds, cache):
    records = [
        record(CELL, number, session(CELL, compile_s=took, compile_cached=cached))
        for number, (took, cached) in enumerate(compilations)
    ]
    row = row_of(records)
    assert (row.compile_s, row.compile_cache) == (seconds, cache)


def test_the_trial_before_the_rounds_compiles_first():
    tried = (TriedRate(1, 5.0, 30.0, False), TriedRate(2, 6.0, 20.0, False))  # two in flight are another graph
    records = [record(CELL, 0, session(CELL, compile_s=4.0, compile_cached=True))]
    made = replace(info(CELL), prepared={CELL.id: prepared(CELL, in_flight_tried=tried)})
    (row,) = derive_rows(made, records)
    assert (row.compile_s, row.compile_cache) == (30.0, "1/2")


def test_the_latency_is_the_estimate_over_the_rounds_medians_of_blocks():
    row = row_of(rounds(CELL, SIX))
    assert row.latency_ms == pytest.approx(hodges_lehmann(SIX))
    assert (row.latency_low_ms, row.latency_high_ms) == (1.0, 1.08)
    assert row.end_to_end_ms == pytest.approx(9.0)
    assert row.throughput_img_s == pytest.approx(20 / 0.040)
    assert (row.throughput_low_img_s, row.throughput_high_img_s) == (pytest.approx(500), pytest.approx(500))


def test_the_order_of_the_journal_does_not_matter():
    records = rounds(CELL, SIX)
    assert row_of(records[::-1]) == row_of(records)


def test_recorded_rounds_give_a_figure_among_them():
    recorded = recorded_rounds()

    def replayed(number: int, blocks: list[list[int]]) -> RoundRecord:
        made = [Block(kind="compute", samples_ns=tuple(samples), images=2, stop_reason="time") for samples in blocks]
        return record(CELL, number, session(CELL, *made))

    row = row_of([replayed(number, blocks) for number, blocks in enumerate(recorded)], rounds=len(recorded))
    medians = [median(median(samples) for samples in blocks) / 1e6 for blocks in recorded]
    pooled = [sample / 1e6 for blocks in recorded for samples in blocks for sample in samples]
    assert row.latency_ms == pytest.approx(hodges_lehmann(medians))
    assert (row.latency_low_ms, row.latency_high_ms) == signed_rank_interval(medians)
    assert min(medians) <= row.latency_low_ms < row.latency_ms < row.latency_high_ms <= max(medians)
    assert row.samples == len(pooled) == 640
    assert (row.latency_min_ms, row.latency_max_ms) == (min(pooled), max(pooled))
    assert row.latency_mean_ms == pytest.approx(fmean(pooled))
    assert 1 <= row.effective_samples <= 640


@pytest.mark.parametrize("count", [1, 5])
def test_under_six_rounds_there_is_no_interval_and_a_reason(count: int):
    row = row_of(rounds(CELL, SIX[:count]), rounds=count)
    assert row.latency_ms == pytest.approx(hodges_lehmann(SIX[:count]))
    assert (row.latency_low_ms, row.latency_high_ms) == (None, None)
    assert (row.throughput_low_img_s, row.throughput_high_img_s) == (None, None)
    assert (row.status, row.reasons) == ("ok", f"no interval: {count} rounds, 6 are needed")


def test_times_of_an_oracle_are_said_to_be_no_engines():
    cell = fake_cell(backend="onnx-reference")
    row = row_of(rounds(cell, SIX), cell)
    assert row.status == "ok"
    assert row.reasons == "onnx-reference is an oracle, not an engine: its times are those of the evaluation in numpy"


def test_rounds_that_are_missing_are_a_finding():
    row = row_of(rounds(CELL, SIX[:2]))
    assert row.status == "failed"
    assert row.reasons.startswith("2 of 6 rounds were run; continue with --resume")
    assert row.rounds == 2


def test_a_run_that_was_stopped_before_anything_was_prepared_has_all_its_rows():
    row = row_of([], prepared={})
    assert (row.status, row.reasons) == ("failed", "0 of 6 rounds were run; continue with --resume")
    assert (row.latency_ms, row.parity_error, row.samples, row.artefact_mib, row.parameters) == (None,) * 5
    assert row.backend_version == "1"


@pytest.mark.parametrize("status", ["failed", "timeout"])
def test_a_round_that_failed_is_the_rows_status(status: str):
    failure = Failure(stage="open", status=status, reason="the worker was killed by SIGKILL")
    row = row_of([*rounds(CELL, SIX[:2]), record(CELL, 2, failure=failure)])
    assert row.status == status
    assert row.reasons.startswith("round 3 at open: the worker was killed by SIGKILL")
    assert row.rounds == 2
    assert row.latency_ms == pytest.approx(hodges_lehmann(SIX[:2]))


def test_a_cell_that_could_not_be_prepared():
    failure = Failure(stage="prepare", status="failed", reason="torch could not export it")
    row = row_of([], prepared={CELL.id: prepared(CELL, artefact={}, artefact_bytes=0, macs=0, failure=failure)})
    assert (row.status, row.reasons) == ("failed", "prepare: torch could not export it")
    assert (row.artefact_mib, row.gmacs) == (None, None)


def test_an_unsupported_cell():
    cell = fake_cell(precision="bf16", unsupported="this processor has no bf16")
    row = row_of([], cell)
    assert (row.status, row.reasons) == ("unsupported", "this processor has no bf16")
    assert (row.latency_ms, row.samples) == (None, None)


def test_outputs_that_were_wrong():
    row = row_of([record(CELL, 0, session(CELL, parity=failed_parity()))])
    assert (row.status, row.reasons) == ("parity_failed", "the error is 0.5 of the signal")
    assert (row.parity_error, row.latency_ms) == (None, None)


def test_a_verdict_without_a_reason_is_still_a_failure():
    row = row_of([record(CELL, 0, session(CELL, parity=parity(passed=False)))])
    assert (row.status, row.reasons) == ("parity_failed", "the outputs were not accepted")


def test_figures_that_were_not_finite_are_empty():
    metrics = {"signal_error": None, "cosine": None, "top1_agreement": None}
    row = row_of([record(CELL, 0, session(CELL, parity=parity(passed=False, reasons=("NaN",), metrics=metrics)))])
    assert (row.parity_error, row.parity_cosine, row.top1_agreement) == (None, None, None)


def test_the_worst_session_is_the_rows_parity():
    worse = {"signal_error": 5e-5, "cosine": 0.9, "top1_agreement": 0.5}
    first, *rest = rounds(CELL, SIX)
    latency, throughput = first.sessions
    first = replace(first, sessions=(latency, replace(throughput, parity=parity(metrics=worse))))
    row = row_of([first, *rest])
    assert (row.parity_error, row.parity_cosine, row.top1_agreement) == (5e-5, 0.9, 0.5)


def test_files_other_than_those_planned_are_a_failure():
    other = "ef" * 32
    for changes in ({"artefact_sha256": other}, {"parity": parity(artefact_sha256=other)}):
        row = row_of([record(CELL, 0, session(CELL, block("compute", 1.0), **changes))], rounds=1)
        assert row.status == "failed"
        assert "the files timed, verified and planned are not the same" in row.reasons


def test_sessions_on_different_files_have_no_one_hash():
    sessions = [session(CELL), session(CELL, artefact_sha256="ef" * 32)]
    assert row_of([record(CELL, 0, *sessions)]).artefact_sha256 is None


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"layers": ()}, "precision_mismatch"),
        ({"placements": {"fake": 3, "other": 2}}, "fallback"),
        ({"threads": 1}, "fallback"),
        ({"batch_size": 1}, "failed"),
    ],
)
def test_evidence_against_the_request_is_the_rows_status(changes, status: str):
    found = session(CELL, block("compute", 1.0), evidence=evidence(CELL, **changes))
    row = row_of([record(CELL, number, found) for number in range(6)])
    assert row.status == status
    assert row.latency_ms == 1.0


def test_no_evidence_leaves_the_columns_empty():
    found = session(CELL, evidence=evidence(CELL, layers=(), placements={}))
    row = row_of([record(CELL, 0, found)])
    assert (row.precision_ran, row.placement) == (None, None)


def test_a_reason_is_said_once():
    found = session(CELL, block("compute", 1.0), evidence=evidence(CELL, threads=1))
    row = row_of([record(CELL, number, found) for number in range(6)])
    assert row.reasons == "2 threads were asked, the backend used 1; set --threads to that"


@pytest.mark.parametrize(
    ("ends", "status", "warmup"),
    [
        (["steady"] * 6, "ok", "6/6"),
        (["limit"] * 3 + ["steady"] * 3, "ok", "3/6"),
        (["limit"] * 4 + ["steady"] * 2, "unsteady", "2/6"),
        (["short"] * 4 + ["steady"] * 2, "unsteady", "2/6"),
    ],
)
def test_warm_ups_that_never_settled(ends: list[str], status: str, warmup: str):
    records = [
        record(CELL, number, session(CELL, block("warmup", 1.0, stop_reason=end), block("compute", 1.0)))
        for number, end in enumerate(ends)
    ]
    row = row_of(records)
    assert (row.status, row.warmup) == (status, warmup)
    if status != "ok":
        assert row.reasons == "4 of 6 warm-ups were not seen to get steady; give --time-budget-s more"


def test_memory_that_no_system_told():
    records = [replace(found, peak_memory_bytes=None) for found in rounds(CELL, SIX)]
    assert row_of(records).peak_memory_mib is None


def test_rounds_of_no_cell_of_the_plan_are_no_rows():
    stranger = fake_cell(batch_size=7)
    assert row_of([*rounds(CELL, SIX), *rounds(stranger, SIX)]).status == "ok"


def test_rows_are_in_the_plans_order():
    cells = [fake_cell(batch_size=size) for size in (3, 1, 2)]
    assert [row.batch_size for row in derive_rows(info(*cells), [])] == [3, 1, 2]


def test_weights_from_a_file_are_named_by_their_hash(tmp_path: Path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"weights")
    cell = fake_cell(spec=make_spec(config="8,M", input_size=8, weights=str(path)))
    row = row_of([], cell)
    assert row.weights == f"file {cell.spec.weights_sha256[:12]}"
    assert str(tmp_path) not in repr(row)


# Speed-ups

TORCH = fake_cell(backend="torch")
OTHERS = [fake_cell(), fake_cell(precision="bf16"), fake_cell(batch_size=4), fake_cell(threads=1)]


def speedups(baseline: list[RoundRecord], cells: list[Cell], torch: Cell = TORCH) -> list[float | None]:
    records = [*baseline, *(found for cell in cells for found in rounds(cell, [2.0] * 6))]
    return [row.speedup for row in derive_rows(info(torch, *cells), records)]


def test_the_speed_up_is_over_eager_fp32_of_the_same_model_batch_and_threads():
    assert speedups(rounds(TORCH, [6.0] * 6), OTHERS) == [1.0, 3.0, 3.0, None, None]


def test_another_model_has_no_speed_up_over_this_one():
    other = fake_cell(spec=make_spec(config="8,M", input_size=32, num_classes=5))
    assert speedups(rounds(TORCH, [6.0] * 6), [other]) == [1.0, None]


@pytest.mark.parametrize(
    "torch", [fake_cell(backend="torch", precision="bf16"), fake_cell(backend="torch", memory_format="channels_last")]
)
def test_eager_in_another_way_is_no_baseline(torch: Cell):
    assert speedups(rounds(torch, [6.0] * 6), OTHERS[:1], torch) == [None, None]


def test_a_replica_is_compared_with_the_baseline_of_its_number():
    torch, fake = replicate([TORCH], 2), replicate([OTHERS[0]], 2)
    records = [*rounds(torch[0], [6.0] * 6), *rounds(torch[1], [8.0] * 6)]
    records += [found for cell in fake for found in rounds(cell, [2.0] * 6)]
    rows = derive_rows(info(*torch, *fake), records)
    assert [(row.replica, row.speedup) for row in rows] == [(1, 1.0), (2, 1.0), (1, 3.0), (2, 4.0)]
    assert derive_rows(info(CELL), [])[0].replica is None


def test_without_the_baseline_there_is_none():
    assert speedups([], OTHERS[:1]) == [None, None]


@pytest.mark.parametrize(
    "changes",
    [{"evidence": evidence(TORCH, threads=1)}, {"parity": failed_parity()}, {"evidence": evidence(TORCH, layers=())}],
)
def test_a_baseline_that_is_of_something_else_is_none(changes):
    baseline = [record(TORCH, number, session(TORCH, block("compute", 6.0), **changes)) for number in range(6)]
    assert speedups(baseline, OTHERS[:1]) == [None, None]


def test_a_row_without_a_figure_has_no_speed_up():
    records = [*rounds(TORCH, [6.0] * 6), record(CELL, 0, failure=Failure(stage="open", status="failed", reason="no"))]
    assert derive_rows(info(TORCH, CELL), records)[1].speedup is None


# Whatever happened


@st.composite
def odd_rounds(draw: st.DrawFn) -> list[RoundRecord]:
    sessions = st.sampled_from(
        [
            session(CELL),
            session(CELL, block("compute", 1.0), block("warmup", 2.0, stop_reason="limit")),
            session(CELL, block("throughput", 3.0)),
            session(CELL, parity=failed_parity()),
            session(CELL, evidence=evidence(CELL, layers=(), batch_size=0, placements={}, device="")),
        ]
    )
    failures = st.none() | st.builds(
        Failure, stage=st.text(max_size=3), status=st.sampled_from(["failed", "timeout"]), reason=st.text(max_size=5)
    )
    count = draw(st.integers(0, 4))
    return [
        record(CELL, number, *draw(st.lists(sessions, max_size=2)), failure=draw(failures)) for number in range(count)
    ]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # a busy machine is no fault of the rounds
@given(odd_rounds())
def test_whatever_happened_there_is_one_row_with_a_status_of_the_table(records: list[RoundRecord]):
    row = row_of(records, rounds=4)
    assert row.status in STATUSES
    assert row.status == "ok" or row.reasons
    figures = [row.latency_ms, row.throughput_img_s, row.end_to_end_ms]
    assert all(figure is None or (math.isfinite(figure) and figure > 0) for figure in figures)
    assert row.rounds == sum(found.failure is None for found in records)


def test_wrong_outputs_after_timing_fail_the_row():
    latency, throughput = timed(CELL, 0, 1.0).sessions
    wrong = replace(latency.blocks[1], wrong="output 0 alone has an error of 1.4 of the signal")
    damaged = replace(latency, blocks=(latency.blocks[0], wrong, *latency.blocks[2:]))
    row = row_of([record(CELL, 0, damaged, throughput), *rounds(CELL, [1.0] * 6)[1:]])
    assert row.status == "parity_failed"
    assert "after a timed compute block: output 0 alone has an error of 1.4 of the signal" in (row.reasons or "")
