from __future__ import annotations

import numpy as np
import pytest

from vggbench.measure.predicting import Prediction, likeliest


def test_the_likeliest_come_first_with_their_softmax():
    logits = np.log(np.array([[1, 2, 4, 1, 8, 16, 32]], dtype=np.float32))
    found = likeliest(logits)
    assert found["classes"] == [[6, 5, 4, 2, 1]]
    assert found["probabilities"][0] == pytest.approx([32 / 64, 16 / 64, 8 / 64, 4 / 64, 2 / 64])


def test_of_equal_ones_the_smaller_number_comes_first():
    assert likeliest(np.zeros((2, 3), dtype=np.float32))["classes"] == [[0, 1, 2]] * 2


def test_large_logits_do_not_overflow():
    assert likeliest(np.array([[3e38, 0.0]], dtype=np.float32))["probabilities"] == [[1.0, 0.0]]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(wrong: float):
    with pytest.raises(ValueError, match="1 of 6 outputs are not finite"):
        likeliest(np.array([[0, 1, 2], [3, wrong, 5]]))


def test_classes_without_probabilities_are_no_prediction():
    with pytest.raises(ValueError, match="not as many"):
        Prediction(classes=((1, 2),), probabilities=((1.0,),))
