"""Errors become one line and an exit code; `python -m vggbench` is the same command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vggbench import errors
from vggbench.__main__ import main
from vggbench.version import VERSION

MODULE = [sys.executable, "-m", "vggbench"]


def ended(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    assert isinstance(ending.value.code, int)
    return ending.value.code


@pytest.fixture
def derive(monkeypatch: pytest.MonkeyPatch):
    """Make `vggbench report` end in an error of the test's choice."""

    def set_error(error: BaseException) -> list[str]:
        def raise_it(_folder):
            print("before")
            raise error

        monkeypatch.setattr("vggbench.report.derive.derive_again", raise_it)
        return ["report", "somewhere"]

    return set_error


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.VggbenchError, 1),
        (errors.CheckFailed, 1),
        (errors.RunFolderError, 2),
        (errors.Inconclusive, 3),
        (errors.NothingToJudge, 4),
        (errors.CellError, 5),
        (errors.Interrupted, 130),
    ],
)
def test_every_error_is_one_line_and_its_code(derive, capsys, kind: type[Exception], code: int):
    assert ended(derive(kind("this is\nwrong\r\n"))) == code
    printed = capsys.readouterr()
    assert printed.out == "before\n"
    assert printed.err == "vggbench: this is wrong\n"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_shows_the_traceback_wherever_it_stands(derive, place: int):
    arguments = derive(errors.CheckFailed("no"))
    arguments.insert(place, "--debug")
    with pytest.raises(errors.CheckFailed):
        main(arguments)


def test_a_defect_is_not_hidden(derive):
    with pytest.raises(ZeroDivisionError):
        main(derive(ZeroDivisionError()))


def test_without_memory_it_is_one_line(derive, capsys):
    assert ended(derive(MemoryError())) == 5
    assert capsys.readouterr().err.startswith("vggbench: memory ran out; ")


def test_ctrl_c(derive, capsys):
    assert ended(derive(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "vggbench: interrupted\n"


def test_ctrl_c_before_the_app_is_there(monkeypatch: pytest.MonkeyPatch, capsys):
    def interrupt(*_given: object, **_options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("vggbench.__main__._run", interrupt)
    with pytest.raises(SystemExit) as ending:
        main(["list"])
    assert ending.value.code == errors.Interrupted.exit_code
    assert capsys.readouterr().err == "vggbench: interrupted\n"


def test_a_good_end(capsys):
    assert ended(["--version"]) == 0
    assert capsys.readouterr().out == f"vggbench {VERSION}\n"


def test_without_arguments_it_is_those_of_the_process(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vggbench", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert VERSION in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["fly"], ["run", "--colour"], ["run", "--rounds", "six"], ["report"]])
def test_a_wrong_command_line_is_2(arguments: list[str], capsys):
    assert ended(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_module_is_the_command():
    answer = subprocess.run([*MODULE, "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout == f"vggbench {VERSION}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break otherwise there")
@pytest.mark.parametrize("arguments", [["--version"], ["list", "--json"], ["show", "vgg11"]])
def test_a_reader_that_left_is_no_error_and_no_success(arguments: list[str]):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        answer = subprocess.run(
            [*MODULE, *arguments], stdout=pipe, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert (answer.returncode, answer.stderr) == (141, "")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break otherwise there")
def test_a_verdict_without_a_reader_is_still_a_verdict():
    reading, writing = os.pipe()
    os.close(reading)
    code = (
        "import sys; from vggbench import errors; from vggbench.report import derive as module\n"
        "def derive(folder): print('before'); raise errors.CheckFailed('no')\n"
        "module.derive_again = derive\n"
        "from vggbench.__main__ import main; main(['report', 'x'])"
    )
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with os.fdopen(writing, "w") as pipe:
        answer = subprocess.run(
            [sys.executable, "-c", code],
            env=buffered,
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert (answer.returncode, answer.stderr) == (1, "vggbench: no\n")
