"""Every error a user can cause, each with the exit code it ends in.

Imports nothing of vggbench. The tree:

    VggbenchError                  1
    ├── CheckFailed                1   parity, regression, audit
    ├── RequestError               2   a bad option, file, plan; something asked for by name is not there
    │   ├── UnknownVariantError
    │   ├── WeightsError           a weights file that does not fit or cannot be read
    │   ├── DataError              images or a data set that cannot be read
    │   ├── CalibrationError       images that say nothing about a network's activations
    │   ├── ArtefactError          files that are not what their manifest says
    │   ├── DiskSpaceError         the disk has no room for what was asked
    │   ├── PlanError              a plan file with a wrong key, type or value
    │   ├── RecipeError            a recipe of training with a wrong key, type or value
    │   └── RunFolderError         a run folder that cannot be read, written or resumed
    ├── Inconclusive               3
    ├── NothingToJudge             4   nothing matched, every cell unsupported
    │   └── NotComparable          what is to be compared differs in more than what is under test
    ├── CellError                  5   a cell failed to build or to run
    │   ├── ExportError            the exporter failed or wrote something other than what was asked
    │   └── TrainingError          a training that cannot go on: its loss is not a number, memory ran out
    └── Interrupted                130

A message is one line: what was wrong, with the value, and what to do.
"""

from __future__ import annotations

from typing import ClassVar


class VggbenchError(Exception):
    """Base of all errors that end as one line and an exit code."""

    exit_code: ClassVar[int] = 1

    def __str__(self) -> str:
        """Return one line that moves no cursor, whatever a key in a file or a path holds."""
        text = " ".join(super().__str__().splitlines())
        return "".join(character if character.isprintable() else " " for character in text)


class VggbenchWarning(UserWarning):
    """Something to know beside a result; the command line says it as one line on stderr."""


class CheckFailed(VggbenchError):
    """A check ran and the answer is no."""

    exit_code = 1


class RequestError(VggbenchError):
    """The request cannot be carried out as it was put."""

    exit_code = 2


class UnknownVariantError(RequestError):
    """A variant's name that no table has."""


class WeightsError(RequestError):
    """A weights file that cannot be read or does not fit the network."""


class DataError(RequestError):
    """Images or a data set that cannot be read, or are not what they should be."""


class CalibrationError(RequestError):
    """Calibration images that say nothing about a network's activations, or none at all."""


class ArtefactError(RequestError):
    """Files that are not what their manifest says."""


class DiskSpaceError(RequestError):
    """No room on the disk for what was asked, said before any of it is written."""


class PlanError(RequestError):
    """A plan file with a wrong key, type or value."""


class RecipeError(RequestError):
    """A recipe of training that is not there, or has a wrong key, type or value."""


class RunFolderError(RequestError):
    """A run folder that cannot be read, written or resumed."""


class Inconclusive(VggbenchError):
    """The samples do not decide the question."""

    exit_code = 3


class NothingToJudge(VggbenchError):
    """No cell was left to compare or to measure."""

    exit_code = 4


class NotComparable(NothingToJudge):
    """What is to be compared differs in more than what was said to be under test."""


class CellError(VggbenchError):
    """A cell failed to build or to run."""

    exit_code = 5


class ExportError(CellError):
    """The exporter failed, or wrote something other than what was asked."""


class TrainingError(CellError):
    """A training that cannot go on: its loss is not a number, or memory ran out."""


class Interrupted(VggbenchError):
    """The user stopped the run."""

    exit_code = 130


# Which code a command ends in when several apply (the first of these).
PRECEDENCE = (2, 1, 4, 5, 3, 0)


def worst_exit_code(codes: list[int]) -> int:
    """Return the code that takes precedence; 0 for none."""
    return min(codes, key=PRECEDENCE.index, default=0)
