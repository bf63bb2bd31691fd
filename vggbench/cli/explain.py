"""What `vggbench show --explain` prints: the explanation of `models.explanation` in 80 columns. Imports no torch."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from vggbench.cli.tables import plain_table, print_table
from vggbench.models.explanation import SOURCE, Explanation, Pointwise, Stack, Step
from vggbench.models.spec import ModelSpec

_WIDTH = 80
_WORDS = {"batch_norm": "bn", "local_response_norm": "lrn", "max_pool": "2x2 max pool", "average_pool": "average pool"}


def explanation_document(spec: ModelSpec, explanation: Explanation) -> dict[str, Any]:
    """Return what `--explain --json` prints."""
    return {"spec": spec.to_json(), "source": SOURCE, **asdict(explanation)}


def print_explanation(spec: ModelSpec, explanation: Explanation) -> None:
    """Print prose and tables."""
    _print_title(f"{spec.variant}: why 3x3")
    if explanation.imagined:
        _print_stacks(explanation)
    else:
        _print_prose("This network has no 3x3 convolution.")
    if explanation.pointwise:
        _print_title("What its 1x1 convolutions do")
        _print_pointwise(explanation.pointwise)
    _print_title("Where parameters and MACs sit")
    _print_shares(explanation)
    _print_title(f"Built step by step from {len(spec.stages)} items")
    _print_prose(spec.configuration.replace(",", ", "))
    _print_steps(explanation.steps)


def _print_stacks(explanation: Explanation) -> None:
    _print_prose(
        "A stack of 3x3 convolutions sees as much of its input as one larger kernel, with a ReLU after each layer "
        f"instead of one, and with fewer weights ({SOURCE}). At the widths of this network, as many channels in as "
        "out:"
    )
    _print_stack_table(explanation.imagined)
    if not explanation.stacks:
        _print_prose("The network itself has no two 3x3 convolutions in a row.")
        return
    _print_prose(
        "The stacks that it has. One that widens is held against a single layer out of its narrow input, which can "
        "have fewer weights than the wide layers behind the first: the argument is about equal widths."
    )
    _print_stack_table(explanation.stacks)


def _print_stack_table(stacks: Sequence[Stack]) -> None:
    table = plain_table()
    headings = ("", "channels", "sees", "parameters", "as one layer", "of that")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in headings[:3] else "right")
    for stack in stacks:
        table.add_row(
            f"block {stack.block}" if stack.block else f"{len(stack.channels) - 1} 3x3",
            _channels(stack.channels),
            f"{stack.view}x{stack.view}",
            f"{stack.parameters:,}",
            f"{stack.single_parameters:,}",
            f"{100 * stack.parameters / stack.single_parameters:.0f} %",
        )
    print_table(table)
    print()


def _channels(channels: Sequence[int]) -> str:
    """Write 3, 64, 64, 64 as `3 > 64 x3`."""
    runs: list[list[int]] = []
    for width in channels[1:]:
        if runs and runs[-1][0] == width:
            runs[-1][1] += 1
        else:
            runs.append([width, 1])
    return " > ".join([str(channels[0]), *(f"{width} x{count}" if count > 1 else str(width) for width, count in runs)])


def _print_pointwise(layers: Sequence[Pointwise]) -> None:
    parameters = sum(layer.parameters for layer in layers)
    as_3x3 = sum(layer.single_3x3_parameters for layer in layers)
    _print_prose(
        "Each mixes the channels of one position and adds a ReLU; the receptive field stays. They have "
        f"{parameters:,} parameters, where 3x3 convolutions would have {as_3x3:,}."
    )
    table = plain_table()
    for heading in ("layer", "channels", "field before", "after", "parameters", "as a 3x3"):
        table.add_column(heading, justify="left" if heading in {"layer", "channels"} else "right")
    for layer in layers:
        fields = (str(layer.field_before), str(layer.field_after))
        counts = (f"{layer.parameters:,}", f"{layer.single_3x3_parameters:,}")
        table.add_row(layer.name, _channels(layer.channels), *fields, *counts)
    print_table(table)
    print()


def _print_shares(explanation: Explanation) -> None:
    table = plain_table()
    for heading in ("part", "parameters", "%", "GMACs", "% "):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for share in explanation.shares:
        parameters = (f"{share.parameters:,}", f"{100 * share.share_of_parameters:.1f}")
        table.add_row(share.part, *parameters, f"{share.macs / 1e9:.3f}", f"{100 * share.share_of_macs:.1f}")
    print_table(table)
    print()
    largest = explanation.largest
    _print_prose(
        f"{largest.part} alone has {100 * largest.share_of_parameters:.1f} % of the parameters and "
        f"{100 * largest.share_of_macs:.1f} % of the MACs."
    )


def _print_steps(steps: Sequence[Step]) -> None:
    table = plain_table()
    for heading in ("item", "layers", "after it", "view", "parameters"):
        table.add_column(heading, justify="right" if heading in {"view", "parameters"} else "left")
    for step in steps:
        table.add_row(
            step.item,
            ", ".join(_WORDS.get(operation, operation) for operation in step.operations),
            "x".join(map(str, step.output_shape)),
            str(step.receptive_field),
            f"{step.parameters:,}" if step.parameters else "",
        )
    print_table(table)
    print()
    _print_prose(
        "view: receptive field in input pixels. vggbench show without --explain has every layer's cost.", end=""
    )


def _print_title(text: str) -> None:
    print(f"{text}\n{'─' * len(text)}")


def _print_prose(text: str, end: str = "\n") -> None:
    print(textwrap.fill(text, _WIDTH), end=f"\n{end}")
