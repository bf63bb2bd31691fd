from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.writing import planes, random_batch, write_binary, write_png, write_python
from vggbench.data.cifar import CLASSES, FILES
from vggbench.data.dataset import Preprocessing, open_dataset
from vggbench.data.plain_pickle import read_plain_pickle
from vggbench.errors import DataError

TRAIN = {name: random_batch(3, seed) for seed, name in enumerate(FILES["train"])}
TEST = {"test_batch": random_batch(4, 9)}
WRITERS = {"python": write_python, "binary": write_binary, "png": write_png}
UNSCALED = Preprocessing(scale="0-255")


@pytest.fixture(params=WRITERS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    WRITERS[request.param](tmp_path, TRAIN | TEST)
    return tmp_path


@pytest.mark.parametrize(("split", "batches"), [("train", TRAIN), ("test", TEST)])
def test_every_layout_gives_the_images_and_labels_in_their_order(folder: Path, split, batches):
    found = open_dataset(folder, split)
    assert found.labels.tolist() == [label for _values, labels in batches.values() for label in labels]
    assert np.array_equal(found.pixels(range(len(found))), np.concatenate([values for values, _ in batches.values()]))
    assert (found.name, found.classes, found.skipped) == (f"cifar-10/{split}", CLASSES, ())


def test_every_layout_has_the_same_hash_and_other_content_another(tmp_path: Path):
    hashes = set()
    for name, write in WRITERS.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name, TRAIN | TEST)
        hashes.add(open_dataset(tmp_path / name, "test").sha256)
    values, labels = TEST["test_batch"]
    others = [(values[::-1], labels), (values, labels[::-1]), (np.where(values == 7, 8, values), labels)]
    for number, other in enumerate(others):
        (tmp_path / str(number)).mkdir()
        write_binary(tmp_path / str(number), {"test_batch": other})
        hashes.add(open_dataset(tmp_path / str(number), "test").sha256)
    assert len(hashes) == 1 + len(others)


def test_the_folder_that_an_archive_unpacks_to_is_found(tmp_path: Path):
    inner = tmp_path / "cifar-10-batches-py"
    inner.mkdir()
    write_python(inner, TEST)
    assert len(open_dataset(tmp_path, "test")) == 4


def test_a_batch_has_the_networks_layout(folder: Path):
    found = open_dataset(folder, "test")
    batch = found.batch([2, 0], UNSCALED, 32)
    assert (batch.dtype, batch.shape) == (np.float32, (2, 3, 32, 32))
    assert batch.flags["C_CONTIGUOUS"]
    assert np.array_equal(batch, TEST["test_batch"][0][[2, 0]].transpose(0, 3, 1, 2))


def test_images_are_resized_where_that_is_asked(folder: Path):
    assert open_dataset(folder, "test").batch([1], Preprocessing(resize=48, crop=40), 40).shape == (1, 3, 40, 40)


@pytest.mark.parametrize("preprocessing", [Preprocessing(), Preprocessing(resize=32, crop=32), Preprocessing(crop=28)])
def test_images_of_another_size_than_the_networks_are_refused(folder: Path, preprocessing: Preprocessing):
    with pytest.raises(DataError, match=r"images come out \d+x\d+ pixels large .* takes 64x64; give --resize 64"):
        open_dataset(folder, "test").batch([0], preprocessing, 64)


@pytest.mark.parametrize("layout", WRITERS)
def test_missing_files_are_named(tmp_path: Path, layout: str):
    WRITERS[layout](tmp_path, TEST)
    with pytest.raises(DataError, match=r"of CIFAR-10's train images there is no data_batch_1\S*, .*data_batch_5"):
        open_dataset(tmp_path, "train")


def test_missing_labels_are_named(tmp_path: Path):
    write_png(tmp_path, TEST)
    (tmp_path / "test_lables.json").unlink()
    with pytest.raises(DataError, match=r"labels .* are missing: test_labels.json or test_lables.json"):
        open_dataset(tmp_path, "test")


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("keep", [0, 1, 500, 12_291])
def test_a_file_that_was_cut_short_is_named(tmp_path: Path, layout: str, keep: int):
    WRITERS[layout](tmp_path, TEST)
    (path,) = tmp_path.glob("test_batch*")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="test_batch") as found:
        open_dataset(tmp_path, "test")
    assert "\n" not in str(found.value)


