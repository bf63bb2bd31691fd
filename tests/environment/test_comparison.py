from __future__ import annotations

from dataclasses import replace

from tests.environment.recorded import BLIND, ENVIRONMENT, HARDWARE
from vggbench.environment import comparable


def test_an_environment_is_comparable_to_itself_however_noisy() -> None:
    noisy = replace(
        ENVIRONMENT, noise=BLIND, hardware=replace(HARDWARE, memory_available_bytes=1, memory_total_bytes=(8 << 30) - 9)
    )
    assert comparable(ENVIRONMENT.to_json(), noisy.to_json()) == {}


def test_differences_carry_both_values() -> None:
    other = replace(
        ENVIRONMENT,
        hardware=replace(HARDWARE, cpu_flags=("avx2", "amx_bf16"), memory_total_bytes=16 << 30),
        libraries={"torch": "2.12.0", "openvino": "2026.1"},
        commit=None,
    )
    assert comparable(ENVIRONMENT.to_json(), other.to_json()) == {
        "commit": ("0123456789", None),
        "hardware.cpu_flags": (["avx2"], ["avx2", "amx_bf16"]),
        "hardware.memory_total_bytes": (8 << 30, 16 << 30),
        "libraries.openvino": (None, "2026.1"),
        "libraries.torch": ("2.11.0", "2.12.0"),
    }


def test_variables_that_libraries_read_are_part_of_it() -> None:
    narrow = replace(ENVIRONMENT, variables={"ONEDNN_MAX_CPU_ISA": "AVX2"})
    expected = {"variables.ONEDNN_MAX_CPU_ISA": (None, "AVX2")}
    assert comparable(ENVIRONMENT.to_json(), narrow.to_json()) == expected


def test_a_run_from_before_variables_were_kept_is_like_one_without_any() -> None:
    data = ENVIRONMENT.to_json()
    before = {name: value for name, value in data.items() if name != "variables"}
    assert comparable(before, data) == {}


def test_a_part_that_is_missing_is_a_difference() -> None:
    data = ENVIRONMENT.to_json()
    partial = {name: value for name, value in data.items() if name != "system"}
    differences = comparable(data, partial)
    assert differences["system.os"] == ("Linux", None)
