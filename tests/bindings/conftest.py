"""The surfaces of the three libraries' bindings, each seen by a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bindings.fetch import COMMAND, FOLDER, VERSIONS
from vggbench.artefacts.tensorrt_libraries import installed

HERE = Path(__file__).parent
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
RTX = "tensorrt-rtx"


def _seen(module: str, folder: Path, libraries: list[Path]) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "surface.py"), module, str(folder), *map(str, libraries)]
    return dict(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def _stubs(version: str, folder: Path) -> list[Path]:
    """Compile one library under the three names that the bindings of a version look for."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to make stubs of TensorRT's libraries")
    made = [folder / f"lib{name}.so.{version.partition('.')[0]}" for name in LIBRARIES]
    for path in made:
        subprocess.run(
            [compiler, "-shared", "-fPIC", f"-Wl,-soname,{path.name}", HERE / "stub.c", "-o", path], check=True
        )
    return made


@pytest.fixture(scope="session", params=[*VERSIONS, RTX])
def surface(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if request.param == RTX:
        if installed(RTX) is None:
            pytest.skip("tensorrt-rtx is not installed: pip install 'vggbench[rtx]'")
        return _seen("tensorrt_rtx", HERE, [])
    folder = FOLDER / request.param
    if not folder.exists():
        pytest.skip(f"TensorRT's bindings {request.param} are not here: {COMMAND} fetches them")
    return _seen("tensorrt_bindings", folder, _stubs(request.param, tmp_path_factory.mktemp("stubs")))
