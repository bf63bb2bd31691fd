"""How near a row comes to what its machine could do at best. No torch, no pandas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vggbench.measure.roofline import (
    BANDWIDTH,
    COMPUTE,
    Ceiling,
    arithmetic_intensity,
    attainable,
    best,
    layer_works,
)
from vggbench.models.spec import IMAGE_CHANNELS
from vggbench.plan import Cell
from vggbench.results.run_info import Prepared


def limits(cell: Cell, prepared: Prepared, ceilings: Sequence[Ceiling], latency_ms: float | None) -> dict[str, Any]:
    """Return the columns of the roofline; those that need a ceiling are left out where it was not measured."""
    if not prepared.works:
        return {}
    works = layer_works(
        prepared.works,
        input_elements=IMAGE_CHANNELS * cell.spec.input_size**2,
        outputs=cell.spec.num_classes,
        batch_size=cell.batch_size,
        precision=cell.precision,
    )
    values: dict[str, Any] = {"flops_per_byte": arithmetic_intensity(works)}
    compute, traffic = best(ceilings, COMPUTE, cell.precision), best(ceilings, BANDWIDTH)
    if compute is None or traffic is None:
        return values
    found = attainable(works, flops_per_s=compute.rate, bytes_per_s=traffic.rate)
    return {
        **values,
        "ceiling_gflop_s": compute.rate / 1e9,
        "ceiling_gb_s": traffic.rate / 1e9,
        "attainable_ms": found.seconds * 1e3,
        "percent_of_attainable": 100e3 * found.seconds / latency_ms if latency_ms else None,
        "bound_by": found.bound_by,
    }
