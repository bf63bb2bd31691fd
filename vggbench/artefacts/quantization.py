"""How a network is quantised: what decides an int8 or fp8 file besides the network itself.

The standard library only: plans, cells and forms carry it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from vggbench.errors import RequestError

QUANTIZED_PRECISIONS = ("int8", "fp8")
# Where the quantisers stand: on the inputs and outputs of convolutions, products, pools and reshapes (`ort`), or on the
# inputs of convolutions and products alone, symmetric and signed, with the bias in fp32 (`trt`).
LAYOUTS = ("ort", "trt")
# Of each precision, the usual one first: with fp8 on outputs, too, nothing is left of a network.
PRECISION_LAYOUTS = {"int8": LAYOUTS, "fp8": ("trt",)}
METHODS = ("min-max", "entropy", "percentile")
DEFAULT_METHOD = "min-max"
SYNTHETIC = "synthetic"  # where no images are at hand: seeded ones that no photograph is among
FEWEST_IMAGES = 2  # one image's ranges are no distribution
IMAGES = 32  # of a folder, spread evenly over it, or seeded
NO_CALIBRATION = (
    "{precision} needs images that ranges are taken from: give --calibration DIR with photographs or CIFAR-10, or "
    "--calibration synthetic"
)
HASH_CHARACTERS = 12  # of a hash, where people read it; the file with the ranges has the whole
# The options' names in manifests, plans and rows.
CALIBRATION, CALIBRATION_SHA256 = "calibration", "calibration_sha256"
CALIBRATION_IMAGES, CALIBRATION_METHOD = "calibration_images", "calibration_method"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What the ranges of activations are taken from, and how.

    Attributes:
        where: `synthetic`, or the absolute path of a folder that `open_dataset` opens.
        sha256: of the set of images in that folder; empty for synthetic ones.
        images: how many of them are used.
        method: one of `METHODS`.
    """

    where: str = SYNTHETIC
    sha256: str = ""
    images: int = IMAGES
    method: str = DEFAULT_METHOD

    def __post_init__(self) -> None:
        check_method(self.method)

    @property
    def options(self) -> dict[str, str]:
        """What plans and rows say of it, for `of_options`."""
        options = {CALIBRATION: self.where, CALIBRATION_METHOD: self.method, CALIBRATION_IMAGES: str(self.images)}
        return options | ({CALIBRATION_SHA256: self.sha256} if self.sha256 else {})

    @property
    def identity(self) -> dict[str, str]:
        """The same without the place: equal for equal images wherever they lie."""
        return identity_of(self.options)

    @classmethod
    def of_options(cls, options: Mapping[str, str]) -> Self:
        """Rebuild it from `options`; `RequestError` where they do not say it."""
        count = options.get(CALIBRATION_IMAGES, "")
        if CALIBRATION not in options or not count.isdecimal():
            found = " ".join(f"{name}={value}" for name, value in options.items()) or "nothing"
            raise RequestError(f"a quantised file's export options say what it is calibrated with; these say {found}")
        return cls(
            where=options[CALIBRATION],
            sha256=options.get(CALIBRATION_SHA256, ""),
            images=int(count),
            method=options.get(CALIBRATION_METHOD, ""),
        )


def identity_of(options: Mapping[str, str]) -> dict[str, str]:
    """Return options of an export without the place that calibration images lie in: their hash says what they are."""
    if options.get(CALIBRATION, SYNTHETIC) == SYNTHETIC:
        return dict(options)
    return {**options, CALIBRATION: "images"}


def shown_options(options: Mapping[str, str]) -> dict[str, str]:
    """Return options of an export for people: of a hash as much as tells images apart."""
    shown = identity_of(options)
    if CALIBRATION_SHA256 in shown:
        shown[CALIBRATION_SHA256] = shown[CALIBRATION_SHA256][:HASH_CHARACTERS]
    return shown


def layout_of(precision: str, asked: str | None = None) -> str:
    """Return the layout asked for, or the usual one; `RequestError` for one that the precision does not have."""
    layouts = PRECISION_LAYOUTS[precision]
    if asked and asked not in layouts:
        raise RequestError(f"layout of {precision} is {asked!r}; it can be {' or '.join(layouts)}")
    return asked or layouts[0]


def check_method(name: str) -> None:
    """Raise `RequestError` for a method that there is not."""
    if name not in METHODS:
        raise RequestError(f"calibration method is {name!r}; it can be {', '.join(METHODS)}")
