"""What a machine could do at best, and what that means for a network: ceilings, attainable time, which side binds.

The standard library only. The roofline model: a layer takes at least the longer of its arithmetic at the machine's
rate and its memory traffic at the machine's bandwidth (Williams, Waterman and Patterson, "Roofline: an insightful
visual performance model for multicore architectures", Communications of the ACM 52, 2009).

Here layers run one after the other, so that their times add up. The bytes are the least that must move, whatever is
fused or cached: every weight once, the network's input and its output. Activations between layers may stay in caches.
Ceilings are measured and not read from a data sheet; Winograd's convolutions multiply less than is counted here, so a
row may reach more than 100 % of what is attainable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

COMPUTE, BANDWIDTH = "compute", "bandwidth"
# Bytes of one weight or activation, by the precision that a layer computes in.
ELEMENT_BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The fastest that one library was seen to do one thing.

    Attributes:
        quantity: `compute`, in FLOP/s, or `bandwidth`, in bytes/s read and written together.
        precision: of the arithmetic; empty for bandwidth.
        library: the backend that did it.
        kernel: what it did: `gemm`, `convolution`, `copy`.
        rate: median over the repetitions.
        low, high: the slowest and the fastest repetition.
        measured_at: UTC.
    """

    quantity: str
    precision: str
    library: str
    kernel: str
    rate: float
    low: float
    high: float
    measured_at: str


@dataclass(frozen=True, slots=True)
class Work:
    """What one layer has to do for one request: FLOPs, and the least bytes that it moves."""

    flops: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Attainable:
    """The least time of a request on this machine.

    Attributes:
        seconds: sum over the layers of what binds each.
        bound_by: `compute` or `bandwidth`: which of them binds for the longer part of that time.
    """

    seconds: float
    bound_by: str


def best(ceilings: Iterable[Ceiling], quantity: str, precision: str = "") -> Ceiling | None:
    """Return the ceiling with the highest rate; None where none was measured."""
    found = [ceiling for ceiling in ceilings if (ceiling.quantity, ceiling.precision) == (quantity, precision)]
    return max(found, key=lambda ceiling: ceiling.rate, default=None)


def layer_works(
    layers: Sequence[tuple[int, int]], *, input_elements: int, outputs: int, batch_size: int, precision: str
) -> list[Work]:
    """Return each layer's work for a request of `batch_size` images.

    `layers` are (multiply-accumulates of one image, weights) of the layers with any; `input_elements` and `outputs`
    are those of one image, which cross in fp32 whatever the layers compute in.
    """
    element = ELEMENT_BYTES[precision]
    works = [Work(2.0 * macs * batch_size, float(weights * element)) for macs, weights in layers]
    if works:
        fp32 = ELEMENT_BYTES["fp32"]
        works[0] = Work(works[0].flops, works[0].bytes + batch_size * input_elements * fp32)
        works[-1] = Work(works[-1].flops, works[-1].bytes + batch_size * outputs * fp32)
    return works


def attainable(works: Sequence[Work], *, flops_per_s: float, bytes_per_s: float) -> Attainable:
    """Return the least time of a request whose layers run one after the other."""
    compute = [work.flops / flops_per_s for work in works]
    traffic = [work.bytes / bytes_per_s for work in works]
    binding = {
        COMPUTE: sum(one for one, other in zip(compute, traffic, strict=True) if one >= other),
        BANDWIDTH: sum(other for one, other in zip(compute, traffic, strict=True) if one < other),
    }
    return Attainable(sum(binding.values()), max(binding, key=lambda name: binding[name]))


def arithmetic_intensity(works: Sequence[Work]) -> float:
    """Return FLOPs per least byte of the whole request."""
    return sum(work.flops for work in works) / sum(work.bytes for work in works)
