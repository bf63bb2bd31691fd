from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggbench.artefacts.engine_form import EngineForm, read_batch_sizes, read_capabilities
from vggbench.errors import RequestError


@pytest.mark.parametrize(("text", "sizes"), [("8", (8, 8, 8)), ("1:8:32", (1, 8, 32))])
def test_batch_sizes(text: str, sizes: tuple[int, int, int]) -> None:
    assert read_batch_sizes(text) == sizes
    assert EngineForm(batch_sizes=sizes).options == {"batch_sizes": ":".join(map(str, sizes))}


@pytest.mark.parametrize("text", ["", "1:2", "1:2:3:4", "one", "-1", "1,2", "1::2", "٣", "1" * 7])
def test_other_batch_sizes_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match="give MIN:OPT:MAX, as 1:8:32"):
        read_batch_sizes(text)


@pytest.mark.reads_anything
@given(st.text())
def test_any_text_is_batch_sizes_or_one_line(text: str) -> None:
    with suppress(RequestError):
        assert all(isinstance(size, int) for size in read_batch_sizes(text))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"batch_sizes": (8, 4, 16)}, "batch sizes 8:4:16: give MIN:OPT:MAX"),
        ({"batch_sizes": (0, 4, 16)}, "from 1 upwards"),
        ({"workspace_mib": 0}, "a workspace of 0 MiB"),
        ({"optimization_level": 6}, "optimisation level 6: give one from 0 to 5"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint):
        EngineForm(**changes)


def test_every_option_is_in_the_manifest() -> None:
    form = EngineForm(workspace_mib=64, optimization_level=0, compute_capabilities=("SM80", "SM89"))
    assert form.options == {
        "batch_sizes": "1:8:32",
        "workspace_mib": "64",
        "optimization_level": "0",
        "compute_capabilities": "SM80,SM89",
    }


def test_capabilities_are_sorted_and_written_in_one_way() -> None:
    assert read_capabilities(["12.0", "SM89", "8.0", "sm_80", "89"]) == ("SM80", "SM89", "SM120")
    assert read_capabilities([]) == ()


@pytest.mark.parametrize("text", ["8", "ampere", "8.9.1", "1234x", ""])
def test_what_is_no_capability_is_named(text: str) -> None:
    with pytest.raises(RequestError, match=f"compute capability is {text!r}"):
        read_capabilities([text])
