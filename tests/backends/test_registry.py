from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggbench.backends.registry import (
    BACKENDS,
    ORACLES,
    REAL_BACKENDS,
    check_options,
    default_backends,
    find_backend,
    runs_on,
)
from vggbench.errors import RequestError


@pytest.mark.parametrize("name", BACKENDS)
def test_every_name_finds_its_backend(name: str):
    assert find_backend(name).name == name


def test_the_real_ones_are_those_of_libraries():
    assert set(BACKENDS) - set(REAL_BACKENDS) == {"fake", "null"}


def test_those_measured_without_being_named_open_in_seconds_on_a_cpu():
    assert default_backends("cpu") == ("torch", "onnxruntime", "openvino")
    assert set(default_backends("cpu")) < set(REAL_BACKENDS) - set(ORACLES)


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1"])
def test_what_is_measured_on_a_device_is_for_it(device: str):
    assert len(default_backends(device)) > 2
    assert all(runs_on(name, device) for name in default_backends(device))


def test_some_backends_are_for_one_kind_of_device():
    assert [name for name in REAL_BACKENDS if not runs_on(name, "cuda")] == ["openvino", "onnx-reference"]
    assert "onnxruntime-tensorrt" in [name for name in REAL_BACKENDS if not runs_on(name, "cpu")]
    assert not any(runs_on(name, "tpu") for name in BACKENDS)
    assert default_backends("tpu") == ()


@pytest.mark.parametrize(
    ("backend", "option", "value"),
    [
        ("torch", "cuda_graph", "on"),
        ("torch-compile", "mode", "reduce-overhead"),
        ("onnxruntime", "gpu_mem_limit", "1"),
    ],
)
def test_an_option_of_a_gpu_is_refused_on_a_cpu(backend: str, option: str, value: str):
    with pytest.raises(RequestError, match=f"option {option}={value} of {backend} is for a CUDA device"):
        check_options(find_backend(backend), {option: value})
    assert check_options(find_backend(backend), {option: value}, "cuda:1")[option] == value


def test_a_mode_of_both_devices_is_fine_on_a_cpu():
    assert check_options(find_backend("torch-compile"), {"mode": "max-autotune"})["mode"] == "max-autotune"


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("onnxruntim", "did you mean onnxruntime or onnxruntime-tensorrt?"),
        ("pytorch", "did you mean torch?"),
        ("", "did you mean torch or torch-compile or onnxruntime or "),
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
        (
            "torch",
            {"colour": "red"},
            "backend torch has no option 'colour'; it knows: memory_format, cudnn_benchmark, cuda_graph",
        ),
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
