"""The table of versions that go together: in README as in the code, and in the files that pin such a set."""

from __future__ import annotations

import re

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.meta.repository import ROOT
from vggbench.environment.compatibility import DOCUMENT, HEADINGS, MATRIX, PACKAGE, SEEN, Row, best_row, markdown

ROWS = [pytest.param(row, id=f"cuda{row.cuda_major}") for row in MATRIX]


def pinned(row: Row) -> dict[str, Requirement]:
    lines = (ROOT / row.constraints).read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert len({one.name for one in found}) == len(found)
    return {one.name: one for one in found}


def version_of(requirement: Requirement) -> Version:
    (only,) = requirement.specifier
    assert only.operator == "=="
    return Version(only.version)


def test_readme_shows_the_table_of_the_code() -> None:
    assert markdown() in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("row", ROWS)
def test_every_cell_says_how_it_is_known(row: Row) -> None:
    for name in HEADINGS:
        known = getattr(row, name)
        assert known.text
        assert known.how in (SEEN, PACKAGE, DOCUMENT)


def test_rows_go_from_the_newest_to_the_oldest() -> None:
    assert [row.cuda_major for row in MATRIX] == sorted((row.cuda_major for row in MATRIX), reverse=True)
    assert [row.first_branch for row in MATRIX] == sorted((row.first_branch for row in MATRIX), reverse=True)


@pytest.mark.parametrize(("cuda", "found"), [(14, 13), (13, 13), (12, 12), (11, None)])
def test_a_driver_gets_the_newest_row_that_it_serves(cuda: int, found: int | None) -> None:
    row = best_row(cuda)
    assert (row.cuda_major if row else None) == found


@pytest.mark.parametrize("row", ROWS)
def test_what_cells_say_is_what_is_compared_with(row: Row) -> None:
    assert row.driver.text.startswith(f"{row.first_driver} ")
    first, beyond = row.onnxruntime
    last = (beyond[0], beyond[1] - 1)
    assert row.onnxruntime_gpu.text == f"{first[0]}.{first[1]} to {last[0]}.{last[1]}"
    lowest, highest = row.capabilities
    assert row.gpu.text.startswith(f"{lowest[0]}.{lowest[1]} to {highest[0]}.{highest[1]}")


@pytest.mark.parametrize("row", ROWS)
def test_pinned_versions_are_of_the_row(row: Row) -> None:
    found = pinned(row)
    first, beyond = row.onnxruntime
    assert first <= version_of(found["onnxruntime-gpu"]).release[:2] < beyond
    oldest, newest = re.findall(r"\d+\.\d+", row.torch.text)[:2]
    assert Version(oldest).release <= version_of(found["torch"]).release[:2] <= Version(newest).release
    local = version_of(found["torch"]).local
    assert local is None if row is MATRIX[0] else str(local).startswith(f"cu{row.cuda_major}")
    assert version_of(found["torchvision"]).local == local
    full = found[f"tensorrt-cu{row.cuda_major}"].specifier
    assert full.contains("10.16.1.11")
    assert not full.contains("11.4.0.106")  # which onnxruntime-gpu's provider cannot load
    assert f"tensorrt-rtx-cu{row.cuda_major}" in found


@pytest.mark.parametrize("row", ROWS)
def test_pinned_versions_are_those_that_vggbench_takes(row: Row) -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {one.name: one for one in map(Requirement, project["dependencies"])}
    for name, requirement in pinned(row).items():
        if name in wanted:
            assert wanted[name].specifier.contains(version_of(requirement)), name


@pytest.mark.parametrize("row", ROWS)
def test_constraints_name_no_address(row: Row) -> None:
    text = (ROOT / row.constraints).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-", text, re.MULTILINE)
