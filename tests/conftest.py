"""What tests of several folders share."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.fakes import InlineWorker
from vggbench import environment
from vggbench.runner import Places

# How fast this machine makes examples is not what is tested.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def fake_exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for what the fake backend opens."""
    return tmp_path_factory.mktemp("fake-exports")


@pytest.fixture(scope="session", autouse=True)
def inductor_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of the tests' own for what inductor compiles, in this process and in workers."""
    folder = tmp_path_factory.mktemp("inductor")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session")
def this_environment() -> environment.Environment:
    return environment.collect()


@pytest.fixture
def still_environment(monkeypatch: pytest.MonkeyPatch, this_environment: environment.Environment) -> None:
    """Read the machine once for all tests: watching its other processes takes half a second."""
    monkeypatch.setattr(environment, "collect", lambda: this_environment)


@pytest.fixture
def inline_workers(monkeypatch: pytest.MonkeyPatch, still_environment: None) -> None:
    """Obey commands in this process instead of a worker's: the same protocol, without a process's start."""
    monkeypatch.setattr("vggbench.measure.rounds.WorkerClient", InlineWorker)
    monkeypatch.setattr("vggbench.measure.client.WorkerClient", InlineWorker)
    monkeypatch.setattr(gc, "collect", lambda: 0)  # a block collects garbage first: quick in a worker, not in pytest


@pytest.fixture
def places(tmp_path: Path, fake_exports: Path) -> Places:
    return Places(folder=tmp_path / "run", exports=fake_exports)
