"""A profile as a table: its width, and what is added up in it."""

from __future__ import annotations

from vggbench.report.layers import HEADINGS, profile_lines
from vggbench.results.layers import LAYER, OTHER, OUTSIDE, CellProfile, LayerRow


def row(layer: str, part: str, operation: str, time_ms: float, **values: float | str) -> LayerRow:
    return LayerRow(layer=layer, part=part, operation=operation, time_ms=time_ms, share_percent=time_ms, **values)  # type: ignore[arg-type]


def profile(*rows: LayerRow) -> CellProfile:
    return CellProfile(
        requests=5,
        request_ms=100.0,
        profiled_request_ms=100.0,
        profiler_percent=0.0,
        layers=(*rows, row("outside the layers", OUTSIDE, "", 1.0)),
        unassigned=(),
        macs_agree=True,
        ceiling_gflop_s=None,
        ceiling_gb_s=None,
    )


def test_the_longest_names_seen_fit_a_hundred_columns():
    limits = {"gflop_s": 1234.5, "least_mib": 0.0704, "percent_of_attainable": 143.2, "bound_by": "bandwidth"}
    layer = row("classifier.0", LAYER, "FullyConnected:brgemm_avx512_amx_bf16", 29.03456, **limits)
    reorder = row("Reshape_6098_flatten_reshape_f32_bf16", OTHER, "Reorder:jit_uni_f32", 0.02134)
    lines = [HEADINGS, *profile_lines(profile(layer, reorder))]
    assert sum(max(len(line[column]) for line in lines) + 1 for column in range(len(HEADINGS))) - 1 <= 100


def test_other_operations_are_added_up_by_kind():
    pools = [row(f"features.{number}", OTHER, "MaxPool", 2.0) for number in (3, 7)]
    lines = profile_lines(profile(*pools, row("avgpool", OTHER, "Mean", 0.5), row("x" * 30, OTHER, "Cast", 0.25)))
    assert [line[:4] for line in lines] == [
        ("2 others", "MaxPool", "4.00", "4.0"),
        ("avgpool", "Mean", "0.500", "0.5"),
        ("1 other", "Cast", "0.250", "0.2"),
        ("outside the layers", "", "1.00", "1.0"),
    ]
