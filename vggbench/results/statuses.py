"""What each status means, where its limit is and what to do: the table in `reports/README.md`. Standard library only.

The limits are those that rows are judged by, so that the page cannot say others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vggbench.measure import disturbance as limits
from vggbench.measure.validity import LEAST_SHARE
from vggbench.results.device import MOST_EXPOSED
from vggbench.results.findings import ENOUGH_ROUNDS, NOISY_PERCENT


@dataclass(frozen=True, slots=True)
class Meaning:
    """When a row has a status, and what to do about it."""

    when: str
    remedy: str


MEANINGS: Mapping[str, Meaning] = {
    "failed": Meaning(
        "Preparing or a round broke off, rounds are missing, another batch size ran, the files timed, verified and "
        "planned differ, or the timed input was not varied (fewer than two different batches, or one buffer).",
        "As the reason says; `--resume` runs what is missing.",
    ),
    "timeout": Meaning("A round gave no answer in time.", "Fewer images or a smaller batch; look at the backend."),
    "unsupported": Meaning(
        "The backend has no native arithmetic of that precision here, or cannot open the network at all.",
        "Ask for another precision or backend.",
    ),
    "parity_failed": Meaning(
        "Outputs were further from the reference than `parity_tolerance`.", "Look into the backend: it is wrong."
    ),
    "precision_mismatch": Meaning(
        f"Less than {LEAST_SHARE:.0%} of the multiply-accumulates were seen in the precision asked for, or a setting "
        "read back from the library allows another.",
        "Ask for what the device does natively; unset what loosens the arithmetic.",
    ),
    "fallback": Meaning(
        "Nodes ran on another provider or device than asked for, or with another number of threads.",
        "`vggbench doctor` says what is missing; set `--threads` to what the backend uses.",
    ),
    "throttled": Meaning(
        f"The cgroup's CPU quota stopped the worker for over {limits.THROTTLED_PERCENT:g} % of its CPU time; the clock "
        f"moved by over {limits.CLOCK_MOVED_PERCENT:g} % between timed blocks; or NVML said after one that power, "
        "temperature or hardware held the GPU's clocks down.",
        "Raise the container's CPU limit or use fewer threads; fix the clock; see to the cooling.",
    ),
    "contended": Meaning(
        f"Other processes had over {limits.OTHER_CPU_PERCENT:g} % of the CPU time of the worker's cores, a hypervisor "
        f"over {limits.STEAL_PERCENT:g} %, or the worker's threads had to give way over "
        f"{limits.SWITCHES_PER_CPU_S:g} times a second on each CPU while others had over "
        f"{limits.OTHERS_AT_WORK_PERCENT:g} %.",
        "End other processes or wait for them; use a dedicated machine; use fewer threads.",
    ),
    "bimodal": Meaning(
        "Rounds fall into two groups that lie apart, or switch between two levels while they last: no one figure "
        "stands for both.",
        f"Give {ENOUGH_ROUNDS} `--rounds` and look at them in `samples.parquet`; fix the clock.",
    ),
    "drifting": Meaning(
        "Rounds near in time are alike, as where they get slower in the course of the run, or the level moves while a "
        "round lasts: rounds are not independent.",
        f"Wait until the machine is at its steady temperature and load; give {ENOUGH_ROUNDS} `--rounds`.",
    ),
    "unsteady": Meaning(
        "Over half of the warm-ups ended at their time limit before requests stopped getting faster; or on a GPU over "
        f"{100 * MOST_EXPOSED:g} % of the requests began before the host had enqueued them.",
        "Give more `--time-budget-s`; for the latter `cuda_graph=on`.",
    ),
    "noisy": Meaning(
        f"The interval of latency or throughput is wider than {NOISY_PERCENT:g} % of the figure to either side, or "
        "the two together would need more requests in flight than were sent.",
        "Give more `--rounds`; measure on a quieter machine.",
    ),
    "ok": Meaning("None of these.", ""),
}


def status_dictionary() -> str:
    """Return the statuses, gravest first, as a Markdown table."""
    lines = [f"| `{status}` | {meaning.when} | {meaning.remedy} |" for status, meaning in MEANINGS.items()]
    return "\n".join(["| status | when | what to do |", "| --- | --- | --- |", *lines]) + "\n"
