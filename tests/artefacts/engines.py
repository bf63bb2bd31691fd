"""A narrow network's engines, where TensorRT for RTX is installed, and a library of TensorRT that is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.artefacts.networks import narrow
from tests.artefacts.quantized_files import CALIBRATION
from vggbench.artefacts.onnx_form import OnnxForm, default_opset
from vggbench.artefacts.quantization import QUANTIZED_PRECISIONS
from vggbench.artefacts.tensorrt_libraries import installed

SPEC = narrow(batch_norm=True)
MODULE = "tensorrt_rtx"
needs_rtx = pytest.mark.skipif(
    installed("tensorrt-rtx") is None, reason="tensorrt-rtx is not installed: pip install 'vggbench[rtx]'"
)


def form_of(precision: str) -> OnnxForm:
    opset = default_opset(precision)
    if precision in QUANTIZED_PRECISIONS:
        return OnnxForm(precision=precision, opset=opset, layout="trt", calibration=CALIBRATION)
    return OnnxForm(precision=precision, opset=opset)


def job(onnx: Path, folder: Path, **changes: object) -> dict[str, object]:
    """Return what a builder's process is told."""
    given = {"workspace_mib": None, "optimization_level": None, "compute_capabilities": (), "batch_sizes": (1, 4, 8)}
    given |= {"tf32": False, "timing_cache": None}
    return {"module": MODULE, "onnx": str(onnx), "plan": str(folder / "model.plan"), **given, **changes}


def write_module(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a module that builders can import, and return its name."""
    (folder / "made_up_tensorrt.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", ":".join([str(folder), *sys.path]))
    return "made_up_tensorrt"
