"""Whatever is in a data set's files: it is read, or one line names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.cases import edited, many
from tests.data.writing import random_batch, write_binary, write_folders, write_png, write_python
from vggbench.data.dataset import open_dataset
from vggbench.errors import DataError

BATCH = {"test_batch": random_batch(2, 1)}


def opened(folder: Path) -> None:
    """Open the set, or see that it is refused in one line."""
    try:
        found = open_dataset(folder, "test")
    except DataError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert str(folder) in refused
    else:
        assert found.pixels(range(len(found))).shape[0] == len(found) > 0
        assert set(found.labels.tolist()) <= set(range(len(found.classes)))


@pytest.mark.parametrize("write", [write_python, write_binary, write_png])
@many
@given(data=st.data())
def test_cifars_files_are_read_or_named(tmp_path_factory: pytest.TempPathFactory, write, data: st.DataObject):
    folder = tmp_path_factory.getbasetemp() / write.__name__
    folder.mkdir(exist_ok=True)
    write(folder, BATCH)
    path = data.draw(st.sampled_from(sorted(folder.iterdir())))
    path.write_bytes(data.draw(edited(path.read_bytes())))
    opened(folder)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".bmp", ".tif", ".webp", ".ppm"])
@many
@given(data=st.data())
def test_photographs_are_read_or_named(tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject):
    folder = tmp_path_factory.getbasetemp() / f"photos-{suffix}"
    if not folder.exists():
        pixels = np.random.default_rng(2).integers(0, 256, (9, 8, 3), dtype=np.uint8)
        write_folders(folder, {"cats": [pixels], "dogs": [pixels]})
        Image.fromarray(pixels).save(folder.with_name(f"whole{suffix}"))
    content = folder.with_name(f"whole{suffix}").read_bytes()
    path = folder / "cats" / f"edited{suffix}"
    path.write_bytes(data.draw(edited(content)))
    found = open_dataset(folder, "test")
    assert len(found) + len(found.skipped) == 3
    assert all(name == f"cats/edited{suffix}" and reason for name, reason in found.skipped)
