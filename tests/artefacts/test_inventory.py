import json
import multiprocessing
import os
import shutil
from datetime import UTC, datetime, timedelta

import pytest
from filelock import FileLock

from tests.artefacts.test_store import REQUEST, Writer
from vggbench.artefacts import inventory
from vggbench.artefacts.inventory import prune, survey
from vggbench.artefacts.manifest import MANIFEST_NAME, canonical_sha256
from vggbench.artefacts.store import LOCK_NAME, UNFINISHED, prepare
from vggbench.errors import ArtefactError


@pytest.fixture
def folder(tmp_path):
    """Return the folder of one whole artefact."""
    return prepare(REQUEST, tmp_path, Writer()).path.parent


def states(exports, **asked):
    return {entry.folder.name: entry.state for entry in survey(exports, **asked)}


def everything(entry):
    return True


def prune_all(exports, chosen=everything):
    gone = []
    prune(exports, chosen, gone.append)
    return [entry.folder.name for entry in gone]


def test_a_whole_artefact_is_told_with_what_its_name_and_manifest_say(folder, tmp_path):
    (entry,) = survey(tmp_path)
    assert (entry.folder, entry.state, entry.variant) == (folder, "whole", "vgg11")
    assert (entry.precision, entry.input_size, entry.format) == ("fp32", 224, "raw")
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    assert entry.sha256 == manifest["sha256"]
    assert entry.made_at.isoformat() == manifest["created_at"]
    assert entry.bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert entry.age_days(entry.made_at + timedelta(days=3)) == 3
    assert entry.age_days(entry.made_at - timedelta(days=3)) == 0  # a clock that went back


def test_a_file_of_another_size_is_broken_and_one_of_other_content_when_it_is_read(folder, tmp_path):
    (folder / "a.bin").write_bytes(b"FIRST")
    assert states(tmp_path) == {folder.name: "whole"}
    (entry,) = survey(tmp_path, hashes=True)
    assert (entry.state, entry.sha256) == ("broken", "")
    assert "SHA-256 is" in entry.reason
    (folder / "a.bin").write_bytes(b"more")
    (entry,) = survey(tmp_path)
    assert entry.state == "broken"
    assert "4 bytes, the manifest says 5" in entry.reason


def test_a_manifest_of_ours_that_was_edited_is_broken(folder, tmp_path):
    data = json.loads((folder / MANIFEST_NAME).read_text())
    (folder / MANIFEST_NAME).write_text(json.dumps(data | {"precision": "fp16"}))
    (entry,) = survey(tmp_path)
    assert entry.state == "broken"
    assert "changed after it was written" in entry.reason


def test_what_a_killed_export_left_is_unfinished(folder, tmp_path):
    left = folder.with_name(UNFINISHED + folder.name)
    left.mkdir()
    (left / "a.bin").write_bytes(b"123")
    os.utime(left, (0, 0))
    entry = next(entry for entry in survey(tmp_path) if entry.folder == left)
    assert (entry.state, entry.bytes, entry.made_at) == ("unfinished", 3, datetime(1970, 1, 1, tzinfo=UTC))
    assert prune_all(tmp_path, lambda entry: entry.state == "unfinished") == [left.name]
    assert states(tmp_path) == {folder.name: "whole"}


NOT_OURS = {
    "no manifest": None,
    "no JSON": "{",
    "no table": "[]",
    "another tool's": '{"name": "an application", "icons": []}',
    "for another key": json.dumps({"key": "f" * 64, "seal": "0" * 64}),
}


@pytest.mark.parametrize("manifest", NOT_OURS.values(), ids=NOT_OURS)
def test_a_folder_without_a_manifest_of_ours_is_never_removed(tmp_path, manifest):
    mine = tmp_path / "vgg11" / "fp32-224-onnx-01234567"
    mine.mkdir(parents=True)
    (mine / "precious.txt").write_text("mine")
    if manifest is not None:
        (mine / MANIFEST_NAME).write_text(manifest)
    assert states(tmp_path) == {mine.name: "foreign"}
    assert prune_all(tmp_path) == []
    assert (mine / "precious.txt").read_text() == "mine"
    assert not (tmp_path / "vgg11" / LOCK_NAME).exists()


def test_other_names_links_and_files_are_not_looked_at(folder, tmp_path):
    others = tmp_path / "others"
    others.mkdir()
    shutil.copytree(folder, others / "backup")
    (others / folder.name).symlink_to(folder)
    (tmp_path / "link").symlink_to(folder.parent)
    (tmp_path / "README.md").write_text("notes")
    assert [entry.folder for entry in survey(tmp_path)] == [folder]
    assert prune_all(tmp_path) == [folder.name]
    assert (others / "backup" / MANIFEST_NAME).exists()


def test_only_what_is_chosen_is_removed_and_the_next_request_makes_it_again(folder, tmp_path):
    assert prune_all(tmp_path, lambda entry: False) == []
    assert prune_all(tmp_path, lambda entry: entry.variant == "vgg11") == [folder.name]
    assert survey(tmp_path) == []
    assert not any(path.name != LOCK_NAME for path in folder.parent.iterdir())
    write = Writer()
    prepare(REQUEST, tmp_path, write)
    assert write.calls == 1


def hold(path, held, release):
    with FileLock(path):
        held.set()
        release.wait(60)


def test_a_variant_that_is_being_exported_is_left_alone_and_the_rest_is_pruned(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "a_copy" / folder.name)
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(folder.parent / LOCK_NAME, held, release))
    holder.start()
    try:
        assert held.wait(60)
        with pytest.raises(ArtefactError, match="another process holds it; end that export and try again"):
            prune_all(tmp_path)
    finally:
        release.set()
        holder.join()
    assert not other.exists()
    assert states(tmp_path) == {folder.name: "whole"}
    assert prune_all(tmp_path) == [folder.name]


def test_what_was_finished_before_the_lock_was_had_is_no_leftover(folder, tmp_path, monkeypatch):
    left = folder.rename(folder.with_name(UNFINISHED + folder.name))
    real = inventory.locked

    def finished_meanwhile(parent, timeout_s):
        left.rename(folder)
        return real(parent, timeout_s=timeout_s)

    monkeypatch.setattr(inventory, "locked", finished_meanwhile)
    assert prune_all(tmp_path, lambda entry: entry.state == "unfinished") == []
    assert states(tmp_path) == {folder.name: "whole"}


def test_a_prune_that_dies_leaves_no_half_artefact(folder, tmp_path, monkeypatch):
    def die(path):
        (path / "a.bin").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(inventory.shutil, "rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            prune_all(tmp_path)
    assert list(states(tmp_path).values()) == ["unfinished"]
    assert len(prune_all(tmp_path)) == 1


def test_what_cannot_be_removed_is_said_in_one_line(folder, tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(inventory.shutil, "rmtree", refuse)
    with pytest.raises(ArtefactError, match="vgg11: cannot be removed: Permission denied"):
        prune_all(tmp_path)


def test_an_exports_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ArtefactError, match="absent' cannot be read: No such file"):
        survey(tmp_path / "absent")


def test_the_keys_of_a_manifest_of_ours_are_what_tells_it(folder):
    data = json.loads((folder / MANIFEST_NAME).read_text())
    assert data.keys() >= inventory.OUR_ENTRIES
    assert data.pop("seal") == canonical_sha256(data)
