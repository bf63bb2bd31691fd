import errno
import hashlib
import os
from pathlib import Path

import pytest

from vggbench.artefacts import streams
from vggbench.artefacts.streams import BLOCK_BYTES, HashedFile, read_blocks, stream_sha256

SIZES = [0, 1, 4096, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 4097]


def noise(count):
    return (bytes(range(251)) * (count // 251 + 1))[:count]


def write(path, content, step=3 << 20):
    with HashedFile(path) as file:
        for start in range(0, len(content), step):
            file.write(content[start : start + step])
            assert file.offset == min(start + step, len(content))
    return file.sha256


@pytest.fixture(params=["past", "through", "refused", "strict"])
def cache(request, monkeypatch):
    """Every way in which a system takes a file past its page cache, or does not."""
    if request.param == "through":
        monkeypatch.setattr(streams, "DIRECT", 0)
    elif request.param == "refused":
        real = os.open

        def refusing(path, flags, *rest):
            descriptor = real(path, flags & ~streams.DIRECT, *rest)
            if flags & streams.DIRECT:
                os.close(descriptor)  # the file is made before the flag is looked at
                raise OSError(errno.EINVAL, "no such thing here")
            return descriptor

        monkeypatch.setattr(os, "open", refusing)
    elif request.param == "strict":
        # Blocks of memory that do not start on a page are refused by the system itself.
        monkeypatch.setattr(streams, "_page_aligned", lambda: memoryview(bytearray(BLOCK_BYTES + 1))[1:])


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("size", SIZES)
def test_what_is_written_is_on_the_disk_hashed_and_read_again(tmp_path, size):
    content = noise(size)
    assert write(tmp_path / "file", content) == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "file").read_bytes() == content
    assert b"".join(bytes(block) for block in read_blocks(tmp_path / "file")) == content
    assert stream_sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_file_of_that_name_is_not_written_over(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(FileExistsError), HashedFile(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_missing_file_is_not_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        next(read_blocks(tmp_path / "file"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("size", [1, BLOCK_BYTES, 2 * BLOCK_BYTES])
def test_a_full_disk_is_said_at_the_latest_on_leaving(monkeypatch, size):
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *rest: real(path, os.O_WRONLY, *rest))
    with pytest.raises(OSError, match="No space left"):
        write(Path("/dev/full"), noise(size))


def test_an_error_inside_is_the_one_that_is_raised(tmp_path):
    def write_and_fail():
        with HashedFile(tmp_path / "file") as file:
            file.write(noise(BLOCK_BYTES))
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        write_and_fail()


def test_a_file_that_is_cut_short_while_it_is_read_just_ends(tmp_path):
    write(tmp_path / "file", noise(4 * BLOCK_BYTES))
    blocks = read_blocks(tmp_path / "file")
    first = len(next(blocks))
    os.truncate(tmp_path / "file", BLOCK_BYTES)
    assert first + sum(map(len, blocks)) < 4 * BLOCK_BYTES
