"""Where published weights come from, and how their images are prepared: plain data that a model spec carries.

The standard library only: plans, rows and manifests carry a spec without knowing torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vggbench.models.fields import checked_fields
from vggbench.models.preprocessing import Preprocessing

HASH_CHARACTERS = 8  # of the SHA-256 at the end of a published file's name: torch's convention


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A published weights file.

    Attributes:
        name: the file's, without its ending: the network, and the start of the file's SHA-256.
        address: the URL that it is published under.
        resize: pixels of an image's shorter side before the middle is cut out.
        crop: side of the square that is cut out, in pixels.
        interpolation: how the image is resized, antialiased.
        mean: of each colour, red first, from 0 to 1: subtracted.
        std: of each colour: divided by.
        top1_percent: published accuracy on ImageNet's validation images, of the crop; None where none is published.
        top5_percent: likewise.
    """

    name: str
    address: str
    resize: int
    crop: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    top1_percent: float | None
    top5_percent: float | None

    @property
    def file_name(self) -> str:
        """The name under which the file is kept."""
        return f"{self.name}.pth"

    @property
    def sha256_start(self) -> str:
        """What the file's SHA-256 has to begin with."""
        return self.name.rpartition("-")[2]

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are prepared for the weights."""
        return Preprocessing(resize=self.resize, crop=self.crop, mean=self.mean, std=self.std)

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Origin:
        """Rebuild an origin; `RequestError` names the field that is missing, unknown or of a wrong type."""
        values = checked_fields(cls, data, "weights origin")
        return cls(**values | {"mean": tuple(values["mean"]), "std": tuple(values["std"])})
