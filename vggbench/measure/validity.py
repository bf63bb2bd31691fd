"""Whether what ran is what was asked: evidence held against the request. Standard library only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from vggbench.backends.base import Evidence

LEAST_SHARE = 0.95  # of the MACs in the requested type; the rest may be a backend's own first or last layer

# Settings that libraries let arithmetic be looser by than the types in the graph say, and what keeps them strict.
STRICT_FLAGS = {
    "float32_matmul_precision": {"highest"},
    "matmul_fp32_precision": {"none", "ieee"},
    "conv_fp32_precision": {"none", "ieee"},
    "rnn_fp32_precision": {"none", "ieee"},
    "onednn_fpmath_mode": {"", "STRICT"},
    "cuda_matmul_fp32_precision": {"ieee"},
    "cuda_conv_fp32_precision": {"ieee"},
    "cuda_rnn_fp32_precision": {"ieee"},
    "nvidia_tf32_override": {"", "0"},
}
# The same of products of the other types: short ones are to be summed in fp32.
OTHER_FLAGS = {
    "fp16": {"cuda_fp16_reduction": {"False"}, "cuda_fp16_accumulation": {"False"}},
    "bf16": {"cuda_bf16_reduction": {"False"}},
    "tf32": {"nvidia_tf32_override": {"", "1"}},  # 0 forbids it whatever a library is told
}

# From the gravest to none; a row has the gravest that applies.
STATUSES = (
    "failed",
    "timeout",
    "unsupported",
    "parity_failed",
    "precision_mismatch",
    "fallback",
    "throttled",
    "contended",
    "bimodal",
    "drifting",
    "unsteady",
    "noisy",
    "ok",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a row: the status it asks for, and why, with what to do."""

    status: str
    reason: str


def gravest(findings: list[Finding]) -> str:
    """Return the gravest status among the findings; `ok` for none."""
    return min((finding.status for finding in findings), key=STATUSES.index, default="ok")


def is_of_what_was_asked(status: str | None) -> bool:
    """Say whether a row's figures are of what was asked for, if perhaps noisy: nothing failed or ran otherwise."""
    return STATUSES.index(status or "ok") > STATUSES.index("fallback")


def precision_shares(evidence: Evidence) -> dict[str, float]:
    """Return the share of the MACs seen by the type they were done in, largest first."""
    macs: Counter[str] = Counter()
    for layer in evidence.layers:
        macs[layer.precision] += layer.macs
    total = macs.total()
    return {precision: count / total for precision, count in macs.most_common()} if total else {}


def judge_evidence(
    evidence: Evidence,
    *,
    precision: str,
    device: str,
    batch_size: int,
    threads: int,
    macs: int,
    kept_fp32_macs: int = 0,
) -> list[Finding]:
    """Return what does not fit the request.

    `macs` are those of one image by the layer walk, `kept_fp32_macs` those among them of layers that were to stay fp32.
    """
    return [
        finding
        for finding in (
            _judge_coverage(evidence, macs * batch_size),
            _judge_precision(evidence, precision, kept_fp32_macs / macs if macs else 0.0),
            _judge_flags(evidence, precision),
            _judge_placement(evidence, device),
            _judge_batch(evidence, batch_size),
            _judge_threads(evidence, threads),
        )
        if finding is not None
    ]


def _judge_coverage(evidence: Evidence, expected_macs: int) -> Finding | None:
    """A proof over half of the work is no proof; and an empty one would hold for anything."""
    seen = sum(layer.macs for layer in evidence.layers)
    if seen >= LEAST_SHARE * expected_macs:
        return None
    share = seen / expected_macs if expected_macs else 0.0
    return Finding("precision_mismatch", f"the evidence covers {share:.0%} of the MACs; the rest is not proven")


def _judge_precision(evidence: Evidence, precision: str, kept_fp32_share: float) -> Finding | None:
    shares = precision_shares(evidence)
    asked = {precision: 1 - kept_fp32_share} | ({"fp32": kept_fp32_share} if kept_fp32_share else {})
    if all(shares.get(name, 0.0) >= LEAST_SHARE * share for name, share in asked.items()):
        return None
    ran = ", ".join(f"{share:.0%} in {name}" for name, share in shares.items()) or "nothing"
    text = f"{precision} with {kept_fp32_share:.0%} of the MACs kept in fp32" if kept_fp32_share else precision
    return Finding(
        "precision_mismatch", f"{text} was asked, of the MACs ran {ran}; ask for what the device does natively"
    )


def _judge_flags(evidence: Evidence, precision: str) -> Finding | None:
    """The types of a layer's tensors are what they are also where the library may round its products to less."""
    strict = STRICT_FLAGS if precision == "fp32" else OTHER_FLAGS.get(precision, {})
    loose = [f"{name}={value}" for name, value in evidence.flags.items() if value not in strict.get(name, {value})]
    if not loose:
        return None
    what = "forbids it" if precision == "tf32" else "lets products be less"
    text = f"{precision} was asked, but {', '.join(loose)} {what}"
    return Finding("precision_mismatch", f"{text}; unset what sets it")


def _judge_placement(evidence: Evidence, device: str) -> Finding | None:
    if evidence.device == device and len(evidence.placements) == 1:
        return None
    where = ", ".join(f"{count} nodes on {name}" for name, count in evidence.placements.items()) or "nowhere"
    return Finding(
        "fallback", f"{device} was asked, {where} ({evidence.device}) ran; `vggbench doctor` says what is missing"
    )


def _judge_batch(evidence: Evidence, batch_size: int) -> Finding | None:
    if evidence.batch_size == batch_size:
        return None
    return Finding("failed", f"batch {batch_size} was asked, batch {evidence.batch_size} ran; use a smaller batch")


def _judge_threads(evidence: Evidence, threads: int) -> Finding | None:
    if evidence.threads == threads:
        return None
    return Finding(
        "fallback", f"{threads} threads were asked, the backend used {evidence.threads}; set --threads to that"
    )
