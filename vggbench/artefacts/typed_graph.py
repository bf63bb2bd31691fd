"""A graph of fp32 with another floating-point type in its place, its input and outputs still fp32.

Imports onnx inside its functions. Works on the graph alone: large weights, which lie in a file beside it, get their
new type here and their new values where that file is written.

Operations that multiply and accumulate, pools and activations take the type. Those of `FP32_OPERATIONS` do not, here
as in PyTorch: LRN squares activations, which are beyond fp16's range from 256 on, and a softmax is a sum of powers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggbench.artefacts.onnx_form import OnnxForm
from vggbench.errors import ExportError

if TYPE_CHECKING:
    import onnx

FP32_OPERATIONS = frozenset({"LRN", "Softmax"})
_ELEMENTS = {"fp32": "FLOAT", "fp16": "FLOAT16", "bf16": "BFLOAT16"}  # ONNX's names


def element_type(precision: str) -> int:
    """Return ONNX's number of a type."""
    import onnx

    return int(onnx.TensorProto.DataType.Value(_ELEMENTS[precision]))


def stays_fp32(node: onnx.NodeProto, form: OnnxForm) -> bool:
    """Say whether a node of a typed graph is fp32 all the same."""
    return node.op_type in FP32_OPERATIONS or node.name in form.keep_fp32


def value_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of every value of a graph by its name, inferred from its inputs and constants alone."""
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]  # what a file says of its values is what is in question
    graph = onnx.shape_inference.infer_shapes(bare, strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def type_graph(model: onnx.ModelProto, form: OnnxForm) -> None:
    """Change an fp32 model to the form's type and opset, in place.

    Tensors with external data are given the type only. Casts stand behind the input, in front of outputs, and around
    nodes that stay fp32. Raises `ExportError` where the graph has what cannot be changed.
    """
    _raise_opset(model, form.opset)
    _Retyping(model, form).apply()


def _raise_opset(model: onnx.ModelProto, opset: int) -> None:
    """Let the model be of a later opset, where its operators differ in no more than the types that they take."""
    (entry,) = model.opset_import
    changed = {node.op_type for node in model.graph.node if not _means_the_same(node.op_type, entry.version, opset)}
    if changed:
        raise ExportError(f"{', '.join(sorted(changed))} of opset {entry.version} changed until {opset}; give --opset")
    entry.version = opset


def _means_the_same(operation: str, one: int, other: int) -> bool:
    import onnx

    schemas = [onnx.defs.get_schema(operation, version) for version in (one, other)]
    faces = [
        (
            [(part.name, part.option) for part in (*schema.inputs, *schema.outputs)],
            {name: (entry.type, entry.required, str(entry.default_value)) for name, entry in schema.attributes.items()},
        )
        for schema in schemas
    ]
    return faces[0] == faces[1]


class _Retyping:
    """Goes through the nodes of a graph in order and knows what type each value has by then."""

    def __init__(self, model: onnx.ModelProto, form: OnnxForm) -> None:

        self._form = form
        self._graph = model.graph
        self._fp32, self._element = element_type("fp32"), element_type(form.precision)
        self._floats = {name for name, kind in value_types(model).items() if kind == self._fp32}
        self._tensors = {tensor.name: tensor for tensor in self._graph.initializer}
        self._outputs = {value.name for value in self._graph.output}
        self._types: dict[str, int] = {value.name: self._fp32 for value in self._graph.input}
        self._casts: dict[tuple[str, int], str] = {}
        self._nodes: list[onnx.NodeProto] = []

    def apply(self) -> None:
        import onnx

        for node in self._graph.node:
            changed = onnx.NodeProto()
            changed.CopyFrom(node)
            self._take(changed)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        for value in self._graph.value_info:
            if value.name in self._floats:
                value.type.tensor_type.elem_type = self._types[value.name]

    def _take(self, node: onnx.NodeProto) -> None:
        wanted = self._fp32 if stays_fp32(node, self._form) else self._element
        for place, name in enumerate(node.input):
            if name in self._floats:
                node.input[place] = self._constant(name, wanted) if name in self._tensors else self._value(name, wanted)
        self._nodes.append(node)
        for place, name in enumerate(node.output):
            if name in self._floats:
                self._types[name] = wanted
                if name in self._outputs and wanted != self._fp32:
                    node.output[place] = self._typed_output(name)

    def _constant(self, name: str, wanted: int) -> str:
        """Give a stored tensor the type; those that are stored in the graph itself their values, too."""
        import onnx

        if self._types.setdefault(name, wanted) != wanted:
            raise ExportError(f"{name} is used by a node that stays fp32 and by one that does not")
        tensor = self._tensors[name]
        if tensor.data_type == wanted:
            return name
        if tensor.data_location == tensor.EXTERNAL:
            tensor.data_type = wanted
        else:
            values = onnx.numpy_helper.to_array(tensor).astype(onnx.helper.tensor_dtype_to_np_dtype(wanted))
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))
        return name

    def _value(self, name: str, wanted: int) -> str:
        """Return the name of a value in a type, cast where it has another."""
        if self._types[name] == wanted:
            return name
        if (name, wanted) not in self._casts:
            self._casts[name, wanted] = self._typed_name(name, wanted)
            self._cast(name, self._casts[name, wanted], wanted)
        return self._casts[name, wanted]

    def _typed_output(self, name: str) -> str:
        """Cast what a node makes to the graph's fp32 output; return what the node's own value is called."""
        self._types[name] = self._fp32
        self._casts[name, self._element] = self._typed_name(name, self._element)
        self._cast(self._casts[name, self._element], name, self._fp32)
        return self._casts[name, self._element]

    def _typed_name(self, name: str, element: int) -> str:
        return f"{name}/{'fp32' if element == self._fp32 else self._form.precision}"

    def _cast(self, source: str, target: str, element: int) -> None:
        import onnx

        self._nodes.append(onnx.helper.make_node("Cast", [source], [target], name=f"{target}/cast", to=element))
