"""The command line, called inside the test's process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from vggbench.__main__ import main


@dataclass(frozen=True)
class Said:
    """What a command ended in and said; `message` is the last line of stderr."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        return self.err.splitlines()[-1] if self.err else ""


CommandLine = Callable[..., Said]


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Return a function that runs `vggbench` with arguments."""

    def call(*arguments: object) -> Said:
        with pytest.raises(SystemExit) as ending:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert isinstance(ending.value.code, int)
        return Said(ending.value.code, printed.out, printed.err)

    return call
