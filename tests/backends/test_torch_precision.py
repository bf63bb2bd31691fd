"""torch's switches for what products are computed in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.measure.test_validity import MACS, evidence, layer
from vggbench.backends import torch_precision
from vggbench.backends.torch_eager import TorchBackend
from vggbench.backends.torch_precision import fp32_means, read_switches, set_switches
from vggbench.measure.validity import OTHER_FLAGS, STRICT_FLAGS, judge_evidence


@pytest.fixture(autouse=True)
def strict_again() -> Iterator[None]:
    yield
    set_switches("fp32")


def loosen() -> None:
    """Set every switch as loose as it goes."""
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    for operation in (*torch_precision._onednn().values(), *torch_precision._cuda().values()):
        operation.fp32_precision = "tf32"
    products = torch.backends.cuda.matmul
    products.allow_fp16_reduced_precision_reduction = products.allow_bf16_reduced_precision_reduction = True
    products.allow_fp16_accumulation = True


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_every_switch_that_is_judged_is_set_and_read_back(precision: str):
    loosen()
    set_switches(precision)
    found = read_switches()
    judged = STRICT_FLAGS | OTHER_FLAGS["fp16"] | OTHER_FLAGS["bf16"]
    assert found.keys() >= judged.keys()
    assert {name: value for name, value in found.items() if value not in judged.get(name, {value})} == {}


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_torch_itself_can_read_its_switches_afterwards(precision: str):
    loosen()
    set_switches(precision)
    # It raises where its older and its newer names contradict each other; the exporter and the compiler ask.
    assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == (precision == "tf32")
    assert torch.get_float32_matmul_precision() == {"fp32": "highest", "tf32": "high"}[precision]


@pytest.mark.parametrize("convolution", [True, False])
def test_products_of_fp32_are_tf32_where_a_gpu_may_and_nowhere_else(convolution: bool):
    set_switches("tf32")
    assert (fp32_means("cuda", convolution), fp32_means("cpu", convolution)) == ("tf32", "fp32")
    set_switches("fp32")
    assert (fp32_means("cuda", convolution), fp32_means("cpu", convolution)) == ("fp32", "fp32")


def test_tf32_is_proven_by_what_ran_like_any_other():
    ran = evidence(layers=(layer(MACS * 3, "tf32"),))
    fp32 = evidence(layers=(layer(MACS * 3, "fp32"),))
    asked = {"precision": "tf32", "device": "cpu", "batch_size": 3, "threads": 2, "macs": MACS}
    assert judge_evidence(ran, **asked) == []
    (finding,) = judge_evidence(fp32, **asked)
    assert "tf32 was asked, of the MACs ran 100% in fp32" in finding.reason


@pytest.mark.parametrize(("flags", "native"), [(("avx512f", "avx512_bf16"), False), (("avx512_fp16",), True)])
def test_fp16_is_native_where_the_cpus_own_flags_say_so(
    monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], native: bool
):
    monkeypatch.setattr("vggbench.environment.cpu.precision_flags", lambda root: flags)
    monkeypatch.setattr("vggbench.backends.torch_eager._onednn_supports", lambda precision: True)
    support = TorchBackend().supports("fp16", "cpu")
    assert support.supported == native
    assert ("fp16 instructions" in support.reason) == (not native)


@pytest.mark.parametrize(("precision", "words"), [("tf32", "a mode of NVIDIA's GPUs"), ("int8", "has no int8 conv")])
def test_what_a_cpu_has_not_is_said(precision: str, words: str):
    support = TorchBackend().supports(precision, "cpu")
    assert not support.supported
    assert words in support.reason
