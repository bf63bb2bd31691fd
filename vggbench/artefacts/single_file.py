"""A graph and its weights in one ONNX file, streamed: written without more than a block of the weights in memory.

Imports onnx inside its functions. onnx's own way holds the weights three times: in the tensors, in the message, and in
its bytes. Here protobuf writes the message without its weights, and these are put into it as its format lays them out:
a field is its number and kind, then for bytes and messages the length, then the content.
https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vggbench.artefacts.streams import HashedFile

if TYPE_CHECKING:
    import onnx

# The fields' numbers in onnx.proto.
MODEL_GRAPH, GRAPH_INITIALIZER, TENSOR_RAW_DATA = 7, 5, 9
LENGTH_DELIMITED = 2  # protobuf's wire type of bytes and messages


def write_single_file(
    model: onnx.ModelProto, tensors: Iterable[tuple[str, bytes | memoryview]], keys: list[str], path: Path
) -> str:
    """Write the model with the tensors of `keys`, which its graph has as hollow initializers; return the SHA-256.

    `tensors` are their contents, a large one in several pieces. The model is left without them.
    """
    heads = _take_heads(model.graph, set(keys))
    graph = model.graph.SerializeToString(deterministic=True)
    model.ClearField("graph")
    length = len(graph) + sum(len(head) + size for head, size in heads.values())
    with HashedFile(path) as file:
        file.write(model.SerializeToString(deterministic=True))
        file.write(_field(MODEL_GRAPH, length))
        file.write(graph)
        begun: set[str] = set()
        for key, content in tensors:
            if key not in begun:
                begun.add(key)
                file.write(heads[key][0])
            file.write(content)
    return file.sha256


def _take_heads(graph: onnx.GraphProto, keys: set[str]) -> Mapping[str, tuple[bytes, int]]:
    """Take the initializers out of the graph; return what stands before each one's weights, and their bytes."""
    import onnx

    heads = {}
    for tensor in [tensor for tensor in graph.initializer if tensor.name in keys]:
        hollow = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        size = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * math.prod(tensor.dims)
        head = hollow.SerializeToString(deterministic=True) + _field(TENSOR_RAW_DATA, size)
        heads[tensor.name] = (_field(GRAPH_INITIALIZER, len(head) + size) + head, size)
        graph.initializer.remove(tensor)
    return heads


def _field(number: int, length: int) -> bytes:
    """Return what stands before a field's content."""
    return _varint(number << 3 | LENGTH_DELIMITED) + _varint(length)


def _varint(value: int) -> bytes:
    """Return a whole number in groups of 7 bits, the lowest first, a set high bit saying that another follows."""
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])
