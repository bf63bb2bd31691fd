"""PyTorch's own error in a precision: by the CPU's own arithmetic, and by rounding in fp32."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.artefacts.networks import narrow
from vggbench.artefacts.weights import weights_artefact
from vggbench.backends.base import Support
from vggbench.backends.torch_eager import TorchBackend
from vggbench.models.layers import mac_layers
from vggbench.parity.own_error import EMULATED, NATIVE, _to_tf32, emulated_logits, pytorch_error
from vggbench.parity.reference import reference_artefact
from vggbench.parity.tolerance import tolerance

SPEC = narrow(batch_norm=True)


class Known:
    """A network's weights, images and float64 logits."""

    def __init__(self, exports: Path) -> None:
        self.weights = weights_artefact(SPEC, exports)
        with np.load(reference_artefact(SPEC, exports, self.weights).path) as arrays:
            self.images, self.logits, self.amplifications = (
                arrays[name] for name in ("inputs", "logits", "amplifications")
            )

    def bound(self, precision: str) -> float:
        return tolerance(
            precision, [layer.reduction_length for layer in mac_layers(SPEC)], self.amplifications.tolist()
        )

    def error(self, precision: str) -> tuple[float, str] | None:
        return pytorch_error(SPEC, self.weights, precision, self.images, self.logits)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    return Known(tmp_path_factory.mktemp("exports"))


@given(st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False))
def test_tf32_keeps_ten_bits_and_rounds_to_nearest(value: float) -> None:
    rounded = _to_tf32(torch.tensor([value])).item()
    mantissa, exponent = math.frexp(value)
    assert rounded == math.ldexp(round(mantissa * 2**11), exponent - 11)  # Python rounds ties to even, too


def test_fp32_is_pytorchs_own(known: Known) -> None:
    error, how = known.error("fp32") or (math.nan, "")
    assert how == NATIVE
    assert 0 < error < known.bound("fp32")


@pytest.mark.parametrize("precision", ["tf32", "fp16", "bf16"])
def test_what_is_not_native_is_emulated_and_within_its_bound(
    known: Known, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setattr(TorchBackend, "supports", lambda *_: Support(False, "not here"))
    error, how = known.error(precision) or (math.nan, "")
    assert how == EMULATED
    assert known.bound(precision) / 60 < error < known.bound(precision) / 2


def test_emulated_bf16_is_as_far_off_as_the_real_one(known: Known) -> None:
    if not TorchBackend().supports("bf16", "cpu").supported:
        pytest.skip("this CPU has no bf16 instructions for oneDNN")
    real, how = known.error("bf16") or (math.nan, "")
    assert how == NATIVE
    logits = emulated_logits(SPEC, known.weights, "bf16", known.images)
    emulated = np.linalg.norm(logits - known.logits) / np.linalg.norm(known.logits - known.logits.mean(axis=0))
    assert 0.4 < emulated / real < 2.5


def test_what_it_can_neither_do_nor_imitate_has_no_error(known: Known) -> None:
    assert known.error("int4") is None
