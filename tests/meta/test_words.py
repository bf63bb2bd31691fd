"""What no committed file may say: paths of the machine it was written on, hosts that only the author may reach."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.meta.repository import ROOT, committed_files

# Put together here, so that this file does not say them.
FORBIDDEN = re.compile(
    "|".join(
        (
            r"(?<![\w.])/" + r"(?:work|root|home/\w+|Users/\w+|opt/(?:wheels|pypi))/",
            r"\b(?:files\.)?python" + r"hosted\.org",
            r"\bpypi" + r"\.(?:org|python\.org|nvidia\.com)",
            r"\bregistry" + r"\.npmjs\.org",
            r"\bdownload" + r"\.pytorch\.org",
            r"\bdeb" + r"\.debian\.org",
        )
    )
)


def words_in(text: str) -> list[str]:
    return [found.group(0) for found in FORBIDDEN.finditer(text)]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout: which files are committed is unknown")
def test_no_file_speaks_of_the_machine_it_was_written_on() -> None:
    assert committed_files()
    found = {str(path.relative_to(ROOT)): words for path in committed_files() if (words := words_in(_text(path)))}
    assert found == {}


def _text(path: Path) -> str:
    """Return the file's text; a binary one is read as Latin-1, which shows the same ASCII."""
    return path.read_bytes().decode("latin-1")


@pytest.mark.parametrize("text", ["see /" + "work/main", '"/' + 'root/.cache"', "https://" + "pypi" + ".org/simple"])
def test_the_pattern_finds(text: str) -> None:
    assert words_in(text)


@pytest.mark.parametrize("text", ["the net/" + "work/ path", "vggbench/root/x", "https://example.org"])
def test_the_pattern_leaves_alone(text: str) -> None:
    assert words_in(text) == []
