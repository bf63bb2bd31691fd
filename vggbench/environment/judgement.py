"""What disturbs timings, judged from the facts that were read: a plain sentence and a remedy each.

Standard library only.
"""

from __future__ import annotations

from vggbench.environment.noise import OTHER_CPU_CORES
from vggbench.environment.records import Hardware, NoiseFacts, NoiseSource

# On average every fourth core has a second thread that wants it; the minute's average forgets slowly.
LOAD_PER_CORE = 0.25
# One tick of a two-core machine's window is 1.7 %: below is rounding.
STEAL_PERCENT = 2.0


def judge(facts: NoiseFacts, hardware: Hardware) -> list[NoiseSource]:
    """Return what disturbs timings, gravest first; empty when nothing that was read does."""
    found = (
        _other_processes(facts),
        _load(facts, hardware),
        _quota(hardware),
        _throttled(facts),
        _steal(facts),
        _governor(facts),
        _turbo_on(facts),
        _hybrid(hardware),
        _swap(facts),
        _hypervisor(facts),
    )
    return [source for source in found if source]


def unreadable(facts: NoiseFacts) -> list[str]:
    """Return what this system does not tell, so that silence about it is not taken for quiet."""
    names = {
        "load average": facts.load_average_1min,
        "frequency governor": facts.governors,
        "turbo": facts.turbo,
        "cgroup throttling": facts.throttled_periods,
        "hypervisor": facts.hypervisor,
        "swap": facts.swap_used_bytes,
        "CPU time stolen by the hypervisor": facts.activity.steal_percent,
    }
    return [name for name, value in names.items() if value is None]


def _other_processes(facts: NoiseFacts) -> NoiseSource | None:
    cores = facts.activity.other_cpu_cores
    if cores < OTHER_CPU_CORES:
        return None
    names = ", ".join(facts.activity.busiest)
    who = f" ({names})" if names else " (none of them visible from here: another container or the host)"
    return NoiseSource(
        "other processes",
        f"Other processes keep {cores:.1f} cores busy{who}.",
        "End them or wait until they are done; compare only figures of one run.",
    )


def _load(facts: NoiseFacts, hardware: Hardware) -> NoiseSource | None:
    load, cores = facts.load_average_1min, hardware.logical_cores or hardware.usable_logical_cores
    if load is None or load <= LOAD_PER_CORE * cores:
        return None
    return NoiseSource(
        "load",
        f"In the last minute {load:.2f} threads on average wanted one of {cores} cores.",
        "Wait a minute after builds and installations; look with `uptime` and `top`.",
    )


def _quota(hardware: Hardware) -> NoiseSource | None:
    quota = hardware.cgroup_cpu_quota
    if quota is None or quota >= hardware.usable_logical_cores:
        return None
    return NoiseSource(
        "cgroup quota",
        f"The cgroup grants {quota:g} cores of CPU time, spread over {hardware.usable_logical_cores} CPUs: "
        "a thread that used up its share is stopped until the next period.",
        f"Give the container whole CPUs instead of a quota (`--cpuset-cpus`), or run with --threads {int(quota) or 1}.",
    )


def _throttled(facts: NoiseFacts) -> NoiseSource | None:
    if not facts.throttled_periods:
        return None
    waited = "" if facts.throttled_s is None else f", {facts.throttled_s:.1f} s in all"
    return NoiseSource(
        "cgroup throttling",
        f"The cgroup's CPU quota ran out {facts.throttled_periods} times since it began{waited}.",
        "Raise the container's CPU limit or use fewer threads.",
    )


def _steal(facts: NoiseFacts) -> NoiseSource | None:
    steal = facts.activity.steal_percent
    if steal is None or steal < STEAL_PERCENT:
        return None
    return NoiseSource(
        "stolen time",
        f"The hypervisor gave {steal:.0f} % of this machine's CPU time to other guests.",
        "Use a dedicated instance, or measure at another time.",
    )


def _governor(facts: NoiseFacts) -> NoiseSource | None:
    slow = [governor for governor in facts.governors or () if governor != "performance"]
    if not slow:
        return None
    return NoiseSource(
        "frequency governor",
        f"The clock follows the load (governor {', '.join(slow)}): the first requests run slower.",
        "sudo cpupower frequency-set -g performance",
    )


def _turbo_on(facts: NoiseFacts) -> NoiseSource | None:
    if not facts.turbo:
        return None
    return NoiseSource(
        "turbo",
        "Turbo is on: the clock depends on temperature and on what the other cores do.",
        "echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost "
        "(Intel: echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo)",
    )


def _hybrid(hardware: Hardware) -> NoiseSource | None:
    if not hardware.hybrid:
        return None
    return NoiseSource(
        "hybrid cores",
        "The usable cores are of different speeds: a figure depends on which of them the threads land on.",
        "Keep to one kind, for example `taskset -c LIST vggbench run`; `lscpu --extended` shows which is which.",
    )


def _swap(facts: NoiseFacts) -> NoiseSource | None:
    # Less than a MiB is left over from the past, not in use.
    if facts.swap_used_bytes is None or facts.swap_used_bytes < 1 << 20:
        return None
    return NoiseSource(
        "swap",
        f"{facts.swap_used_bytes / (1 << 20):.0f} MiB of memory lie in swap: a page that is fetched back takes ms.",
        "Free memory, then `sudo swapoff -a && sudo swapon -a`.",
    )


def _hypervisor(facts: NoiseFacts) -> NoiseSource | None:
    if not facts.hypervisor:
        return None
    return NoiseSource(
        "hypervisor",
        "This is a virtual machine: neighbours share its caches, memory bandwidth and clock, unseen from here.",
        "Compare only cells of one run, whose rounds are interleaved; use bare metal for absolute figures.",
    )
