"""What each layer of a network is and costs, worked out from the spec alone.

The standard library only: shapes, parameters, MACs and bytes are known without building anything.

MACs are multiply-accumulates, and FLOPs are 2 x MACs. They are counted where torchvision counts them, in convolutions
and linear layers. Batch norm has none: a deployed network folds it into the convolution before it. ReLU and dropout
have no line of their own: they hold nothing and work in place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vggbench.models.configs import Conv, MaxPool, Stage
from vggbench.models.spec import IMAGE_CHANNELS, POOLED_SIZE, ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer on one batch.

    Attributes:
        name: its prefix in the `state_dict`; `avgpool` and the pools have a name though they hold nothing.
        operation: `conv3x3`, `conv1x1`, `batch_norm`, `local_response_norm`, `max_pool`, `average_pool` or `linear`.
        output_shape: with the batch in front.
        parameters: what training would change.
        macs: of the whole batch.
        input_bytes: activations read.
        activation_bytes: activations written: the size of the output.
        weight_bytes: parameters and, for batch norm, running statistics.
        receptive_field: side in input pixels of what one output value depends on, padding included, so that it can
            exceed the input.
    """

    name: str
    operation: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    input_bytes: int
    activation_bytes: int
    weight_bytes: int
    receptive_field: int

    @property
    def arithmetic_intensity(self) -> float:
        """FLOPs per byte when each input, output and weight moves once."""
        return 2 * self.macs / (self.input_bytes + self.activation_bytes + self.weight_bytes)

    @property
    def reduction_length(self) -> int:
        """Products that are summed into one output value; 0 for a layer without MACs."""
        return self.macs // math.prod(self.output_shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over a network; the bytes are those that move when no layer is fused with the next."""

    parameters: int
    macs: int
    input_bytes: int
    activation_bytes: int
    weight_bytes: int

    @property
    def arithmetic_intensity(self) -> float:
        """FLOPs per byte when each layer's input, output and weights move once."""
        return 2 * self.macs / (self.input_bytes + self.activation_bytes + self.weight_bytes)


def walk(spec: ModelSpec, batch_size: int = 1, bytes_per_element: int = 4) -> list[Layer]:
    """Return the layers in the order in which they run; all elements, weights included, have the same size."""
    walker = _Walker(batch_size, bytes_per_element, spec.input_size)
    for stage in spec.stages:
        walker.stage(stage, spec)
    walker.head(spec)
    return walker.layers


def totals(layers: Sequence[Layer]) -> Totals:
    """Add the layers up."""
    return Totals(
        parameters=sum(layer.parameters for layer in layers),
        macs=sum(layer.macs for layer in layers),
        input_bytes=sum(layer.input_bytes for layer in layers),
        activation_bytes=sum(layer.activation_bytes for layer in layers),
        weight_bytes=sum(layer.weight_bytes for layer in layers),
    )


def mac_layers(spec: ModelSpec, batch_size: int = 1) -> list[Layer]:
    """Return the convolutions and linear layers: those that multiply and accumulate."""
    return [layer for layer in walk(spec, batch_size) if layer.macs > 0]


def convolution_parameters(inputs: int, outputs: int, *, kernel: int) -> int:
    """Return the weights and biases of a convolution of `kernel` x `kernel`."""
    return inputs * outputs * kernel**2 + outputs


def widened_field(field: int, *, kernel: int, stride: int) -> int:
    """Return the receptive field after a kernel whose neighbouring inputs are `stride` input pixels apart."""
    return field + (kernel - 1) * stride


class _Walker:
    """Steps through a network with the shape, the receptive field and the index of the module that comes next."""

    def __init__(self, batch_size: int, bytes_per_element: int, input_size: int) -> None:
        self.layers: list[Layer] = []
        self._bytes_per_element = bytes_per_element
        self._shape: tuple[int, ...] = (batch_size, IMAGE_CHANNELS, input_size, input_size)
        self._field = 1
        self._stride = 1  # input pixels between neighbouring values
        self._index = 0  # in `features`

    def stage(self, stage: Stage, spec: ModelSpec) -> None:
        batch, channels, height, width = self._shape
        if isinstance(stage, MaxPool):
            self._field = widened_field(self._field, kernel=2, stride=self._stride)
            self._stride *= 2
            self._feature("max_pool", (batch, channels, height // 2, width // 2))
        else:
            self._conv(stage, spec)

    def _conv(self, conv: Conv, spec: ModelSpec) -> None:
        first = not any(layer.operation.startswith("conv") for layer in self.layers)
        batch, channels, *size = self._shape
        parameters = convolution_parameters(channels, conv.channels, kernel=conv.kernel)
        shape = (batch, conv.channels, *size)
        self._field = widened_field(self._field, kernel=conv.kernel, stride=self._stride)
        macs = batch * (parameters - conv.channels) * math.prod(size)  # a bias is added, and multiplies nothing
        self._feature(f"conv{conv.kernel}x{conv.kernel}", shape, parameters=parameters, macs=macs)
        if spec.batch_norm:
            self._feature("batch_norm", shape, parameters=2 * conv.channels, statistics=2 * conv.channels)
        self._index += 1  # the ReLU
        if first and spec.local_response_norm != "none":
            self._feature("local_response_norm", shape)

    def head(self, spec: ModelSpec) -> None:
        side = spec.feature_size
        if spec.head == "adaptive":
            # A bin reaches from floor(i n / 7) to ceil((i + 1) n / 7): this is the widest.
            widest = max(-(-(i + 1) * side // POOLED_SIZE) - i * side // POOLED_SIZE for i in range(POOLED_SIZE))
            self._field += (widest - 1) * self._stride
            self._add("avgpool", "average_pool", (self._shape[0], self._shape[1], POOLED_SIZE, POOLED_SIZE))
            self._field += (side - widest) * self._stride
        else:
            self._field += (side - 1) * self._stride
        inputs = spec.classifier_inputs
        widths = (spec.classifier_width, spec.classifier_width, spec.num_classes)
        for index, outputs in zip((0, 3, 6), widths, strict=True):  # a ReLU and a dropout lie between
            self._linear(f"classifier.{index}", inputs, outputs)
            inputs = outputs

    def _linear(self, name: str, inputs: int, outputs: int) -> None:
        batch = self._shape[0]
        weights = inputs * outputs
        self._add(name, "linear", (batch, outputs), parameters=weights + outputs, macs=batch * weights)

    def _feature(
        self, operation: str, shape: tuple[int, ...], *, parameters: int = 0, macs: int = 0, statistics: int = 0
    ) -> None:
        name = f"features.{self._index}"
        self._add(name, operation, shape, parameters=parameters, macs=macs, statistics=statistics)
        self._index += 1

    def _add(
        self,
        name: str,
        operation: str,
        shape: tuple[int, ...],
        *,
        parameters: int = 0,
        macs: int = 0,
        statistics: int = 0,
    ) -> None:
        layer = Layer(
            name=name,
            operation=operation,
            output_shape=shape,
            parameters=parameters,
            macs=macs,
            input_bytes=math.prod(self._shape) * self._bytes_per_element,
            activation_bytes=math.prod(shape) * self._bytes_per_element,
            weight_bytes=(parameters + statistics) * self._bytes_per_element,
            receptive_field=self._field,
        )
        self.layers.append(layer)
        self._shape = shape
