"""The layers of an engine as TensorRT's inspector tells them of one that is open, in JSON.

Three forms of it are read. TensorRT 10 names inputs and outputs in a list `Bindings`, and says of a tensor
`Format/Datatype`, often only in words ("Channel major FP16 format where channel % 8 == 0"). TensorRT 11 and TensorRT
for RTX have objects in `I/O Tensors`, and `Datatype` apart from `Format`. The weights of a layer are `Weights` with a
type and a count, or `Constants` like tensors. The standard library only: workers import it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from vggbench.artefacts.engine_layers import EngineLayer, Tensor, nodes_of
from vggbench.errors import ExportError

# What types are called in words or one of their own, the longer names first: BFloat16 has Float in it.
_TYPE_NAMES = {
    "BFloat16": ("bfloat16", "bf16"),
    "Half": ("half", "fp16", "float16"),
    "FP8": ("fp8", "float8"),
    "Float": ("float", "fp32"),
    "Int8": ("int8",),
    "Int32": ("int32",),
    "Int64": ("int64",),
    "Bool": ("bool",),
}
_NO_DETAIL = "the inspector gives names of layers only; the engine was built without detailed profiling verbosity"


def read_inspection(text: str) -> list[EngineLayer]:
    """Return the layers of an inspector's JSON; `ExportError` for one of another form, or without layers."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ExportError(f"what the inspector says of the engine is not JSON: {error}") from error
    layers = data.get("Layers") if isinstance(data, Mapping) else None
    if not isinstance(layers, list) or not layers:
        raise ExportError("the inspector lists no layers of the engine: what it computes in cannot be proven")
    if any(isinstance(layer, str) for layer in layers):
        raise ExportError(f"{_NO_DETAIL}: what it computes in cannot be proven")
    return [_layer(layer) for layer in layers if isinstance(layer, Mapping)]


def _layer(entry: Mapping[str, Any]) -> EngineLayer:
    return EngineLayer(
        name=str(entry.get("Name", "")),
        kind=str(entry.get("LayerType", "")),
        inputs=_tensors(entry.get("Inputs")),
        constants=(*_tensors(entry.get("Constants")), *_weights(entry.get("Weights"))),
        outputs=_tensors(entry.get("Outputs")),
        tactic=str(entry.get("TacticName", "")),
        nodes=nodes_of(str(entry.get("Metadata", ""))),
    )


def _tensors(entries: Any) -> tuple[Tensor, ...]:
    found = [entry for entry in entries or () if isinstance(entry, Mapping)]
    return tuple(Tensor(_type(entry), _size(entry.get("Dimensions", ()))) for entry in found)


def _weights(entry: Any) -> tuple[Tensor, ...]:
    if not isinstance(entry, Mapping) or "Count" not in entry:
        return ()
    return (Tensor(type_named(str(entry.get("Type", ""))), int(entry["Count"])),)


def _size(dimensions: Any) -> int:
    """Return the numbers in a tensor, a free dimension counted as one."""
    return math.prod(abs(int(number)) for number in dimensions)


def _type(entry: Mapping[str, Any]) -> str:
    words = (entry.get(key) for key in ("Datatype", "DataType", "Format/Datatype", "Format"))
    return type_named(next((str(word) for word in words if word), ""))


def type_named(words: str) -> str:
    """Return what engines call the type that is named somewhere in the words; the words where there is none."""
    lower = words.lower()
    return next((name for name, texts in _TYPE_NAMES.items() if any(text in lower for text in texts)), words)
