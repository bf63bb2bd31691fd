"""The two networks of the benchmarks, and places for what they write."""

from __future__ import annotations

from pathlib import Path

import pytest

from vggbench.models.spec import ModelSpec, make_spec

SMALL = make_spec(
    config="16,M,32,M,32,32@1,M,64,M,64,M", batch_norm=True, classifier_width=96, num_classes=10, input_size=64
)
NETWORKS = {"small": SMALL, "vgg16": make_spec("vgg16")}


@pytest.fixture(params=NETWORKS)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    return NETWORKS[request.param]


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for what is made once and read by several; vgg16 takes 1.1 GB of it."""
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="session", autouse=True)
def inductor_cache(tmp_path_factory: pytest.TempPathFactory):
    """Compile into a folder of our own: a user's cache is neither used nor filled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        yield
