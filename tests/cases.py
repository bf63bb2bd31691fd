"""What the tests of everything that is read from outside try: how many cases, and how a good file becomes another.

`VGGBENCH_CASES=10000 pytest -m reads_anything --timeout 0` tries that many a test; without it a few hundred.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

Test = TypeVar("Test", bound=Callable[..., None])

CASES = int(os.environ.get("VGGBENCH_CASES", "200"))
TEXTS = st.text(max_size=12)
SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 5000) | st.integers() | st.floats() | TEXTS | st.just(10**400)
)  # the last is a number that no float holds
VALUES = st.recursive(
    SCALARS, lambda items: st.lists(items, max_size=3) | st.dictionaries(TEXTS, items, max_size=3), max_leaves=4
)


def many(test: Test) -> Test:
    """Let a test of a reader try `CASES` cases, however slow the machine."""
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    tried: Test = settings(max_examples=CASES, deadline=None, suppress_health_check=quiet)(test)
    return pytest.mark.reads_anything(tried)


@st.composite
def edited(draw: st.DrawFn, content: bytes) -> bytes:
    """Return a file after a few edits: bytes replaced, put in, taken out, doubled, or all behind a place lost."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 8) | st.integers(0, len(content))))
        put = draw(st.binary(max_size=4) | st.sampled_from([b"", b"[", b"{", b'"', b"-1", b"1e999", b"NaN", b"null"]))
        content = draw(
            st.sampled_from(
                [
                    content[:start] + put + content[end:],
                    content[:start] + content[start:end] + content[start:],
                    content[:start],
                ]
            )
        )
    return content


@st.composite
def other_value(draw: st.DrawFn, data: Any) -> Any:
    """Return JSON data with one value, wherever it stands, replaced or taken away."""
    changed = copy.deepcopy(data)
    place, deeper = changed, True
    while deeper:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        deeper = isinstance(place[key], dict | list) and bool(place[key]) and draw(st.integers(0, 3)) > 0
        if deeper:
            place = place[key]
    if draw(st.integers(0, 5)) == 0:
        del place[key]
    else:
        place[key] = draw(VALUES)
    return changed
