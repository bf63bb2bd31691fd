from __future__ import annotations

import pytest

from tests.fakes import known, missing
from vggbench.environment.gpus import SeenGpus
from vggbench.errors import RequestError
from vggbench.measure.client import BackendProbe
from vggbench.plan import expand, find_cells, selection
from vggbench.plan.devices import choose_device

H100 = SeenGpus(("NVIDIA H100",), "580.65.06")
TOO_OLD = BackendProbe(
    name="torch",
    available=False,
    version="",
    reason="NVIDIA H100, driver 470.82: the driver serves CUDA up to 11.4, torch 2.14.1 needs 13.0",
    remedy="update the driver to 580.65.06 or newer",
    precisions={},
)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Let a machine have these GPUs, and torch find this of them; returns what torch was asked."""
    asked: list[tuple[str, str]] = []

    def have(seen: SeenGpus | None, found: BackendProbe | None = None):
        monkeypatch.setattr("vggbench.plan.devices.seen_gpus", lambda: seen)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

        def probe(name: str, device: str) -> BackendProbe:
            asked.append((name, device))
            return found or known(name)

        return probe

    have.asked = asked  # type: ignore[attr-defined]
    return have


def test_without_a_gpu_it_is_the_cpu_and_nothing_is_asked(machine):
    assert choose_device(None, [], machine(None)) == "cpu"
    assert choose_device("cpu", [], machine(H100)) == "cpu"
    assert machine.asked == []


def test_a_gpu_that_can_be_used_is(machine):
    assert choose_device(None, [], machine(H100)) == "cuda"
    assert choose_device("cuda:0", [], machine(H100)) == "cuda"
    assert choose_device("cuda:1", ["torch"], machine(H100)) == "cuda:1"
    assert machine.asked == [("torch", "cuda"), ("torch", "cuda"), ("torch", "cuda:1")]


def test_a_gpu_that_cannot_be_used_is_no_quiet_measurement_of_the_cpu(machine):
    with pytest.raises(RequestError) as caught:
        choose_device(None, [], machine(H100, TOO_OLD))
    text = str(caught.value)
    assert text.startswith("NVIDIA H100, driver 580.65.06, is here and cannot be measured: ")
    assert TOO_OLD.reason in text
    assert TOO_OLD.remedy in text
    assert caught.value.exit_code == 2


def test_backends_that_are_for_one_device_decide_where_none_is_given(machine):
    assert choose_device(None, ["openvino", "fake"], machine(H100)) == "cpu"
    assert choose_device(None, ["torch", "openvino"], machine(H100)) == "cuda"
    with pytest.raises(RequestError, match="device 'cuda' cannot be measured: no NVIDIA GPU is seen here"):
        choose_device(None, ["onnxruntime-tensorrt"], machine(None))


@pytest.mark.parametrize("hidden", ["", "-1", " "])
def test_hidden_gpus_are_as_good_as_none(machine, monkeypatch: pytest.MonkeyPatch, hidden: str):
    probe = machine(H100)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert choose_device(None, [], probe) == "cpu"


@pytest.mark.parametrize("device", ["tpu", "", "cuda:", "cuda:x", "cuda:-1", "cuda:1000", "cuda:01", "cpu:0", "CUDA"])
def test_what_is_no_device_is_named(machine, device: str):
    with pytest.raises(RequestError, match=f"device {device!r} cannot be measured: it can be cpu, cuda"):
        choose_device(device, [], machine(H100))


def test_one_that_is_not_there_says_what_is(machine):
    gone = BackendProbe(
        name="torch", available=False, version="", reason="there is no cuda:1", remedy="use cuda", precisions={}
    )
    with pytest.raises(RequestError, match="device 'cuda:1' cannot be measured: there is no cuda:1; use cuda"):
        choose_device("cuda:1", [], machine(H100, gone))


def on_gpu(chosen, probe=known):
    return expand([selection(chosen)], device="cuda", threads=3, probe=probe)


def test_on_a_gpu_its_own_backends_and_precisions_are_the_default():
    native = {"fp32": "", "tf32": "", "fp16": "", "bf16": "", "int8": "emulated"}
    probe = lambda name: known(name, native) if name in {"torch", "torch-compile", "onnxruntime"} else missing(name)  # noqa: E731
    cells = on_gpu({"variant": "vgg11"}, probe)
    assert [cell.backend for cell in cells[::3]] == ["torch", "torch-compile", "onnxruntime"]
    assert [cell.precision for cell in cells[:3]] == ["fp32", "tf32", "fp16"]
    assert {cell.device for cell in cells} == {"cuda"}
    assert {cell.in_flight for cell in cells} == {4}  # streams share no threads


def test_options_of_a_gpu_are_part_of_its_cells():
    (cell,) = on_gpu({"variant": "vgg11", "backend": "torch:cuda_graph=on", "precision": "fp32"})
    assert dict(cell.options) == {"cuda_graph": "on", "memory_format": "contiguous"}


def test_only_where_nothing_is_chosen_a_gpu_has_several_batches(machine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vggbench.measure.client.probe", machine(H100))

    def sizes(chosen: dict, **options) -> set[int]:
        cells, _versions = find_cells([selection(chosen)], device=None, threads=1, **options)
        return {cell.batch_size for cell in cells}

    assert sizes({}, broad=True) == {1, 8, 32}
    assert sizes({}) == sizes({"variant": "vgg11"}, broad=True) == {1}
    assert sizes({"batch_size": 4}, broad=True) == {4}
