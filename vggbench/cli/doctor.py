"""`vggbench doctor`: what this machine has, which backends can be used and how to get the others, and what is noisy.

Imports no backend and no TensorRT: each one's library is asked in a process of its own, so a broken one cannot take the
doctor down.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vggbench.artefacts.tensorrt_libraries import Examined
    from vggbench.environment import Environment, Hardware, NoiseSource
    from vggbench.environment.gpu_advice import Finding
    from vggbench.measure.client import BackendProbe

# Columns before a line's text: the longest label and two spaces.
LABEL_WIDTH = 20


def doctor(
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Show hardware, versions, which backends and TensorRTs work here, how to get the others, and what is noisy.

    On a GPU also which driver, CUDA, torch, onnxruntime-gpu and TensorRT go together here, and what to change.
    Exits with 4 if no backend can be used.
    """
    from vggbench.artefacts import tensorrt_libraries
    from vggbench.environment import collect
    from vggbench.environment.gpu_advice import advise, row_for
    from vggbench.environment.gpu_software import read_gpu_software
    from vggbench.environment.gpus import are_hidden, seen_gpus
    from vggbench.environment.nvidia import read_nvidia
    from vggbench.errors import NothingToJudge
    from vggbench.measure.client import probe_all

    # Noise is read first: the probes are noise themselves.
    environment = collect()
    probes, builders = probe_all("cpu"), tensorrt_libraries.examine()
    on_gpu = probe_all("cuda") if seen_gpus() is not None and not are_hidden() else []
    facts, libraries = read_nvidia(), read_gpu_software()
    advice, row = advise(facts, libraries), row_for(facts)
    if json_output:
        found: dict[str, Any] = {
            "backends": [asdict(probe) for probe in probes],
            "tensorrt": [asdict(one) for one in builders],
        }
        found["backends_on_gpu"] = [asdict(probe) for probe in on_gpu]
        found["cuda"] = {
            "driver": asdict(facts),
            "libraries": asdict(libraries),
            "row": None if row is None else asdict(row),
            "advice": [asdict(finding) for finding in advice],
        }
        typer.echo(json.dumps(environment.to_json() | found, indent=2))
    else:
        typer.echo("\n".join(_lines(environment, probes, on_gpu, builders, advice)))
    if not any(probe.available for probe in [*probes, *on_gpu]):
        raise NothingToJudge(
            "no backend can be used on this machine; install one of those that `vggbench doctor` lists"
        )


def _lines(
    environment: Environment,
    probes: Iterable[BackendProbe],
    on_gpu: Sequence[BackendProbe],
    builders: Iterable[Examined],
    advice: Iterable[Finding],
) -> Iterator[str]:
    yield from _section("Hardware", _hardware(environment.hardware))
    yield from _section("Software", _software(environment))
    yield from _section("Backends", (line for probe in probes for line in _backend(probe)))
    if on_gpu:
        yield from _section("Backends on the GPU", (line for probe in on_gpu for line in _backend(probe)))
    yield from _section("TensorRT", (line for builder in builders for line in _builder(builder)))
    yield from _section("CUDA", (line for finding in advice for line in _finding(finding)))
    yield from _section("Noise", _noise(environment))
    if environment.distribution_conflicts:
        yield from _section("Conflicts", (f"  {conflict}" for conflict in environment.distribution_conflicts))


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield typer.style(title, bold=True)
    yield from lines


def _labelled(label: str, text: str) -> str:
    return f"  {label:<{LABEL_WIDTH - 2}}{text}"


def _hardware(hardware: Hardware) -> Iterator[str]:
    yield _labelled("CPU", f"{hardware.cpu_model} ({hardware.architecture})")
    yield _labelled("cores", _cores(hardware))
    yield _labelled("pinning", _pinning(hardware.usable_cores))
    flags = "not listed by this system" if hardware.cpu_flags is None else " ".join(hardware.cpu_flags) or "none"
    yield _labelled("instructions", flags)
    if hardware.caches:
        yield _labelled("caches", ", ".join(f"{name} {_size(size)}" for name, size in hardware.caches.items()))
    yield _labelled("memory", _memory(hardware))
    yield _labelled("GPU", ", ".join(hardware.gpus) or "none seen by an NVIDIA driver")


