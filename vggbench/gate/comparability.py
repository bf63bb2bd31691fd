"""Whether stored runs differ in nothing but what is under test. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from vggbench.environment import comparable
from vggbench.errors import NotComparable, RequestError
from vggbench.gate.stored import StoredRun

Differences = Mapping[str, tuple[object, object]]

LONGEST_VALUE = 60  # characters: a list of CPU flags says nothing in an error's line

# What a name of `--changed` stands for: these, or all that begin so.
CHANGES: Mapping[str, tuple[str, ...]] = {
    "driver": ("system.driver",),
    "gpu": ("hardware.gpus", "device_name"),
    "cpu": ("hardware.", "device_name"),
    "memory": ("hardware.memory_",),
    "system": ("system.os", "system.kernel"),
    "python": ("system.python", "system.python_implementation"),
    "variables": ("variables.",),
    "vggbench": ("libraries.vggbench", "commit"),
    "commit": ("commit",),
    "pace": ("plan.round_seconds",),
}
_OF_LIBRARIES = ("libraries.", "backends.")


def differences(base: StoredRun, head: StoredRun) -> dict[str, tuple[object, object]]:
    """Return where two runs differ, their cells and figures apart: both values by dotted name."""
    found = dict(comparable(base.environment, head.environment))
    for name in sorted(base.facts.keys() | head.facts.keys()):
        pair = base.facts.get(name), head.facts.get(name)
        # A backend that only one run has measured is a matter of its cells.
        if pair[0] != pair[1] and not (name.startswith("backends.") and None in pair):
            found[name] = pair
    return found


def under_test(bases: Sequence[StoredRun], head: StoredRun, changed: Sequence[str]) -> dict[str, tuple[object, object]]:
    """Return how base and head differ, all of it in what `changed` names.

    `NotComparable` where base and head differ in anything else, base runs among themselves in anything at all, or the
    runs are of two tools; `RequestError` for a name that stands for nothing.
    """
    allowed = [_meaning(name, [*bases, head]) for name in changed]
    for run in [*bases[1:], head]:
        if run.tool != bases[0].tool:
            raise NotComparable(f"{bases[0].name} is a run of {bases[0].tool}, {run.name} one of {run.tool}")
    for run in bases[1:]:
        _refuse(differences(bases[0], run), bases[0], run, "base runs have to be alike in everything")
    found = differences(bases[0], head)
    other = {name: pair for name, pair in found.items() if not any(means(name) for means in allowed)}
    _refuse(other, bases[0], head, "name with --changed what is under test, and have the rest alike")
    return found


def _refuse(found: Differences, base: StoredRun, head: StoredRun, remedy: str) -> None:
    if found:
        listed = ", ".join(f"{name} ({_text(left)} -> {_text(right)})" for name, (left, right) in found.items())
        raise NotComparable(f"{base.name} and {head.name} differ in {listed}; {remedy}")


def _meaning(name: str, runs: Sequence[StoredRun]) -> Callable[[str], bool]:
    """Return whether a difference is what the name stands for: a group, a library or backend, or a dotted name."""
    if name in CHANGES:
        return lambda found: any(found == part or _begins(found, part) for part in CHANGES[name])
    known = _names(runs)
    if name in known:
        return lambda found: found == name
    if any(_is_of_library(found, name) for found in known):
        return lambda found: _is_of_library(found, name)
    libraries = sorted({found.partition(".")[2] for found in known if found.startswith(_OF_LIBRARIES)})
    choice = ", ".join([*CHANGES, *libraries])
    raise RequestError(f"--changed {name} stands for nothing in these runs; there are {choice}, and dotted names")


def _begins(found: str, part: str) -> bool:
    return part.endswith((".", "_")) and found.startswith(part)


def _is_of_library(found: str, library: str) -> bool:
    """`tensorrt` is also `tensorrt-rtx`, and `torch` the version that the backend `torch-compile` said; not more."""
    part, _, name = found.partition(".")
    return f"{part}." in _OF_LIBRARIES and (name == library or name.startswith((f"{library}-", f"{library}_")))


def _names(runs: Sequence[StoredRun]) -> set[str]:
    """Return the dotted names of everything that must be alike."""
    empty: Mapping[str, object] = {}
    return {name for run in runs for name in [*comparable(run.environment, empty), *run.facts]}


def _text(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
