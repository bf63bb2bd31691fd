"""The damage that exporters and backends do, by name: one list for tests on small networks and for a run at full size.

Each is a change to the chain of layers; `damaged_file` writes a changed chain as a copy of the exported file.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from tests.parity import damage
from tests.parity.chain import Operation
from tests.parity.damage import FIRST, LAST, MIDDLE, Mutation, after, at, before, every, pooled, taken, without
from vggbench.models.spec import IMAGE_CHANNELS
from vggbench.models.vgg import AdaptivePool7
from vggbench.parity.reference import IMAGES

ONE_IMAGE_TWICE = [0, 0, *range(2, IMAGES)]
TWO_EXCHANGED = [*range(IMAGES - 2), IMAGES - 1, IMAGES - 2]
BACKWARDS = slice(None, None, -1)

IMAGES_DAMAGED: dict[str, Mutation] = {
    "image repeated for all": before(lambda spec: taken(0, [0] * IMAGES)),
    "image read twice, the next never": before(lambda spec: taken(0, ONE_IMAGE_TWICE)),
    "input ignored": before(lambda spec: damage.multiplied(0.0)),
    "input scaled twice": before(lambda spec: damage.multiplied(1 / 255)),
    "input off by 1 % of its spread": before(lambda spec: Operation("Add", torch.add, torch.tensor(0.01))),
    "NHWC given for NCHW": damage.bytes_read_otherwise,
    "BGR given for RGB": before(lambda spec: taken(1, range(IMAGE_CHANNELS)[BACKWARDS])),
    "colour lost": before(lambda spec: damage.averaged(1, IMAGE_CHANNELS)),
    "image rows and columns exchanged": before(lambda spec: damage.transposed(0, 1, 3, 2)),
    "image mirrored": before(lambda spec: taken(3, range(spec.input_size)[BACKWARDS])),
    "image shifted by one pixel": before(lambda spec: taken(3, [0, *range(spec.input_size - 1)])),
}

LAYERS_DAMAGED: dict[str, Mutation] = {
    "weights of another seed": damage.other_seed,
    "weights of another seed, one layer": damage.one_layer_of_other_seed,
    "weights larger by 0.1 %": at(nn.Conv2d, MIDDLE, damage.scaled(1.001)),
    "weights larger by 0.1 %, logits": at(nn.Linear, LAST, damage.scaled(1.001)),
    "bias dropped, first convolution": at(nn.Conv2d, FIRST, damage.bias_dropped),
    "bias dropped, last convolution": at(nn.Conv2d, LAST, damage.bias_dropped),
    "bias dropped, hidden layer": at(nn.Linear, MIDDLE, damage.bias_dropped),
    "bias dropped, logits": at(nn.Linear, LAST, damage.bias_dropped),
    "bias added twice": at(nn.Conv2d, LAST, damage.bias_doubled),
    "two channels swapped, first convolution": at(nn.Conv2d, FIRST, damage.channels_swapped),
    "two channels swapped, last convolution": at(nn.Conv2d, LAST, damage.channels_swapped),
    "two input channels swapped": at(nn.Conv2d, MIDDLE, damage.input_channels_swapped),
    "one channel dead": at(nn.Conv2d, FIRST, damage.channel_dead),
    "two hidden units swapped": at(nn.Linear, FIRST, damage.channels_swapped),
    "two classes swapped": at(nn.Linear, LAST, damage.channels_swapped),
    "one class missing": at(nn.Linear, LAST, damage.channel_dead),
    "inputs and outputs of a linear layer exchanged": at(nn.Linear, MIDDLE, damage.axes_exchanged),
    "inputs and outputs of a convolution exchanged": at(nn.Conv2d, LAST, damage.axes_exchanged),
    "block skipped": damage.block_skipped,
    "hidden layer skipped": damage.hidden_layer_skipped,
    "equal layers exchanged": damage.equal_layers_exchanged,
    "kernel flipped": at(nn.Conv2d, MIDDLE, damage.kernel_flipped),
    "kernel transposed": at(nn.Conv2d, MIDDLE, damage.kernel_transposed),
    "kernel dilated": at(nn.Conv2d, LAST, damage.dilated),
    "edges replicated": at(
        nn.Conv2d, MIDDLE, damage.padded_otherwise(lambda: damage.padded(1, 1, "replicate", "edge"))
    ),
    "padded on one side": at(
        nn.Conv2d, MIDDLE, damage.padded_otherwise(lambda: damage.padded(0, 2, "constant", "constant"))
    ),
    "one weight lost": at(nn.Conv2d, MIDDLE, damage.one_weight_lost),
    "convolutions' weights rounded to bf16": every(nn.Conv2d, damage.rounded_to(torch.bfloat16)),
    "convolutions' weights rounded to 8 bits": every(nn.Conv2d, damage.rounded_to_8_bits),
    "one layer's weights rounded to fp16": at(nn.Conv2d, LAST, damage.rounded_to(torch.float16)),
    "weights of the logits rounded to bf16": at(nn.Linear, LAST, damage.rounded_to(torch.bfloat16)),
    "batch norm dropped": without(nn.BatchNorm2d, MIDDLE),
    "batch norm's mean off by 1 %, first": at(nn.BatchNorm2d, FIRST, damage.mean_off),
    "batch norm's mean off by 1 %, middle": at(nn.BatchNorm2d, MIDDLE, damage.mean_off),
    "batch norm's mean off by 1 %, last": at(nn.BatchNorm2d, LAST, damage.mean_off),
    "batch norm's statistics dropped": at(nn.BatchNorm2d, MIDDLE, damage.statistics_dropped),
    "batch norm's epsilon wrong": every(nn.BatchNorm2d, damage.wrong_epsilon),
    "batch norm's epsilon wrong, last": at(nn.BatchNorm2d, LAST, damage.wrong_epsilon),
    "batch norm's shift dropped": at(nn.BatchNorm2d, MIDDLE, damage.bias_dropped),
    "batch norm's scale dropped": at(nn.BatchNorm2d, MIDDLE, damage.scale_dropped),
    "batch norm by the variance": at(nn.BatchNorm2d, MIDDLE, damage.variance_unsquared),
    "batch norm after the ReLU": damage.norm_after_activation,
    "constant output": at(nn.Linear, LAST, damage.weightless),
}

FUNCTIONS_DAMAGED: dict[str, Mutation] = {
    "ReLU dropped, first": without(nn.ReLU, FIRST),
    "ReLU dropped, middle": without(nn.ReLU, MIDDLE),
    "ReLU dropped, last": without(nn.ReLU, LAST),
    "ReLU leaks": at(
        nn.ReLU, LAST, lambda layer: Operation("LeakyRelu", lambda x: functional.leaky_relu(x, 0.01), alpha=0.01)
    ),
    "ReLU smoothed": at(nn.ReLU, MIDDLE, lambda layer: Operation("Gelu", functional.gelu)),
    "ReLU clipped at 1": every(
        nn.ReLU, lambda layer: Operation("Clip", torch.clamp, torch.tensor(0.0), torch.tensor(1.0))
    ),
    "response norm dropped": without(nn.LocalResponseNorm, FIRST),
    "response norm's other reading": at(nn.LocalResponseNorm, FIRST, damage.other_reading),
    "max pool's windows off by one, first": at(nn.MaxPool2d, FIRST, lambda layer: pooled(2, 2, start=1)),
    "max pool's windows off by one, last": at(nn.MaxPool2d, LAST, lambda layer: pooled(2, 2, start=1)),
    "max pool over three pixels": at(nn.MaxPool2d, LAST, lambda layer: pooled(3, 2, start=1)),
    "first pixel for max pool": at(nn.MaxPool2d, LAST, lambda layer: pooled(1, 2)),
    "average pool for max pool": at(nn.MaxPool2d, LAST, damage.average_instead),
    "adaptive pool's bins off by one": at(AdaptivePool7, LAST, damage.bins_off_by_one),
    "flattened as NHWC": at(
        nn.Flatten,
        LAST,
        lambda layer: nn.Sequential(damage.transposed(0, 2, 3, 1), Operation("Flatten", lambda x: x.flatten(1))),
    ),
    "dropout left on": damage.dropout_left_on,
}

OUTPUTS_DAMAGED: dict[str, Mutation] = {
    "mean output": after(lambda spec: damage.averaged(0, IMAGES)),
    "classes reversed": after(lambda spec: taken(1, range(spec.num_classes)[BACKWARDS])),
    "classes off by one": after(lambda spec: taken(1, [spec.num_classes - 1, *range(spec.num_classes - 1)])),
    "images in another order": after(lambda spec: taken(0, [IMAGES - 1, *range(IMAGES - 1)])),
    "two images' outputs exchanged": after(lambda spec: taken(0, TWO_EXCHANGED)),
    "one image's output given twice": after(lambda spec: taken(0, ONE_IMAGE_TWICE)),
    "one image's output empty": damage.one_image_empty,
    "probabilities for logits": after(lambda spec: Operation("Softmax", lambda x: x.softmax(dim=1), axis=1)),
    "log-probabilities for logits": after(lambda spec: Operation("LogSoftmax", lambda x: x.log_softmax(dim=1), axis=1)),
    "logits off by a tenth": after(lambda spec: Operation("Add", torch.add, torch.tensor(0.1))),
    "output's sign": after(lambda spec: Operation("Neg", torch.neg)),
}

MUTATIONS: dict[str, Mutation] = {**IMAGES_DAMAGED, **LAYERS_DAMAGED, **FUNCTIONS_DAMAGED, **OUTPUTS_DAMAGED}

# Damage to single units: where the images leave these switched off, the outputs are the same to the last bit.
LOCAL = {"two hidden units swapped", "one weight lost", "one channel dead"}

# The same functions: scoring must find that out by itself.
EQUIVALENT: dict[str, Mutation] = {
    "dropout removed": without(nn.Dropout, FIRST),
    "ReLU applied twice": at(nn.ReLU, MIDDLE, lambda layer: nn.Sequential(layer, layer)),
    "hidden units renamed": damage.hidden_units_renamed,
}
