"""Why a VGG is as it is, in the numbers of one network: worked out from its layer walk.

The standard library only. The argument is Simonyan & Zisserman 2014, section 2.3: a stack of 3x3 convolutions sees as
much as one larger kernel, with a rectifier after each and with fewer weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeGuard

from vggbench.models.configs import Conv, MaxPool, Stage
from vggbench.models.layers import Layer, convolution_parameters, totals, walk, widened_field
from vggbench.models.spec import IMAGE_CHANNELS, ModelSpec

SOURCE = "Simonyan & Zisserman 2014, Very Deep Convolutional Networks, section 2.3"
STACKED = (2, 3)  # 3x3 convolutions that the paper holds against one 5x5 and one 7x7
# What a step has after its first layer has no step of its own.
_FOLLOWERS = ("batch_norm", "local_response_norm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One item of the configuration, or one layer of the head, and what the network is after it.

    Attributes:
        item: as the configuration has it; empty for the head.
        block: which pool it leads up to, counted from 1; 0 for the head.
        operations: in the order in which they run, `relu` and `dropout` included.
        output_shape: of one image.
        receptive_field: side in input pixels.
    """

    item: str
    block: int
    name: str
    operations: tuple[str, ...]
    output_shape: tuple[int, ...]
    receptive_field: int
    parameters: int
    macs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """3x3 convolutions in a row, and the one convolution that would see as much.

    Attributes:
        channels: into the first, out of the first, ..., out of the last.
        block: where in the network; 0 for one that is only imagined, of a width that the network has.
        view: side of what one output value sees of the stack's input.
        parameters: weights and biases, without batch norm.
        single_parameters: of one `view` x `view` convolution with the same channels in and out.
    """

    channels: tuple[int, ...]
    block: int
    view: int
    parameters: int
    single_parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointwise:
    """A 1x1 convolution, and the 3x3 that could stand in its place.

    Attributes:
        channels: in and out.
        field_before: receptive field before it, in input pixels.
        field_after: likewise, after it.
    """

    name: str
    channels: tuple[int, int]
    field_before: int
    field_after: int
    parameters: int
    single_3x3_parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A part of the network, and how much of the whole is in it."""

    part: str
    parameters: int
    share_of_parameters: float
    macs: int
    share_of_macs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All of it; `imagined` are stacks of one width, `stacks` the network's own."""

    imagined: tuple[Stack, ...]
    stacks: tuple[Stack, ...]
    pointwise: tuple[Pointwise, ...]
    shares: tuple[Share, ...]
    largest: Share
    steps: tuple[Step, ...]


def explain(spec: ModelSpec) -> Explanation:
    """Return the explanation of a network, for one image."""
    layers = walk(spec)
    steps = _steps(spec, layers)
    widths = sorted({stage.channels for stage in spec.stages if _is_3x3(stage)})
    largest = max(layers, key=lambda layer: layer.parameters)
    return Explanation(
        imagined=tuple(_stack((width,) * (count + 1), block=0) for width in widths for count in STACKED),
        stacks=tuple(_stacks(spec.stages)),
        pointwise=tuple(_pointwise(spec.stages, steps)),
        shares=tuple(_shares(steps, layers)),
        largest=_share(largest.name, [largest], layers),
        steps=tuple(steps),
    )


def _is_3x3(stage: Stage) -> TypeGuard[Conv]:
    return isinstance(stage, Conv) and stage.kernel == 3


def _steps(spec: ModelSpec, layers: list[Layer]) -> list[Step]:
    """Return a step for each item of the configuration and for each layer of the head."""
    groups: list[list[Layer]] = []
    for layer in layers:
        if layer.operation in _FOLLOWERS:
            groups[-1].append(layer)
        else:
            groups.append([layer])
    items = spec.configuration.split(",")
    blocks = list(_blocks(spec.stages))
    head = len(groups) - len(items)
    named = zip(groups, items + [""] * head, blocks + [0] * head, strict=True)
    return [_step(group, item, block, last=group is groups[-1]) for group, item, block in named]


def _blocks(stages: Iterable[Stage]) -> Iterator[int]:
    block = 1
    for stage in stages:
        yield block
        block += isinstance(stage, MaxPool)


def _step(group: list[Layer], item: str, block: int, *, last: bool) -> Step:
    first = group[0]
    operations = [layer.operation for layer in group]
    if first.operation.startswith("conv"):
        after = operations.index("batch_norm") if "batch_norm" in operations else 0
        operations.insert(after + 1, "relu")
    elif first.operation == "linear" and not last:
        operations += ["relu", "dropout"]
    whole = totals(group)
    return Step(
        item=item,
        block=block,
        name=first.name,
        operations=tuple(operations),
        output_shape=first.output_shape[1:],
        receptive_field=first.receptive_field,
        parameters=whole.parameters,
        macs=whole.macs,
    )


def _stack(channels: tuple[int, ...], *, block: int) -> Stack:
    pairs = list(pairwise(channels))
    view = 1
    for _pair in pairs:
        view = widened_field(view, kernel=3, stride=1)
    return Stack(
        channels=channels,
        block=block,
        view=view,
        parameters=sum(convolution_parameters(inputs, outputs, kernel=3) for inputs, outputs in pairs),
        single_parameters=convolution_parameters(channels[0], channels[-1], kernel=view),
    )


def _stacks(stages: Iterable[Stage]) -> Iterator[Stack]:
    """Yield the network's own: at least two 3x3 convolutions with nothing else between."""
    block, channels = 1, [IMAGE_CHANNELS]
    for stage in (*stages, MaxPool()):  # the end closes a stack as a pool does
        if _is_3x3(stage):
            channels.append(stage.channels)
            continue
        if len(channels) > STACKED[0]:
            yield _stack(tuple(channels), block=block)
        channels = [stage.channels if isinstance(stage, Conv) else channels[-1]]
        block += isinstance(stage, MaxPool)


def _pointwise(stages: Iterable[Stage], steps: list[Step]) -> Iterator[Pointwise]:
    field, channels = 1, IMAGE_CHANNELS
    for stage, step in zip(stages, steps, strict=False):
        if isinstance(stage, Conv):
            if stage.kernel == 1:
                yield Pointwise(
                    name=step.name,
                    channels=(channels, stage.channels),
                    field_before=field,
                    field_after=step.receptive_field,
                    parameters=convolution_parameters(channels, stage.channels, kernel=1),
                    single_3x3_parameters=convolution_parameters(channels, stage.channels, kernel=3),
                )
            channels = stage.channels
        field = step.receptive_field


def _shares(steps: list[Step], layers: list[Layer]) -> Iterator[Share]:
    for block in sorted({step.block for step in steps} - {0}):
        yield _share(f"block {block}", [step for step in steps if step.block == block], layers)
    yield _share("linear layers", [step for step in steps if step.block == 0], layers)


def _share(part: str, pieces: Iterable[Step | Layer], layers: list[Layer]) -> Share:
    pieces, whole = list(pieces), totals(layers)
    parameters, macs = sum(piece.parameters for piece in pieces), sum(piece.macs for piece in pieces)
    return Share(
        part=part,
        parameters=parameters,
        share_of_parameters=parameters / whole.parameters,
        macs=macs,
        share_of_macs=macs / whole.macs,
    )
