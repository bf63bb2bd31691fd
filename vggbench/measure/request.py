"""What a round is asked to do, as plain data that crosses processes as JSON. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long each part of a round takes, in seconds of samples; the floors hold whatever the seconds say."""

    warmup_least_s: float
    warmup_most_s: float
    compute_s: float
    compute_blocks: int
    end_to_end_s: float
    throughput_s: float
    least_samples: int
    wanted_samples: int

    @classmethod
    def of_seconds(cls, seconds: float) -> Timing:
        """Divide a round's measuring time: half to latency, the rest to warm-up, end-to-end and throughput."""
        return cls(
            warmup_least_s=0.15 * seconds,
            warmup_most_s=max(0.5 * seconds, 2.0),  # eight requests of a quarter second, whatever the budget
            compute_s=0.4 * seconds,
            compute_blocks=3,  # the fewest whose median ignores one disturbed block
            end_to_end_s=0.15 * seconds,
            throughput_s=0.3 * seconds,
            least_samples=3,  # a block's median ignores one outlier
            wanted_samples=8,  # of a compute block, where movement is looked for (`stats.is_drifting`)
        )

    @property
    def compute_block_s(self) -> float:
        """Seconds of one compute block."""
        return self.compute_s / self.compute_blocks

    @property
    def copy_s(self) -> float:
        """Seconds of a block of copies to or from a device, each a small part of what is end to end."""
        return 0.1 * self.end_to_end_s

    @property
    def longest_s(self) -> float:
        """How long the longest command may measure, staging between its samples included."""
        longest = max(self.warmup_most_s, self.compute_block_s, self.end_to_end_s, self.throughput_s)
        return 2 * longest  # staging a request takes no longer than the request


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRequest:
    """One cell, one round.

    Attributes:
        cell_id: identity of the cell in the journal.
        round: number of the round, from 0.
        backend, device, precision, batch_size, threads, options: what is opened.
        in_flight: slots of the throughput session.
        artefact: `Artefact.to_json`.
        reference: path of the npz file with `inputs` (float32 NCHW) and `logits` (float64); of a quantised network also
            `exact_logits`, what it gave before.
        reference_sha256: that file's hash.
        tolerance: largest error relative to the signal that passes.
        timing: how long each part takes.
        seed: order of the images.
        timeout_s: how much longer than it measures one command may take before the worker is killed.
        outputs: path of a .npy file that the verified outputs are written to, a row an image; none if it is empty.
    """

    cell_id: str
    round: int
    backend: str
    device: str
    precision: str
    batch_size: int
    threads: int
    in_flight: int
    options: Mapping[str, str]
    artefact: Mapping[str, Any]
    reference: str
    reference_sha256: str
    tolerance: float
    timing: Timing
    seed: int
    timeout_s: float
    outputs: str = ""

    def opening(self, in_flight: int) -> dict[str, Any]:
        """Return the arguments of the worker's `open` command."""
        fields = asdict(self)
        names: tuple[str, ...] = ("backend", "device", "precision", "batch_size", "threads", "options", "artefact")
        names += ("reference", "reference_sha256", "seed")
        return {**{name: fields[name] for name in names}, "in_flight": in_flight}
