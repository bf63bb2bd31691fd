"""Checkpoints that are damaged, of another kind, or cannot be written."""

import pickle

import pytest
import torch

from vggbench.errors import RunFolderError
from vggbench.train.checkpoint import CHECKPOINT, SCHEMA, read_checkpoint


def refused(tmp_path, content):
    path = tmp_path / CHECKPOINT
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(RunFolderError) as raised:
        read_checkpoint(tmp_path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


class Evil:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and nothing", pickle.dumps(3), b"\x00" * 100])
def test_what_is_damaged_cannot_be_read(tmp_path, content):
    assert "cannot be read: it is damaged; start again with another --output" in refused(tmp_path, content)


def test_nothing_in_it_is_executed(tmp_path, capsys):
    assert "cannot be read: it is damaged" in refused(tmp_path, pickle.dumps(Evil()))
    assert "executed" not in capsys.readouterr().out


def test_another_schema_is_named(tmp_path):
    assert f"has schema 99, this vggbench reads {SCHEMA}" in refused(tmp_path, {"schema": 99})
    assert "has schema None" in refused(tmp_path, [1, 2])


def test_what_is_missing_or_wrong_in_it_is_named(tmp_path):
    assert "is no checkpoint of a training" in refused(tmp_path, {"schema": SCHEMA})
    content = {"schema": SCHEMA, "info": {"recipe_name": 3}, "position": {}, "trainer": {}}
    assert "recipe_name: Input should be a valid string" in refused(tmp_path, content)
