"""`python -m vggbench` and the `vggbench` command: runs the app and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

_READER_GONE = 141  # 128 + SIGPIPE: what a shell says of a program whose reader left, and no verdict of ours


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ends the process with the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    code = _run([argument for argument in given if argument != "--debug"], debug=debug)
    sys.exit(_flushed(code))


def _run(arguments: list[str], *, debug: bool) -> int:
    from vggbench.cli.app import app
    from vggbench.errors import Interrupted, VggbenchError

    try:
        app(arguments, prog_name="vggbench")
    except SystemExit as ending:
        if isinstance(ending.__context__, BrokenPipeError):  # typer ends with 1 then, which is a verdict of ours
            return _READER_GONE
        code = ending.code if isinstance(ending.code, int) else 0
        if code == Interrupted.exit_code:
            _complain("interrupted")
        return code
    except VggbenchError as error:
        if debug:
            raise
        _complain(str(error))
        return error.exit_code
    return 0


def _complain(text: str) -> None:
    _flushed(0)  # what was said before comes before
    with suppress(BrokenPipeError):
        print("vggbench:", " ".join(text.splitlines()), file=sys.stderr)


def _flushed(code: int) -> int:
    """Return the code; another one if what was printed has no reader any more."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    return code


if __name__ == "__main__":
    main()
