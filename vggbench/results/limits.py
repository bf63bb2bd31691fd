"""How near a row comes to what is possible: by its machine's ceilings, and by its own figures. No torch, no pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from vggbench.measure.saturation import most_productive
from vggbench.measure.validity import Finding
from vggbench.models.spec import IMAGE_CHANNELS
from vggbench.plan import Cell
from vggbench.results.run_info import Prepared

OVERLAP_DOUBT = 1.10  # latency and throughput are timed one after the other, on a machine that moves meanwhile


def in_flight(cell: Cell, prepared: Prepared) -> int:
    """Return how many requests are in flight while the cell's throughput is measured."""
    return most_productive(prepared.in_flight_tried, cell.in_flight)


def overlap_findings(figures: Mapping[str, Any], *, batch_size: int, requests: int) -> list[Finding]:
    """Hold throughput x latency / batch, the mean number of requests in flight (Little's law), against those sent.

    A request among others takes no less time than alone, so that the product of both cannot exceed them.
    """
    rate, latency = figures["throughput_img_s"], figures["latency_ms"]
    if rate is None or latency is None:
        return []
    least = (figures["throughput_low_img_s"] or rate) * (figures["latency_low_ms"] or latency) / 1e3 / batch_size
    if least <= requests * OVERLAP_DOUBT:
        return []
    text = (
        f"throughput x latency means {least:.2f} requests in flight where {requests} were sent: the machine was faster "
        "while throughput was measured; give more --rounds on a quieter machine"
    )
    return [Finding("noisy", text)]


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
