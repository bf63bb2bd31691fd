from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggbench.data.synthetic import images
from vggbench.measure import images as module
from vggbench.measure.images import arrangements, ring, ring_order, variety

INPUTS = images(8, 8, seed=1)


@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 2**32))
def test_every_image_occurs_in_batches_of_the_asked_size(count: int, batch_size: int, seed: int):
    order = arrangements(count, batch_size, seed)
    assert {indices.shape for indices in order} == {(batch_size,)}
    assert set(np.concatenate(order).tolist()) == set(range(count))
    assert len(order) == -(-count // batch_size)


@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 2**32))
def test_no_image_occurs_much_more_often_than_another(count: int, batch_size: int, seed: int):
    _, occurrences = np.unique(np.concatenate(arrangements(count, batch_size, seed)), return_counts=True)
    assert np.ptp(occurrences) <= 1


def test_the_seed_decides_the_order():
    first, again, other = (arrangements(8, 8, seed)[0].tolist() for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 20])
def test_a_ring_has_several_batches_of_photographs(batch_size: int):
    batches = ring(INPUTS, ring_order(INPUTS, batch_size, seed=0))
    assert len(batches) == 8
    assert {batch.shape for batch in batches} == {(batch_size, 3, 8, 8)}
    assert all(batch.flags.c_contiguous and batch.dtype == np.float32 for batch in batches)
    assert len({batch.tobytes() for batch in batches}) > 1
    assert all(batch.std() > 0 for batch in batches)


def test_single_images_all_have_their_turn():
    assert {batch.tobytes() for batch in ring(INPUTS, ring_order(INPUTS, 1, seed=3))} == {
        image.tobytes() for image in INPUTS
    }


@pytest.mark.parametrize(("allowed", "count"), [(10**9, 8), (5, 5), (1, 2), (0, 2)])
def test_large_batches_make_a_smaller_ring_but_never_one_hot_buffer(monkeypatch, allowed: int, count: int):
    monkeypatch.setattr(module, "_RING_BYTES", allowed * INPUTS[0].nbytes)
    batches = ring(INPUTS, ring_order(INPUTS, 1, seed=0))
    assert len(batches) == count
    assert len({batch.tobytes() for batch in batches}) == count


def test_no_two_batches_share_memory():
    batches = ring(INPUTS, ring_order(INPUTS, 2, seed=0))
    assert not any(np.shares_memory(one, other) for one in batches for other in batches if one is not other)


def test_variety_counts_contents_and_places():
    batch = INPUTS[:2]
    assert variety([batch, batch.copy(), INPUTS[2:4]]) == {"batches": 3, "different": 2, "buffers": 3}
    assert variety([batch, batch]) == {"batches": 2, "different": 1, "buffers": 1}


@pytest.mark.parametrize("batch_size", [1, 3, 8, 16])
def test_a_ring_is_varied(batch_size: int):
    found = variety(ring(INPUTS, ring_order(INPUTS, batch_size, seed=0)))
    assert found == {"batches": 8, "different": 8, "buffers": 8}
