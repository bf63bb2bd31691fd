from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.writing import write_folders
from vggbench.data.dataset import DataSet, Preprocessing, open_dataset, spread
from vggbench.errors import DataError


def photos(count: int, seed: int, side: int = 12) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, side, side + 4, 3), dtype=np.uint8))


CATS, DOGS = photos(3, 1), photos(2, 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folders(tmp_path, {"dogs": DOGS, "cats": CATS})
    return tmp_path


def test_a_class_is_a_folder(folder: Path):
    found = open_dataset(folder, "test")
    assert (found.classes, found.labels.tolist(), found.skipped) == (("cats", "dogs"), [0, 0, 0, 1, 1], ())
    assert found.name == folder.name
    assert np.array_equal(found.pixels(range(5)), [*CATS, *DOGS])


def test_splits_are_folders_where_they_are_there(tmp_path: Path):
    write_folders(tmp_path / "train", {"cats": CATS, "dogs": DOGS})
    write_folders(tmp_path / "test", {"cats": CATS[:1], "dogs": DOGS})
    train, test = open_dataset(tmp_path, "train"), open_dataset(tmp_path, "test")
    assert (len(train), len(test)) == (5, 3)
    assert (train.name, test.name) == (f"{tmp_path.name}/train", f"{tmp_path.name}/test")


def test_imagenets_name_for_the_test_images_is_known(tmp_path: Path):
    write_folders(tmp_path / "val", {"cats": CATS, "dogs": DOGS})
    assert len(open_dataset(tmp_path, "test")) == 5
    with pytest.raises(DataError, match="has a folder 'val' and none for the train images: train"):
        open_dataset(tmp_path, "train")


def test_the_order_is_torchvisions(folder: Path):
    from torchvision.datasets import ImageFolder

    (folder / "cats" / "more").mkdir()
    Image.fromarray(CATS[0]).save(folder / "cats" / "more" / "10.png")
    found, theirs = open_dataset(folder, "test"), ImageFolder(str(folder))
    assert list(found.classes) == theirs.classes
    assert found.labels.tolist() == theirs.targets
    assert all(np.array_equal(found.pixels([index])[0], np.asarray(theirs[index][0])) for index in range(len(theirs)))


def test_the_hash_is_of_the_content_and_not_of_its_files(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    first = open_dataset(folder, "test").sha256
    other = tmp_path_factory.mktemp("other")
    write_folders(other, {"cats": CATS, "dogs": DOGS})
    for path in other.rglob("*.png"):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    assert open_dataset(other, "test").sha256 == first
    (other / "dogs").rename(other / "birds")
    assert open_dataset(other, "test").sha256 != first


def test_what_is_no_image_is_named(folder: Path):
    whole = (folder / "cats" / "0.png").read_bytes()
    (folder / "cats" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "cats" / "empty.jpg").touch()
    (folder / "dogs" / "notes.txt").write_text("rex")
    (folder / "dogs" / "gone.png").symlink_to(folder / "nowhere")
    (folder / "dogs" / "loop.png").symlink_to(folder / "dogs" / "loop.png")
    (folder / "dogs" / "page.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (folder / "README").touch()
    found = open_dataset(folder, "test")
    reasons = dict(found.skipped)
    assert len(found) == 5
    assert reasons.pop("cats/cut.png").startswith("cannot be decoded: ")
    assert reasons.pop("cats/empty.jpg") == "is empty"
    assert reasons.pop("dogs/notes.txt").startswith("is no image in any of the formats BMP, ")
    assert reasons.pop("dogs/page.eps").startswith("is no image in any of the formats ")
    assert reasons.pop("dogs/gone.png") == "cannot be read: No such file or directory"
    assert reasons.pop("dogs/loop.png") == "cannot be read: Too many levels of symbolic links"
    assert reasons == {"README": "lies in no class's folder"}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_images_of_other_modes_are_read_as_torchvision_does(tmp_path: Path, mode: str):
    from torchvision.datasets.folder import default_loader

    image = Image.fromarray(CATS[0]).convert("L") if mode == "I;16" else Image.fromarray(CATS[0])
    write_folders(tmp_path, {"cats": CATS, "dogs": DOGS})
    path = tmp_path / "cats" / ("9.tif" if mode == "CMYK" else "9.png")
    image.convert(mode).save(path)
    found = open_dataset(tmp_path, "test")
    assert np.array_equal(found.pixels([3])[0], np.asarray(default_loader(str(path))))


def test_a_palette_with_transparency_is_read(tmp_path: Path):
    write_folders(tmp_path, {"cats": CATS, "dogs": DOGS})
    Image.fromarray(CATS[0]).convert("P").save(tmp_path / "cats" / "9.png", transparency=bytes(range(256)))
    assert open_dataset(tmp_path, "test").skipped == ()


def test_a_file_with_absurdly_many_pixels_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # twice that is refused
    Image.new("RGB", (8, 8)).save(folder / "cats" / "small.png")
    Image.new("RGB", (8, 8)).save(folder / "dogs" / "small.png")
    Image.new("RGB", (100, 100)).save(folder / "cats" / "huge.png")
    for path in folder.glob("*/[0-9].png"):
        path.unlink()
    assert open_dataset(folder, "test").skipped == (
        ("cats/huge.png", "claims to have more pixels than any photograph"),
    )


def test_images_of_different_sizes_have_no_one_array(folder: Path):
    Image.new("RGB", (5, 5)).save(folder / "cats" / "9.png")
    found = open_dataset(folder, "test")
    with pytest.raises(DataError, match=r"different sizes \(16x12, 5x5\); resize them"):
        found.pixels(range(len(found)))
    assert found.batch(range(len(found)), Preprocessing(resize=8, crop=8), 8).shape == (6, 3, 8, 8)


def test_a_file_that_is_damaged_later_is_named(folder: Path):
    found = open_dataset(folder, "test")
    (folder / "cats" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"0\.png': is empty"):
        found.batch([0], Preprocessing(resize=8, crop=8), 8)


def _nothing(folder: Path) -> Path:
    return folder


def _file(folder: Path) -> Path:
    (folder / "photo.png").touch()
    return folder / "photo.png"


def _loose_images(folder: Path) -> Path:
    Image.fromarray(CATS[0]).save(folder / "0.png")
    return folder


def _one_class(folder: Path) -> Path:
    write_folders(folder, {"cats": CATS})
    return folder


def _empty_class(folder: Path) -> Path:
    write_folders(folder, {"cats": CATS, "dogs": []})
    return folder


def _damaged_class(folder: Path) -> Path:
    write_folders(folder, {"cats": CATS, "dogs": []})
    (folder / "dogs" / "0.png").touch()
    return folder


WRONG = [
    (lambda folder: folder / "nowhere", "does not exist; name a folder of images"),
    (_file, "is a file, not a folder"),
    (_nothing, "is empty; it should have a folder of images for each class"),
    (_loose_images, "has 1 files and no folder"),
    (_one_class, "has one class, 'cats'; it takes two to tell apart"),
    (_empty_class, "class 'dogs' has no image that can be read: it has no files"),
    (_damaged_class, "class 'dogs' has no image that can be read: dogs/0.png is empty"),
]


@pytest.mark.parametrize(("make", "said"), WRONG)
def test_a_folder_that_is_no_data_set_is_one_line(tmp_path: Path, make, said: str):
    with pytest.raises(DataError, match=said) as found:
        open_dataset(make(tmp_path), "test")
    assert found.value.exit_code == 2


@pytest.mark.parametrize("forbidden", ["scandir", "listdir"])
def test_a_folder_that_may_not_be_read_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch, forbidden: str):
    def refuse(path: object = ".") -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(f"os.{forbidden}", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        open_dataset(folder, "test")


def test_a_link_into_what_is_read_already_is_named(folder: Path):
    (folder / "cats" / "again").symlink_to(folder)
    with pytest.raises(DataError, match=r"cats/again/cats leads by a link to .*/cats, whose images are read already"):
        open_dataset(folder, "test")


def test_a_limit_takes_from_every_part(folder: Path):
    found: DataSet = open_dataset(folder, "test")
    assert found.labels[spread(len(found), 2)].tolist() == [0, 0]
    assert spread(10, 5).tolist() == [0, 2, 4, 6, 8]
    assert spread(3, 3).tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="6 images asked for; the set has 5"):
        spread(len(found), 6)