def _cores(hardware: Hardware) -> str:
    text = f"{hardware.usable_cores} usable"
    if hardware.physical_cores is not None:
        text += f" of {hardware.physical_cores} physical"
    if hardware.logical_cores is not None:
        text += f", {hardware.logical_cores} logical"
    if hardware.cgroup_cpu_quota is not None:
        text += f", the cgroup grants {hardware.cgroup_cpu_quota:g}"
    return text


def _pinning(threads: int) -> str:
    """Say where a run's workers are kept, with the default number of threads."""
    from vggbench.environment.cpu import affinity, choose_cpus
    from vggbench.measure.pinning import can_pin

    if not can_pin():
        return "this system lets no process choose its CPUs; workers run where it puts them"
    return f"workers are kept to CPU {', '.join(map(str, choose_cpus(affinity(), threads)))}"


def _memory(hardware: Hardware) -> str:
    text = f"{_size(hardware.memory_available_bytes)} free of {_size(hardware.memory_total_bytes)}"
    if hardware.cgroup_memory_limit_bytes is not None:
        text += f", the cgroup allows {_size(hardware.cgroup_memory_limit_bytes)}"
    return text


def _size(count: int) -> str:
    for power, unit in ((30, "GiB"), (20, "MiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):.3g} {unit}"
    return f"{count / 1024:.3g} KiB"


def _software(environment: Environment) -> Iterator[str]:
    system = environment.system
    yield _labelled("system", f"{system.os} {system.kernel}, {system.python_implementation} {system.python}")
    yield _labelled("NVIDIA driver", system.driver or "none")
    for name, version in environment.libraries.items():
        if version is not None:
            commit = f", commit {environment.commit}" if name == "vggbench" and environment.commit else ""
            yield _labelled(name, version + commit)
    for name, value in environment.variables.items():
        yield _labelled("variable", f"{name}={value}")
    # Two names of one library: either will do.
    either = {"onnxruntime", "onnxruntime-gpu"}
    found = {name for name, version in environment.libraries.items() if version is not None}
    missing = [name for name in environment.libraries if name not in found | (either if either & found else set())]
    if missing:
        yield _labelled("not installed", ", ".join(missing))


def _backend(probe: BackendProbe) -> Iterator[str]:
    if not probe.available:
        yield _labelled(probe.name, f"cannot be used: {probe.reason}")
        yield _labelled("", f"-> {probe.remedy}")
        return
    native = ", ".join(name for name, reason in probe.precisions.items() if not reason) or "no precision natively"
    yield _labelled(probe.name, f"{probe.version}: {native}")
    for name, reason in probe.precisions.items():
        if reason:
            yield _labelled("", f"not {name}: {reason}")


def _builder(found: Examined) -> Iterator[str]:
    if found.version:
        yield _labelled(found.label, f"{found.version}: {found.purpose}")
        return
    yield _labelled(found.label, f"cannot be used: {found.reason}")
    yield _labelled("", f"-> {found.remedy}; {found.purpose}")


def _finding(finding: Finding) -> Iterator[str]:
    yield _labelled(finding.subject, finding.text)
    if finding.remedy:
        yield _labelled("", f"-> {finding.remedy}")


def _noise(environment: Environment) -> Iterator[str]:
    from vggbench.environment import unreadable

    for source in environment.noise_sources:
        yield from _source(source)
    if not environment.noise_sources:
        yield "  nothing that was read disturbs timings"
    unread = unreadable(environment.noise)
    if unread:
        yield _labelled("not visible here", ", ".join(unread))


def _source(source: NoiseSource) -> Iterator[str]:
    yield _labelled(source.name, source.sentence)
    yield _labelled("", f"-> {source.remedy}")
