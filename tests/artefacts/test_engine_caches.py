from __future__ import annotations

from pathlib import Path

from vggbench.artefacts.engine_caches import FOLDER, cache_path, keep_cache, read_cache
from vggbench.artefacts.inventory import survey


def test_a_cache_is_of_a_version_on_a_gpu_and_no_artefact(tmp_path: Path) -> None:
    path = cache_path(tmp_path, "tensorrt", "10.16.1.11", "NVIDIA H200 9.0", "timings")
    assert path == tmp_path / FOLDER / "tensorrt-10.16.1.11" / "NVIDIA-H200-9.0" / "timings"
    assert read_cache(path) == b""
    keep_cache(path, b"one")
    keep_cache(path, b"two")
    assert read_cache(path) == b"two"
    assert [each.name for each in path.parent.iterdir()] == ["timings"]
    assert survey(tmp_path) == []


def test_where_none_can_be_kept_is_no_error(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file where the folder would be")
    path = cache_path(tmp_path, "tensorrt", "10", "any", "timings")
    keep_cache(path, b"one")
    assert read_cache(path) == b""
