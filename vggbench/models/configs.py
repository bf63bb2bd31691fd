"""Architecture as data: what each VGG is made of, under which names, and what is known about it.

The standard library only: the command line reads this at every start.

A configuration is text, one item a layer: a number is a 3x3 convolution with that many output channels, `256@1` a
1x1 convolution, `M` a 2x2 max pool.

Local response normalisation follows the first ReLU of the paper's A-LRN, with AlexNet's constants:

    b[c] = a[c] / (k + alpha * sum(a[j]^2 for the n channels j around c)) ^ beta,   n=5, k=2, alpha=1e-4, beta=0.75

AlexNet does not divide alpha by n; PyTorch and ONNX do. The literal reading of the formula is therefore PyTorch's
`LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)`; the divided reading passes 1e-4 on unchanged.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vggbench.errors import RequestError, UnknownVariantError

LocalResponseNormReading = Literal["none", "literal", "divided"]
Head = Literal["adaptive", "flatten"]

LOCAL_RESPONSE_NORM_READINGS: tuple[LocalResponseNormReading, ...] = ("none", "literal", "divided")
HEADS: tuple[Head, ...] = ("adaptive", "flatten")

KERNELS = (1, 3)  # all that the paper's networks have
MAX_CHANNELS = 16_384  # 32 times VGG's widest layer: beyond it a number is a typing error
MAX_LAYERS = 1_000  # as above: 50 times VGG's deepest


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution with stride 1 and the padding that keeps the size, then batch norm if asked, then a ReLU."""

    channels: int
    kernel: int = 3

    @property
    def padding(self) -> int:
        """Pixels on each side."""
        return self.kernel // 2


@dataclass(frozen=True, slots=True)
class MaxPool:
    """A 2x2 max pool with stride 2: halves the size, rounding down."""


Stage = Conv | MaxPool

_CONV = re.compile(r"([0-9]{1,9})(?:@([0-9]{1,9}))?", re.ASCII)


def parse_configuration(text: str) -> tuple[Stage, ...]:
    """Read a configuration; `RequestError` names the first item that is wrong."""
    items = [item.strip() for item in text.split(",")]
    if len(items) > MAX_LAYERS:
        raise RequestError(f"configuration has {len(items)} items; {MAX_LAYERS} are the most")
    stages = tuple(_parse_item(item, position) for position, item in enumerate(items, start=1))
    if not any(isinstance(stage, Conv) for stage in stages):
        raise RequestError(f"configuration {text!r} has no convolution; write for example '64,M,128,M'")
    return stages


def _parse_item(item: str, position: int) -> Stage:
    if item in {"M", "m"}:
        return MaxPool()
    match = _CONV.fullmatch(item)
    if match is None:
        raise RequestError(
            f"configuration item {position} is {item!r}; an item is a channel count such as 64, 256@1 for a 1x1 "
            "convolution, or M for a max pool, with commas between"
        )
    conv = Conv(int(match[1]), int(match[2] or 3))
    if not 1 <= conv.channels <= MAX_CHANNELS:
        raise RequestError(f"configuration item {position} is {item!r}; channels go from 1 to {MAX_CHANNELS}")
    if conv.kernel not in KERNELS:
        raise RequestError(f"configuration item {position} is {item!r}; a kernel is 1 or 3")
    return conv


def format_configuration(stages: Sequence[Stage]) -> str:
    """Write the canonical text of a configuration: the inverse of `parse_configuration`."""
    return ",".join(_format_stage(stage) for stage in stages)


