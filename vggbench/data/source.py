"""Where the images are from that a network is verified and timed on. The standard library only: a plan carries it."""

from __future__ import annotations

from dataclasses import dataclass

SEED = 20140904  # not 0, which weights are drawn from by default; the day that the VGG paper appeared
SYNTHETIC = f"synthetic 1/f, seed {SEED}"
_HASH_CHARACTERS = 12  # of a hash that is shown


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """A data set that images are taken from.

    Attributes:
        name: with the split.
        sha256: of its content.
    """

    name: str
    sha256: str

    @property
    def text(self) -> str:
        """The source as rows have it."""
        return f"{self.name} {self.sha256[:_HASH_CHARACTERS]}"
