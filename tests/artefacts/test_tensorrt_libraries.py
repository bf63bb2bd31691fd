from __future__ import annotations

from importlib import metadata

import pytest

from vggbench.artefacts import tensorrt_libraries
from vggbench.artefacts.tensorrt_libraries import Library, examine, find_library, installed
from vggbench.errors import ExportError, RequestError


@pytest.fixture
def distributions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is installed, by name; empty at first."""
    found: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in found:
            raise metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(tensorrt_libraries, "library_version", lambda module: f"of {module}")
    return found


def test_any_distribution_of_a_library_will_do(distributions: dict[str, str]) -> None:
    assert installed("tensorrt") is None
    distributions["tensorrt-cu12"] = "10.16"
    assert installed("tensorrt") == find_library("tensorrt") == Library("tensorrt", "tensorrt", "10.16")
    assert installed("tensorrt-rtx") is None


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("tensorrt-rtx", r"pip install 'vggbench\[rtx\]'$"),
        ("tensorrt", r"pip install 'vggbench\[trt10\]' or pip install 'vggbench\[trt11\]'$"),
    ],
)
def test_what_is_not_installed_is_refused_with_the_way_to_get_it(
    distributions: dict[str, str], name: str, remedy: str
) -> None:
    with pytest.raises(RequestError, match=rf"^{name} is not installed.*{remedy}"):
        find_library(name)


def test_without_any_all_three_are_missing(distributions: dict[str, str]) -> None:
    found = examine()
    assert [(one.label, one.version, one.reason) for one in found] == [
        ("tensorrt-rtx", "", "not installed"),
        ("tensorrt 10", "", "not installed"),
        ("tensorrt 11", "", "not installed"),
    ]
    assert [one.remedy for one in found] == [f"pip install 'vggbench[{extra}]'" for extra in ("rtx", "trt10", "trt11")]


def test_one_major_version_stands_in_the_others_place(distributions: dict[str, str]) -> None:
    distributions |= {"tensorrt": "11.4.0", "tensorrt-rtx-cu13": "1.7"}
    rtx, ten, eleven = examine()
    assert (rtx.version, rtx.reason, rtx.remedy) == ("of tensorrt_rtx", "", "")
    assert (eleven.version, eleven.reason) == ("of tensorrt", "")
    assert ten.version == ""
    assert ten.reason == "tensorrt 11.4.0 is installed in its place"
    assert "vggbench[trt10]" in ten.remedy


def test_one_that_cannot_be_imported_says_why(distributions: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(module: str) -> str:
        raise ExportError(f"{module} cannot be imported: libnvinfer.so.10")

    distributions["tensorrt"] = "10.13.3"
    monkeypatch.setattr(tensorrt_libraries, "library_version", broken)
    _rtx, ten, _eleven = examine()
    assert (ten.version, ten.reason) == ("", "tensorrt cannot be imported: libnvinfer.so.10")
    assert ten.remedy.endswith("--force-reinstall")
