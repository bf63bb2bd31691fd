"""What a machine could do at best, from ceilings and a network's layers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggbench.measure.roofline import Ceiling, Work, arithmetic_intensity, attainable, best, layer_works
from vggbench.models.layers import mac_layers
from vggbench.models.spec import make_spec


def ceiling(rate: float, precision: str = "fp32", quantity: str = "compute") -> Ceiling:
    return Ceiling(
        quantity=quantity,
        precision=precision,
        library="torch",
        kernel="gemm",
        rate=rate,
        low=rate,
        high=rate,
        measured_at="2026-01-01T00:00:00+00:00",
    )


def works_of(variant: str, batch_size: int, precision: str) -> list[Work]:
    spec = make_spec(variant)
    layers = [(layer.macs, layer.parameters) for layer in mac_layers(spec)]
    return layer_works(layers, input_elements=3 * 224**2, outputs=1000, batch_size=batch_size, precision=precision)


def test_the_fastest_of_its_kind_counts() -> None:
    found = [ceiling(1), ceiling(3), ceiling(9, "bf16"), ceiling(20, "", "bandwidth")]
    assert best(found, "compute", "fp32") == ceiling(3)
    assert best(found, "bandwidth") == ceiling(20, "", "bandwidth")
    assert best(found, "compute", "fp16") is None


def test_the_work_of_vgg16() -> None:
    works = works_of("vgg16", 1, "fp32")
    assert sum(work.flops for work in works) == 2 * 15_470_264_320
    assert sum(work.bytes for work in works) == 4 * (138_357_544 + 3 * 224**2 + 1000)


def test_a_batch_repeats_the_arithmetic_and_not_the_weights() -> None:
    one, eight = works_of("vgg16", 1, "fp32"), works_of("vgg16", 8, "fp32")
    assert sum(work.flops for work in eight) == 8 * sum(work.flops for work in one)
    assert [work.bytes for work in eight[1:-1]] == [work.bytes for work in one[1:-1]]
    assert arithmetic_intensity(eight) > 7 * arithmetic_intensity(one)


def test_short_types_halve_the_weights_and_leave_the_images() -> None:
    full, half = works_of("vgg16", 1, "fp32"), works_of("vgg16", 1, "bf16")
    assert [work.bytes for work in half[1:-1]] == [work.bytes / 2 for work in full[1:-1]]
    assert half[0].bytes > full[0].bytes / 2


def test_layers_add_up_each_by_what_binds_it() -> None:
    found = attainable([Work(100, 1), Work(1, 50), Work(10, 1)], flops_per_s=10, bytes_per_s=10)
    assert found.seconds == pytest.approx(10 + 5 + 1)
    assert found.bound_by == "compute"
    assert attainable([Work(10, 1), Work(1, 50)], flops_per_s=10, bytes_per_s=10).bound_by == "bandwidth"


def test_a_fast_device_at_batch_1_is_bound_by_its_memory() -> None:
    works = works_of("vgg16", 1, "fp16")
    assert attainable(works, flops_per_s=800e12, bytes_per_s=4.8e12).bound_by == "bandwidth"
    assert attainable(works, flops_per_s=0.3e12, bytes_per_s=15e9).bound_by == "compute"


@given(
    st.lists(st.builds(Work, st.floats(1, 1e15), st.floats(1, 1e12)), min_size=1, max_size=20),
    st.floats(1e6, 1e15),
    st.floats(1e6, 1e13),
)
def test_never_less_than_either_side_alone(works: list[Work], flops_per_s: float, bytes_per_s: float) -> None:
    seconds = attainable(works, flops_per_s=flops_per_s, bytes_per_s=bytes_per_s).seconds
    compute = sum(work.flops for work in works) / flops_per_s
    traffic = sum(work.bytes for work in works) / bytes_per_s
    assert max(compute, traffic) * (1 - 1e-9) <= seconds <= (compute + traffic) * (1 + 1e-9)
