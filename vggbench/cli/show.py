"""`vggbench show`: one network, layer by layer.

Imports no torch: the walk is worked out from the spec.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from vggbench.cli.options import (
    BatchNormOption,
    ClassifierWidthOption,
    ConfigOption,
    HeadOption,
    InputSizeOption,
    JsonOption,
    LocalResponseNormOption,
    NumClassesOption,
)
from vggbench.cli.tables import plain_table, print_table
from vggbench.errors import RequestError
from vggbench.models.layers import Layer, Totals, totals, walk
from vggbench.models.spec import CLASSIFIER_WIDTH, ModelSpec, make_spec

MAX_BATCH_SIZE = 1_000_000  # beyond it a number is a typing error

VariantArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[VARIANT]", help="A name of `vggbench list`, or a letter of the paper.", show_default=False
    ),
]
BatchSizeOption = Annotated[int, typer.Option("--batch-size", metavar="N", help="Images in the batch.")]
ExplainOption = Annotated[
    bool,
    typer.Option(
        "--explain", help="Why 3x3, in this network's own numbers, and the network built step by step; of one image."
    ),
]

_HEADINGS = ("output", "M par.", "%", "GMACs", "%", "act.\nMiB", "wgt.\nMiB", "FLOP\n/byte", "view")
_CAPTION = (
    "M par.: million parameters. act.: activations written, wgt.: weights, in fp32. FLOPs are 2 x MACs; per byte, when "
    "each input, output and weight moves once. view: receptive field in input pixels, padding included."
)
# A line fits 80 columns with these.
_SHORT = {"average_pool": "avgpool", "max_pool": "maxpool", "batch_norm": "bn", "local_response_norm": "lrn"}


def show(
    variant: VariantArgument = None,
    *,
    config: ConfigOption = None,
    batch_norm: BatchNormOption = None,
    local_response_norm: LocalResponseNormOption = None,
    num_classes: NumClassesOption = None,
    input_size: InputSizeOption = None,
    head: HeadOption = None,
    classifier_width: ClassifierWidthOption = CLASSIFIER_WIDTH,
    batch_size: BatchSizeOption = 1,
    explain: ExplainOption = False,
    json_output: JsonOption = False,
) -> None:
    """Show a network layer by layer: shapes, parameters, MACs, bytes, receptive field."""
    if not 1 <= batch_size <= MAX_BATCH_SIZE:
        raise RequestError(f"batch size is {batch_size}; it must be from 1 to {MAX_BATCH_SIZE}")
    if explain and batch_size != 1:
        raise RequestError("--explain is of one image; leave --batch-size out")
    spec = make_spec(
        variant,
        config=config,
        batch_norm=batch_norm,
        local_response_norm=local_response_norm,
        head=head,
        input_size=input_size,
        num_classes=num_classes,
        classifier_width=classifier_width,
    )
    if explain:
        _explain(spec, json_output)
        return
    layers = walk(spec, batch_size)
    if json_output:
        print(json.dumps(_document(spec, batch_size, layers), indent=2))
    else:
        _print_table(spec, batch_size, layers)


def _explain(spec: ModelSpec, json_output: bool) -> None:
    from vggbench.cli.explain import explanation_document, print_explanation
    from vggbench.models.explanation import explain

    explanation = explain(spec)
    if json_output:
        print(json.dumps(explanation_document(spec, explanation), indent=2))
    else:
        print_explanation(spec, explanation)


def _document(spec: ModelSpec, batch_size: int, layers: list[Layer]) -> dict[str, Any]:
    total = totals(layers)
    return {
        "spec": spec.to_json(),
        "batch_size": batch_size,
        "layers": [_record(layer, total) for layer in layers],
        "totals": {
            "parameters": total.parameters,
            "macs": total.macs,
            "activation_bytes": total.activation_bytes,
            "weight_bytes": total.weight_bytes,
            "arithmetic_intensity_flops_per_byte": total.arithmetic_intensity,
        },
    }


def _record(layer: Layer, total: Totals) -> dict[str, Any]:
    return {
        "name": layer.name,
        "operation": layer.operation,
        "output_shape": list(layer.output_shape),
        "parameters": layer.parameters,
        "macs": layer.macs,
        "activation_bytes": layer.activation_bytes,
        "weight_bytes": layer.weight_bytes,
        "arithmetic_intensity_flops_per_byte": layer.arithmetic_intensity,
        "receptive_field": layer.receptive_field,
        "share_of_parameters": layer.parameters / total.parameters,
        "share_of_macs": layer.macs / total.macs,
    }


def _print_table(spec: ModelSpec, batch_size: int, layers: list[Layer]) -> None:
    total = totals(layers)
    title = f"{spec.variant}, {spec.input_size}x{spec.input_size}, {spec.num_classes} classes, batch {batch_size}; "
    title += f"{total.parameters:,} parameters"
    table = plain_table(title=title, caption=_CAPTION)
    table.add_column("layer")
    table.add_column("kind")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    for layer in layers:
        table.add_row(layer.name, _SHORT.get(layer.operation, layer.operation), *_cells(layer, total))
    table.add_section()
    table.add_row("total", "", *_total_cells(total))
    print_table(table)


def _cells(layer: Layer, total: Totals) -> tuple[str, ...]:
    return (
        "x".join(str(size) for size in layer.output_shape[1:]),
        f"{layer.parameters / 1e6:.3f}" if layer.parameters else "",
        f"{100 * layer.parameters / total.parameters:.1f}" if layer.parameters else "",
        f"{layer.macs / 1e9:.3f}" if layer.macs else "",
        f"{100 * layer.macs / total.macs:.1f}" if layer.macs else "",
        _mib(layer.activation_bytes),
        _mib(layer.weight_bytes) if layer.weight_bytes else "",
        f"{layer.arithmetic_intensity:.1f}" if layer.macs else "",
        str(layer.receptive_field),
    )


def _total_cells(total: Totals) -> tuple[str, ...]:
    return (
        "",
        f"{total.parameters / 1e6:.3f}",
        "100",
        f"{total.macs / 1e9:.3f}",
        "100",
        _mib(total.activation_bytes),
        _mib(total.weight_bytes),
        f"{total.arithmetic_intensity:.1f}",
        "",
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f}"
