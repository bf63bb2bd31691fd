"""What a session says of images: the classes that it holds likeliest. numpy and the standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_NAMED = 5  # classes an image: what top-5 accuracy needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The likeliest classes of each image of a batch.

    Attributes:
        classes: by image, the likeliest first; of equal ones the smaller number.
        probabilities: of those, likewise: the softmax of the logits.
    """

    classes: tuple[tuple[int, ...], ...]
    probabilities: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if [len(image) for image in self.classes] != [len(image) for image in self.probabilities]:
            raise ValueError("not as many probabilities as classes")

    @property
    def images(self) -> int:
        """How many."""
        return len(self.classes)


def likeliest(logits: NDArray[np.floating]) -> dict[str, Any]:
    """Return the fields of a `Prediction` of logits `(N, classes)`; `ValueError` where one of them is not finite."""
    if lost := int(np.count_nonzero(~np.isfinite(logits))):
        raise ValueError(f"{lost} of {logits.size} outputs are not finite")
    values = logits.astype(np.float64)
    weights = np.exp(values - values.max(axis=1, keepdims=True))
    order = np.argsort(-values, axis=1, kind="stable")[:, :MOST_NAMED]
    probabilities = np.take_along_axis(weights / weights.sum(axis=1, keepdims=True), order, axis=1)
    return {"classes": order.tolist(), "probabilities": probabilities.tolist()}