WRONG_LABELS = [
    ([1, 2, 3], r"test_lables.json has 3 labels; the pictures have 4 rows \(test_batch.png 4\)"),
    ([1, 2, 3, 10], "label 3 is 10; CIFAR-10's are 0 to 9"),
    ([1, 2, 3, -1], "label 3 is -1"),
    ([1, True, 3, 4], "label 1 is True"),
    ([1, 2.0, 3, 4], r"label 1 is 2\.0"),
    ({"labels": []}, "is no list of labels"),
]


@pytest.mark.parametrize(("labels", "said"), WRONG_LABELS)
def test_wrong_labels_are_named(tmp_path: Path, labels, said: str):
    write_png(tmp_path, TEST)
    (tmp_path / "test_lables.json").write_text(json.dumps(labels))
    with pytest.raises(DataError, match=said):
        open_dataset(tmp_path, "test")


def test_labels_that_are_no_json_are_named(tmp_path: Path):
    write_png(tmp_path, TEST)
    (tmp_path / "test_lables.json").write_text("[1, 2,")
    with pytest.raises(DataError, match=r"test_lables.json is not JSON"):
        open_dataset(tmp_path, "test")


def test_a_picture_of_another_width_is_named(tmp_path: Path):
    write_png(tmp_path, TEST)
    Image.new("RGB", (1000, 4)).save(tmp_path / "test_batch.png")
    with pytest.raises(DataError, match=r"test_batch.png is 1000 pixels wide; .* an image of 1024 a row"):
        open_dataset(tmp_path, "test")


def test_a_label_byte_beyond_the_classes_is_named(tmp_path: Path):
    values, labels = TEST["test_batch"]
    write_binary(tmp_path, {"test_batch": (values, [*labels[:3], 99])})
    with pytest.raises(DataError, match="label 3 is 99"):
        open_dataset(tmp_path, "test")


def test_an_empty_binary_file_is_named(tmp_path: Path):
    (tmp_path / "test_batch.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"test_batch.bin has no images"):
        open_dataset(tmp_path, "test")


VALUES, LABELS = TEST["test_batch"]
WRONG_PICKLES = [
    ({"data": planes(VALUES)}, "has no array 'data' and list 'labels'"),
    ({"data": planes(VALUES)[:, :100], "labels": LABELS}, "data is 4x100 of uint8"),
    ({"data": planes(VALUES).astype(np.int64), "labels": LABELS}, "data is 4x3072 of int64"),
    ({"data": planes(VALUES)[:3], "labels": LABELS}, "has 3 images and 4 labels"),
    ({"data": planes(VALUES), "labels": [b"cat"] * 4}, "label 0 is b'cat'"),
    ([1, 2], "cannot be read: 'list' object"),
]


@pytest.mark.parametrize(("content", "said"), WRONG_PICKLES)
def test_a_pickle_of_something_else_is_named(tmp_path: Path, content, said: str):
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match=said):
        open_dataset(tmp_path, "test")


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_in_a_pickle_is_executed(tmp_path: Path, protocol: int):
    mark = tmp_path / "mark"
    content = {"data": planes(VALUES), "labels": LABELS, "more": Harmful(mark)}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(DataError, match="holds more than arrays and lists, and is not opened: names"):
        open_dataset(tmp_path, "test")
    assert not mark.exists()


@pytest.mark.parametrize("name", ["builtins eval", "os system", "numpy load", "numpy.core.multiarray fromfile"])
def test_a_name_is_not_looked_up(tmp_path: Path, name: str):
    module, _, function = name.partition(" ")
    (tmp_path / "test_batch").write_bytes(f"c{module}\n{function}\n(S'1'\ntR.".encode())
    with pytest.raises(DataError, match=f"names {module}.{function}"):
        open_dataset(tmp_path, "test")


def test_an_array_of_objects_is_not_made(tmp_path: Path):
    content = {"data": np.array([object], dtype=object), "labels": LABELS}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match=r"holds an array of 'O8'|names builtins.object|names __builtin__.object"):
        open_dataset(tmp_path, "test")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("spelling", [b"numpy._core", b"numpy.core"])
def test_arrays_are_read_as_any_numpy_wrote_them(tmp_path: Path, protocol: int, spelling: bytes):
    content = {"data": planes(VALUES), "columns": np.asfortranarray(planes(VALUES)), "labels": LABELS}
    written = pickle.dumps(content, protocol=protocol)
    if protocol < 4:  # later ones have a length in front of a name
        written = written.replace(b"numpy._core", spelling)
    (tmp_path / "test_batch").write_bytes(written)
    found = read_plain_pickle(tmp_path / "test_batch")
    assert np.array_equal(found["data"], planes(VALUES))
    assert np.array_equal(found["columns"], planes(VALUES))
    assert found["labels"] == LABELS
