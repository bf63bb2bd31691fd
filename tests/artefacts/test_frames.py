import resource
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from vggbench.artefacts.frames import in_one_piece


def depth(left):
    return 0 if left == 0 else 1 + depth(left - 1)


def to_and_fro(frames):
    """Call across every end of a chunk that lies within so many frames, and return the faults of its pages."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(200):
        for deepest in range(0, frames, 10):
            depth(deepest)
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


def test_it_returns_what_the_call_returns():
    assert in_one_piece(lambda: depth(300)) == 300


def test_it_raises_what_the_call_raises():
    with pytest.raises(KeyError, match="mine"):
        in_one_piece(lambda: {}["mine"])


@pytest.mark.skipif(
    sys.implementation.name != "cpython" or sys.platform != "linux", reason="how CPython does it on Linux"
)
def test_no_memory_comes_and_goes_with_the_calls():
    with ThreadPoolExecutor(max_workers=1) as pool:  # a thread begins with frames in chunks of 16 KiB
        plain = pool.submit(to_and_fro, 400).result()
        roomy = pool.submit(in_one_piece, lambda: to_and_fro(400)).result()
    assert roomy < 1000
    assert roomy < plain
