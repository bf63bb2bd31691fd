from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggbench.backends.registry import BACKENDS, DEFAULT_BACKENDS, ORACLES, REAL_BACKENDS, check_options, find_backend
from vggbench.errors import RequestError


@pytest.mark.parametrize("name", BACKENDS)
def test_every_name_finds_its_backend(name: str):
    assert find_backend(name).name == name


def test_the_real_ones_are_those_of_libraries():
    assert set(BACKENDS) - set(REAL_BACKENDS) == {"fake", "null"}


def test_those_measured_without_being_named_open_in_seconds():
    assert [name for name in REAL_BACKENDS if name not in DEFAULT_BACKENDS] == ["torch-compile", "onnx-reference"]
    assert set(ORACLES) < set(REAL_BACKENDS) - set(DEFAULT_BACKENDS)
    assert set(DEFAULT_BACKENDS) < set(REAL_BACKENDS)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("onnxruntim", "did you mean onnxruntime?"),
        ("pytorch", "did you mean torch?"),
        ("", "did you mean torch or torch-compile or onnxruntime or openvino or onnx-reference?"),
        ("torch_compile", "did you mean torch-compile?"),
        ("Torch", "did you mean torch?"),
    ],
)
def test_an_unknown_name_is_told_the_nearest(name: str, suggestion: str):
    with pytest.raises(RequestError) as caught:
        find_backend(name)
    assert repr(name) in str(caught.value)
    assert suggestion in str(caught.value)


def test_defaults_are_filled_in_and_sorted():
    assert check_options(find_backend("torch"), {}) == {"memory_format": "contiguous"}
    options = check_options(find_backend("fake"), {"latency_ms": "3"})
    assert list(options.items()) == [("fault", "none"), ("latency_ms", "3")]


@pytest.mark.parametrize(
    ("backend", "options", "words"),
    [
        ("torch", {"colour": "red"}, "backend torch has no option 'colour'; it knows: memory_format"),
        ("null", {"colour": "red"}, "backend null has no option 'colour'; it knows: none"),
        (
            "torch",
            {"memory_format": "nhwc"},
            "option memory_format of torch is 'nhwc'; it can be contiguous, channels_last",
        ),
    ],
)
def test_a_wrong_option_is_told_the_right_ones(backend: str, options: dict[str, str], words: str):
    with pytest.raises(RequestError) as caught:
        check_options(find_backend(backend), options)
    assert str(caught.value) == words


@given(st.sampled_from(BACKENDS), st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3))
def test_checked_options_are_a_fixed_point(name: str, options: dict[str, str]):
    backend = find_backend(name)
    try:
        checked = check_options(backend, options)
    except RequestError:
        assert options.items() - check_options(backend, {}).items()
    else:
        assert checked == check_options(backend, checked)
        assert options.items() <= checked.items()
