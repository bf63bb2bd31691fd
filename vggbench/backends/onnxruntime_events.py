"""What ONNX Runtime's profile says of the operations that ran: types, shapes and times; and how a session gets one.

Imports onnxruntime inside its functions.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vggbench.artefacts.artefact import Artefact
from vggbench.backends.base import LayerEvidence, LayerTime
from vggbench.models.layers import Layer, mac_layers
from vggbench.models.network_file import NetworkFile, network_from_json

_LOG_ERRORS = 3  # ONNX Runtime's severity scale: 3 is error
_MAC_OPERATIONS = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
# What the optimiser makes of products between quantisers. Their weights are packed, and no event has their shape.
_EIGHT_BIT_OPERATIONS = {"QLinearConv", "QGemm", "QLinearMatMul"}
# What the optimiser adds to a node's name when it fuses nodes, or lays out a convolution by blocks of channels.
_REWRITTEN = re.compile(r"^fused |(_nchwc)?(_token_\d+)?_kernel_time$")
_PRECISION_NAMES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8"}


class Profiler:
    """The folder that a session writes its profile to, until it is read."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vggbench-profile-")

    @property
    def prefix(self) -> str:
        """Return the beginning of the file's path."""
        return str(Path(self._folder.name) / "profile")

    def end(self, session: Any) -> list[dict[str, Any]]:
        """Stop the session's profiler, and return its events; it does not start again."""
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
        self.close()
        return events

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()


def session_options(threads: int, profiler: Profiler | None) -> Any:
    """Return the settings of a session: one pool of threads, nodes told by provider, a profile where one is wanted."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _LOG_ERRORS
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if profiler is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = profiler.prefix
    return settings


def product_evidence(
    events: list[dict[str, Any]], artefact: Artefact, *, fp32_means: str = "fp32"
) -> tuple[tuple[LayerEvidence, ...], int]:
    """Return what the products of the last request were seen to do, and its batch size, 0 where they disagree.

    `fp32_means` is what a provider computes products of fp32 operands in.
    """
    layers = named_layers(artefact)
    products = [event for event in _node_events(events) if _is_product(event)]
    seen = [_layer_evidence(event, layers) for event in products]
    batches = {_shape(event["args"]["output_type_shape"][0])[0] for event in products}
    told = tuple(replace(one, precision=fp32_means) if one.precision == "fp32" else one for one in seen)
    return told, batches.pop() if len(batches) == 1 else 0


def _kernel_events(events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what the profile says of kernels, in the order in which they ran."""
    return (event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"))


def _node_events(events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the kernel events of the last request recorded, one a node."""
    last = {event["args"]["node_index"]: event for event in _kernel_events(events)}
    return iter(last.values())


def layer_times(events: list[dict[str, Any]], requests: int, layers: Mapping[str, Layer]) -> tuple[LayerTime, ...]:
    """Return every node's times in the newest requests; the profiler counts microseconds."""
    by_node: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in _kernel_events(events):
        by_node[event["args"]["node_index"]].append(event)
    return tuple(
        LayerTime(
            name=_name(found[-1]),
            operation=found[-1]["args"]["op_name"],
            macs=_macs(found[-1], layers) if _is_product(found[-1]) else 0,
            weights=_weights(found[-1], layers) if _is_product(found[-1]) else 0,
            samples_ns=tuple(event["dur"] * 1000 for event in found[-requests:]),
        )
        for found in by_node.values()
    )


def named_layers(artefact: Artefact) -> dict[str, Layer]:
    """Return the layers of a network of ours by name: nodes are named after them."""
    network = network_from_json(artefact.spec)
    return {} if isinstance(network, NetworkFile) else {layer.name: layer for layer in mac_layers(network)}


def _name(event: dict[str, Any]) -> str:
    """Return the node's name in the file."""
    return _REWRITTEN.sub("", event["name"])


def _is_product(event: dict[str, Any]) -> bool:
    return event["args"]["op_name"] in _MAC_OPERATIONS | _EIGHT_BIT_OPERATIONS


def _is_eight_bit(event: dict[str, Any]) -> bool:
    return event["args"]["op_name"] in _EIGHT_BIT_OPERATIONS


def _shape(tensor: dict[str, list[int]]) -> list[int]:
    return next(iter(tensor.values()))


def _layer_evidence(event: dict[str, Any], layers: Mapping[str, Layer]) -> LayerEvidence:
    arguments = event["args"]
    inputs, outputs = arguments["input_type_shape"], arguments["output_type_shape"]
    if _is_eight_bit(event):  # scales are fp32, biases int32, and the last layer's output is fp32
        inputs, outputs = inputs[:1], ()
    types = {_PRECISION_NAMES.get(next(iter(tensor)), next(iter(tensor))) for tensor in (*inputs, *outputs)}
    return LayerEvidence(
        name=event["name"].removesuffix("_kernel_time"),
        operation=arguments["op_name"],
        precision=types.pop() if len(types) == 1 else "+".join(sorted(types)),
        placement=arguments["provider"],
        macs=_macs(event, layers),
    )


def _macs(event: dict[str, Any], layers: Mapping[str, Layer]) -> int:
    """Return a product's multiply-accumulates from the shapes in its event, as far as it has them.

    How many products an 8-bit operation sums is known of a network of ours alone; of others nothing is claimed.
    """
    arguments = event["args"]
    inputs = arguments["input_type_shape"]
    if _is_eight_bit(event):
        per_output = layers[_name(event)].reduction_length if _name(event) in layers else 0
    else:
        per_output = math.prod(_shape(inputs[1])[1:]) if "Conv" in arguments["op_name"] else _shape(inputs[0])[-1]
    return math.prod(_shape(arguments["output_type_shape"][0])) * per_output


def _weights(event: dict[str, Any], layers: Mapping[str, Layer]) -> int:
    """Return the elements that a product multiplies its data with; an event may leave out those of a matrix."""
    arguments = event["args"]
    inputs = arguments["input_type_shape"]
    if _is_eight_bit(event):
        layer = layers.get(_name(event))
        return layer.reduction_length * layer.output_shape[1] if layer else 0
    if "Conv" in arguments["op_name"]:
        return math.prod(_shape(inputs[1]))
    return _shape(inputs[0])[-1] * _shape(arguments["output_type_shape"][0])[-1]
