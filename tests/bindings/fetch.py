"""Fetch the Python bindings of TensorRT 10 and 11 by pip, without the libraries that they bind: about 1.3 MB each.

Run as `python tests/bindings/fetch.py`, which `.ci/environment test` does. They go into a folder of the environment and
are installed nowhere; tests that use them skip where they are not.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "tensorrt-cu13-bindings"
VERSIONS = ("10.16.1.11", "11.4.0.106")
FOLDER = Path(sys.prefix) / "tensorrt-bindings"
COMMAND = "python tests/bindings/fetch.py"


def fetch(version: str) -> str:
    """Put a version's bindings into its folder, unless they are there; return what pip says where it has none."""
    folder = FOLDER / version
    if folder.exists():
        return ""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--no-deps", "--only-binary=:all:", "--dest", scratch, f"{PACKAGE}=={version}"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if not wheels:
            return answer.stderr.strip().splitlines()[-1] if answer.stderr.strip() else "pip says nothing"
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extractall(Path(scratch) / "unpacked")
        (Path(scratch) / "unpacked").rename(folder)
    return ""


def main() -> None:
    for version in VERSIONS:
        if trouble := fetch(version):
            print(f"tests of {PACKAGE} {version} will be skipped: {trouble}", file=sys.stderr)


if __name__ == "__main__":
    main()
