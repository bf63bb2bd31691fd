"""How an image becomes what a network was trained on: plain data that belongs to the weights.

The standard library only: plans, rows and manifests carry it without knowing Pillow or torch.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vggbench.errors import RequestError
from vggbench.models.fields import checked_fields

if TYPE_CHECKING:
    from vggbench.models.network_file import Network

CHANNELS = 3
SCALES = ("0-1", "0-255")
LARGEST_SIDE = 8192  # the largest input that a network takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """The steps from an RGB image of 8 bits to a network's input, in their order. Checked when it is made.

    Attributes:
        resize: pixels that the shorter side is resized to, bilinear and antialiased; None: not resized.
        crop: side of the square cut out of the middle, with black where the image is smaller; None: not cropped.
        mean: of each colour, red first, in the units of `scale`: subtracted.
        std: of each colour: divided by.
        scale: `0-1`: values are divided by 255 first; `0-255`: they are not.
    """

    resize: int | None = None
    crop: int | None = None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    scale: str = "0-1"

    def __post_init__(self) -> None:
        for name, side in (("resize", self.resize), ("crop", self.crop)):
            if side is not None and not 1 <= side <= LARGEST_SIDE:
                raise RequestError(f"preprocessing: {name} is {side}; it must be from 1 to {LARGEST_SIDE} pixels")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != CHANNELS or not all(map(math.isfinite, values)):
                raise RequestError(f"preprocessing: {name} is {list(values)}; it has a number for red, green and blue")
        if min(self.std) <= 0:
            raise RequestError(f"preprocessing: std is {list(self.std)}; values are divided by it, so it is above 0")
        if self.scale not in SCALES:
            raise RequestError(f"preprocessing: scale is {self.scale!r}; it can be {' or '.join(SCALES)}")

    @property
    def text(self) -> str:
        """The steps in a few words."""
        sizes = [f"{name} {side}" for name, side in (("resize", self.resize), ("crop", self.crop)) if side is not None]
        numbers = [
            f"{name} {','.join(f'{value:g}' for value in values)}"
            for name, values in (("mean", self.mean), ("std", self.std))
        ]
        return ", ".join([*sizes, self.scale, *numbers])

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Preprocessing:
        """Rebuild it; `RequestError` names the field that is missing, unknown or of a wrong type or value."""
        values = checked_fields(cls, data, "preprocessing")
        return cls(**values | {name: tuple(map(float, values[name])) for name in ("mean", "std")})

    @classmethod
    def of_spec(cls, spec: Network) -> Preprocessing:
        """Return what the spec's weights say of their images; where they say nothing, `usual` for its input size."""
        from vggbench.models.description import describe

        return describe(spec).preprocessing or cls.usual(spec.input_size)

    @classmethod
    def usual(cls, input_size: int) -> Preprocessing:
        """Return ImageNet's mean and deviation on the middle square, resized to the input: only a convention."""
        return cls(resize=input_size, crop=input_size, mean=IMAGENET.mean, std=IMAGENET.std)


# What torchvision's classification weights were evaluated with; their own table is what counts for those.
IMAGENET = Preprocessing(resize=256, crop=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
