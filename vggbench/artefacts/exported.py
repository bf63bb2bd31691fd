"""The one way from a network to its ONNX file in any form: whichever module writes that form.

Imports nothing heavy; torch and onnx are loaded where there is something to write.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vggbench.artefacts import onnx, precision, quantize
from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.onnx import DEFAULT_FORM
from vggbench.artefacts.onnx_form import TYPED_PRECISIONS, OnnxForm
from vggbench.artefacts.quantization import QUANTIZED_PRECISIONS
from vggbench.models.spec import ModelSpec


def exported(spec: ModelSpec, exports: Path, form: OnnxForm = DEFAULT_FORM, *, hash_existing: bool = False) -> Artefact:
    """Return the spec's ONNX file in a form, made once with all that it is made from, and then found again.

    Arguments and errors as of `onnx_artefact`.
    """
    if form.precision in QUANTIZED_PRECISIONS:
        return quantize.quantized_artefact(spec, exports, form, hash_existing=hash_existing)
    make = precision.typed_artefact if form.precision in TYPED_PRECISIONS else onnx.onnx_artefact
    return make(spec, exports, form=form, hash_existing=hash_existing)


def missing_bytes(spec: ModelSpec, exports: Path, forms: Iterable[OnnxForm]) -> int:
    """Return how much `exported` would write for all forms together, at most; `RequestError` if one cannot be had."""
    parts: dict[OnnxForm | None, int] = {}
    for form in forms:
        parts |= _missing_parts(spec, exports, form)
    return sum(parts.values())


def _missing_parts(spec: ModelSpec, exports: Path, form: OnnxForm) -> dict[OnnxForm | None, int]:
    if form.precision in QUANTIZED_PRECISIONS:
        return quantize.missing_parts(spec, exports, form)
    missing = precision.missing_parts if form.precision in TYPED_PRECISIONS else onnx.missing_parts
    return missing(spec, exports, form)