def _format_stage(stage: Stage) -> str:
    if isinstance(stage, MaxPool):
        return "M"
    return str(stage.channels) if stage.kernel == 3 else f"{stage.channels}@{stage.kernel}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A named network and the facts that are published about it.

    Attributes:
        name: as on the command line.
        paper_name: the column of the paper's table 1; empty for a network that is not in it.
        configuration: canonical text.
        weight_layers: convolutions and linear layers: the number in the name.
        parameters: with the default head, classes and classifier width.
        macs: multiply-accumulates of the convolutions and linear layers for one image; FLOPs are twice as many.
    """

    name: str
    paper_name: str
    configuration: str
    batch_norm: bool = False
    local_response_norm: LocalResponseNormReading = "none"
    head: Head = "adaptive"
    input_size: int = 224
    num_classes: int = 1000
    weight_layers: int
    parameters: int
    macs: int


_A = "64,M,128,M,256,256,M,512,512,M,512,512,M"
_B = "64,64,M,128,128,M,256,256,M,512,512,M,512,512,M"
_C = "64,64,M,128,128,M,256,256,256@1,M,512,512,512@1,M,512,512,512@1,M"
_D = "64,64,M,128,128,M,256,256,256,M,512,512,512,M,512,512,512,M"
_E = "64,64,M,128,128,M,256,256,256,256,M,512,512,512,512,M,512,512,512,512,M"
_CIFAR = "32,32,M,64,64,128,128,128,M,256,256,256,512,512,512,M"


def _pair(
    name: str,
    paper_name: str,
    configuration: str,
    *,
    weight_layers: int,
    parameters: tuple[int, int],
    macs: int,
    head: Head = "adaptive",
    input_size: int = 224,
    num_classes: int = 1000,
) -> tuple[Variant, Variant]:
    """Return a network and its batch-norm form, whose parameter counts are given in this order."""
    plain, normalised = (
        Variant(
            name=name + suffix,
            paper_name=paper_name and paper_name + paper_suffix,
            configuration=configuration,
            batch_norm=bool(suffix),
            head=head,
            input_size=input_size,
            num_classes=num_classes,
            weight_layers=weight_layers,
            parameters=count,
            macs=macs,
        )
        for suffix, paper_suffix, count in zip(("", "_bn"), ("", "+BN"), parameters, strict=True)
    )
    return plain, normalised


_TABLE: tuple[Variant, ...] = (
    *_pair("vgg11", "A", _A, weight_layers=11, parameters=(132_863_336, 132_868_840), macs=7_609_090_048),
    Variant(
        name="vgg11_lrn",
        paper_name="A-LRN",
        configuration=_A,
        local_response_norm="literal",
        weight_layers=11,
        parameters=132_863_336,
        macs=7_609_090_048,
    ),
    *_pair("vgg13", "B", _B, weight_layers=13, parameters=(133_047_848, 133_053_736), macs=11_308_466_176),
    *_pair("vgg16_c", "C", _C, weight_layers=16, parameters=(133_638_952, 133_647_400), macs=11_770_888_192),
    *_pair("vgg16", "D", _D, weight_layers=16, parameters=(138_357_544, 138_365_992), macs=15_470_264_320),
    *_pair("vgg19", "E", _E, weight_layers=19, parameters=(143_667_240, 143_678_248), macs=19_632_062_464),
    *_pair(
        "vgg16_cifar",
        "",
        _CIFAR,
        weight_layers=16,
        parameters=(58_190_506, 58_196_266),
        macs=641_081_344,
        head="flatten",
        input_size=32,
        num_classes=10,
    ),
)

VARIANTS: dict[str, Variant] = {variant.name: variant for variant in _TABLE}

# The paper's letters. One widespread tutorial calls the paper's A, B, D, E "A, B, C, D": its C is vgg16 and its D is
# vgg19. Here the letters are the paper's.
ALIASES: dict[str, str] = {
    "A": "vgg11",
    "A-LRN": "vgg11_lrn",
    "B": "vgg13",
    "C": "vgg16_c",
    "D": "vgg16",
    "E": "vgg19",
}


def find_variant(name: str) -> Variant:
    """Return the variant of that name or letter, in any case; `UnknownVariantError` names the nearest ones."""
    wanted = name.strip()
    found = VARIANTS.get(ALIASES.get(wanted.upper(), wanted.lower()))
    if found is not None:
        return found
    near = difflib.get_close_matches(wanted.lower(), VARIANTS, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(VARIANTS)}"
    raise UnknownVariantError(f"no variant is called {name!r}; {hint}")
