"""What eager PyTorch's stopwatches do where work is queued on a device."""

from __future__ import annotations

import pytest
import torch

from vggbench.backends import torch_precision
from vggbench.backends.torch_eager import ModuleWatch


@pytest.mark.parametrize(("device", "waits"), [("meta", 6), ("cpu", 0)])
def test_each_module_waits_for_a_device_with_a_queue(device: str, waits: int, monkeypatch: pytest.MonkeyPatch):
    waited: list[bool] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: waited.append(True))
    network = torch.nn.Sequential(torch.nn.Linear(4, 3, device=device), torch.nn.ReLU(), torch.nn.Identity())
    with ModuleWatch(network) as watch:
        network(torch.empty(2, 4, device=device))
    assert len(waited) == waits
    linear, relu, _ = watch.layer_times()
    assert (linear.name, linear.operation, linear.macs, linear.weights) == ("0", "Linear", 2 * 3 * 4, 12)
    assert (relu.operation, relu.macs) == ("ReLU", 0)


def test_no_stopwatch_is_left_behind():
    network = torch.nn.Sequential(torch.nn.ReLU())
    with ModuleWatch(network) as watch:
        network(torch.zeros(1))
    network(torch.zeros(1))
    assert [len(time.samples_ns) for time in watch.layer_times()] == [1]


def test_a_module_that_did_not_run_has_no_time():
    with ModuleWatch(torch.nn.Sequential(torch.nn.ReLU())) as watch:
        pass
    assert watch.layer_times() == ()


@pytest.mark.parametrize("name", ["ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"])
def test_looser_fp32_is_seen_under_both_names_that_onednn_reads(monkeypatch: pytest.MonkeyPatch, name: str):
    for either in ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"):
        monkeypatch.delenv(either, raising=False)
    assert torch_precision.onednn_fpmath_mode() == ""
    monkeypatch.setenv(name, "BF16")
    assert torch_precision.onednn_fpmath_mode() == "BF16"
