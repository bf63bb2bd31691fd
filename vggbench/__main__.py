"""`python -m vggbench` and the `vggbench` command: runs the app and turns errors into one line and an exit code."""

from __future__ import annotations

import gc
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_READER_GONE = 141  # 128 + SIGPIPE: what a shell says of a program whose reader left, and no verdict of ours
_OUTPUT_LOST = 74  # EX_IOERR of sysexits.h: what was to be printed cannot be written; no verdict of ours either
_INTERRUPTED = 130  # what `Interrupted` says, before it can be imported
# What else asks a process to end: a scheduler, a container, a terminal that is closed.
_ENDING = ("SIGTERM", "SIGHUP")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ends the process with the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    if not _has_output():
        sys.exit(_OUTPUT_LOST)
    with _ended_as_by_ctrl_c():
        try:
            code = _run([argument for argument in given if argument != "--debug"], debug=debug)
        except KeyboardInterrupt:  # while the app was still being imported; later it makes this `Interrupted`
            _complain("interrupted")
            code = _INTERRUPTED
    gc.freeze()  # memory goes back with the process; searching torch's million objects for garbage takes a second first
    sys.exit(_flushed(code))


def _run(arguments: list[str], *, debug: bool) -> int:
    from vggbench.cli.app import app
    from vggbench.errors import CellError, Interrupted, VggbenchError

    try:
        _check_working_directory()
        with _notes():
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
    except MemoryError:
        if debug:
            raise
        _complain("memory ran out; what a run had measured is kept, and --resume goes on with it")
        return CellError.exit_code
    except OSError as error:
        if debug or error.filename is not None:  # of a file and not of a stream: a defect
            raise
        return _lost(error)
    return 0


def _check_working_directory() -> None:
    from vggbench.errors import RequestError

    try:
        os.getcwd()  # noqa: PTH109 - asked whether it is there, not where
    except FileNotFoundError:
        raise RequestError("the working directory does not exist any more; change to another") from None


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Let the signals that ask for an end do what Ctrl-C does: what was found is written, and workers are ended.

    One that is ignored, as under nohup, stays ignored.
    """
    numbers = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]  # Windows has no SIGHUP
    mine = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in mine:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def _has_output() -> bool:
    """Say whether there is a stdout; open on nothing whatever of the three streams the caller has closed.

    The next file that is opened would get the stream's number, and what libraries print would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    if sys.stderr is None:  # print would take stdout instead
        sys.stderr = os.fdopen(2, "w", encoding="utf-8")
    if sys.stdout is None:
        _say("stdout is closed; redirect it to /dev/null to print nothing")
        return False
    return True


@contextmanager
def _notes() -> Iterator[None]:
    """Say our own warnings as one line each; those of libraries go the usual way."""
    from vggbench.errors import VggbenchWarning

    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **rest: Any) -> None:
            if issubclass(category, VggbenchWarning):
                _complain(f"note: {message}")
            else:
                usual(message, category, *place, **rest)

        warnings.simplefilter("always", VggbenchWarning)
        warnings.showwarning = show
        yield


def _complain(text: str) -> None:
    _flushed(0)  # what was said before comes before
    _say(text)


def _say(text: str) -> None:
    with suppress(OSError):
        print("vggbench:", " ".join(text.splitlines()), file=sys.stderr)


def _flushed(code: int) -> int:
    """Return the code; another one if what was printed did not arrive."""
    try:
        sys.stderr.flush()
    except OSError:  # nobody can be told
        _drop(sys.stderr.fileno())
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop(sys.stdout.fileno())
        return _READER_GONE
    except OSError as error:
        lost = _lost(error)
        return code or lost
    return code


def _lost(error: OSError) -> int:
    _drop(sys.stdout.fileno())
    _say(f"what was to be printed cannot be written: {error.strerror}")
    return _OUTPUT_LOST


def _drop(stream: int) -> None:
    """Lead a stream to nowhere: what is left in its buffer would complain again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


if __name__ == "__main__":
    main()
