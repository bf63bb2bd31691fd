"""Everything here needs a GPU that PyTorch can use, and skips with the reason elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from vggbench.environment.gpus import seen_gpus

HERE = Path(__file__).parent
DEVICE = "cuda"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def reason() -> str:
    """Return why no GPU can be used; torch is only asked where one is seen."""
    if seen_gpus() is None:
        return "no NVIDIA GPU is seen here"
    from vggbench.backends.cuda_device import unusable

    found = unusable(DEVICE)
    return "" if found is None else f"{found.reason}; {found.remedy}"


@pytest.fixture(scope="session", autouse=True)
def gpu(reason: str) -> str:
    """Return the device's name in cells."""
    if reason:
        pytest.skip(reason)
    return DEVICE


@pytest.fixture(scope="session")
def exports(gpu: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")
