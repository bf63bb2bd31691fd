"""What a rule says of the rows it looked at. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from vggbench.audit.table import Entry


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one rule looked at: the rows, and the sentence that says how they contradict each other; empty if not."""

    rule: str
    entries: tuple[Entry, ...]
    contradiction: str = ""


Rule = Callable[[Sequence[Entry]], Iterator[Comparison]]
