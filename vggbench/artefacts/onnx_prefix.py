"""The front part of an ONNX file as a file of its own, for whoever looks for the layer at which something goes wrong.

Imports onnx inside its functions and no torch. Nodes, types and stored numbers stay what they are in the whole file;
added is what lets any backend hand the part's last value over as it would hand over logits: fp32, flattened.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vggbench.artefacts.artefact import Artefact, combined_hash, file_sha256
from vggbench.artefacts.network_check import COUNTED_OPERATIONS
from vggbench.artefacts.network_file import load_graph
from vggbench.artefacts.onnx import DATA_FILE, ONNX_FILE
from vggbench.errors import RequestError
from vggbench.models.network_file import NetworkFile, network_from_json

if TYPE_CHECKING:
    import onnx

PREFIX_OUTPUT = "vggbench.prefix"


@dataclass(frozen=True, slots=True)
class Cut:
    """A place where a file can be cut in two: the value of a layer is all that later nodes have of the image.

    Attributes:
        layer: the name of the node that makes the value, or the value's own where nodes have no names.
        operation: of that node, as ONNX calls it.
        value: its name in the graph.
    """

    layer: str
    operation: str
    value: str


def moving_nodes(graph: onnx.GraphProto, image: str) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that the image reaches, in the graph's order, which is one in which they can be computed."""
    moving = {image}
    for node in graph.node:
        if not moving.isdisjoint(node.input):
            moving.update(name for name in node.output if name)
            yield node


def layer_values(graph: onnx.GraphProto, image: str) -> dict[str, str]:
    """Return the last value that each layer makes, by the layer's name: its nodes are called `layer`, `layer/1`, ..."""
    return {node.name.split("/")[0]: node.output[0] for node in moving_nodes(graph, image)}


def chain_of_cuts(path: Path, model: onnx.ModelProto, image: str) -> list[Cut]:
    """Return the places where a graph can be cut, in order, the last one being its output.

    Raises `RequestError` where two convolutions or products lie between neighbouring cuts: side by side in branches, so
    that no prefix tells them apart.
    """
    nodes = list(moving_nodes(model.graph, image))
    last_use = {name: index for index, node in enumerate(nodes) for name in node.input}
    last_use |= {value.name: len(nodes) for value in model.graph.output}
    floats, alive, products, cuts = _float_values(model), {image}, 0, []
    for index, node in enumerate(nodes):
        alive = {name for name in (*alive, *node.output) if last_use.get(name, -1) > index}
        products += node.op_type in COUNTED_OPERATIONS
        if alive == {node.output[0]} and node.output[0] in floats:
            cuts.append(Cut(node.name or node.output[0], node.op_type, node.output[0]))
            if products > 1:
                where = f"{products} products lie in branches before {cuts[-1].layer}"
                raise RequestError(f"{path.name} is no chain, {where}: no prefix tells them apart")
            products = 0
    return cuts


def _float_values(model: onnx.ModelProto) -> set[str]:
    """Return the values of floating-point types: those that can be held against a reference's."""
    import onnx

    kinds = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {value.name for value in (*graph.value_info, *graph.output) if value.type.tensor_type.elem_type in kinds}


def part_between(model: onnx.ModelProto, end: str, start: str) -> onnx.ModelProto:
    """Return the part of a graph that computes the value `end` from the value `start`, its only input."""
    import onnx

    wanted, kept = {end}, []
    for node in reversed(model.graph.node):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(name for name in node.input if name != start)
    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = part.graph
    graph.name = model.graph.name
    graph.node.extend(reversed(kept))
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in wanted | {end})
    graph.input.extend(value for value in model.graph.input if value.name == start)
    if not graph.input:
        graph.input.append(onnx.helper.make_tensor_value_info(start, onnx.TensorProto.FLOAT, None))
    graph.output.append(onnx.helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, None))
    return part


def prefix_artefact(whole: Artefact, value: str, shape: Sequence[int], folder: Path) -> Artefact:
    """Write the part of an ONNX artefact that ends at a value into a folder; it is no artefact of a store.

    `shape` is the value's, of one image; a session gives it flattened, `(batch, values)`, in fp32.
    """
    import onnx

    network = network_from_json(whole.spec)
    part = part_between(load_graph(whole.path), value, network.input_name)
    onnx.external_data_helper.load_external_data_for_model(part, whole.folder)
    _hand_over(part.graph, value, math.prod(shape))
    folder.mkdir()
    onnx.save(part, folder / ONNX_FILE, save_as_external_data=True, location=DATA_FILE)
    files = {path.name: file_sha256(path) for path in folder.iterdir()}
    spec = NetworkFile(
        variant=network.variant,
        path=str(folder / ONNX_FILE),
        sha256=combined_hash(files),
        input_name=network.input_name,
        output_name=PREFIX_OUTPUT,
        input_size=network.input_size,
        num_classes=math.prod(shape),
        batch_size=network.batch_size if isinstance(network, NetworkFile) else 0,
        parameters=0,
        weights_type=whole.precision,
    )
    return Artefact(
        kind=whole.kind,
        folder=str(folder),
        main=ONNX_FILE,
        files=files,
        sha256=spec.sha256,
        spec=spec.to_json(),
        precision=whole.precision,
        seconds=0.0,
    )


def _hand_over(graph: onnx.GraphProto, value: str, count: int) -> None:
    """Make the value the graph's output, as fp32 `(batch, count)`."""
    from onnx import TensorProto, helper

    wide = f"{PREFIX_OUTPUT}.fp32"
    graph.node.append(helper.make_node("Cast", [value], [wide], wide, to=TensorProto.FLOAT))
    graph.node.append(helper.make_node("Flatten", [wide], [PREFIX_OUTPUT], PREFIX_OUTPUT, axis=1))
    batch = graph.input[0].type.tensor_type.shape.dim[0]
    del graph.output[:]
    graph.output.append(
        helper.make_tensor_value_info(PREFIX_OUTPUT, TensorProto.FLOAT, [batch.dim_value or batch.dim_param, count])
    )
