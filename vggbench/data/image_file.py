"""One image file: read whole, as RGB of 8 bits, or named with what is wrong with it. No torch.

Pillow is imported inside the functions. Only formats that it decodes by itself are tried: a PostScript file, say, would
be handed to a program.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

from vggbench.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
LONGEST_REASON = 120  # characters of a decoder's words that say enough
# What Pillow's decoders were seen to raise for files that are damaged or claim to be larger than any photograph.
DAMAGED = (
    *(ArithmeticError, EOFError, LookupError, MemoryError, OSError, SyntaxError, TypeError, ValueError),
    *(Warning, struct.error),
)


def read_image(path: Path) -> Image:
    """Return the image as RGB, decoded to its last row; `DataError` says why it cannot be read.

    As torchvision's loader: the first frame of several, transparency and orientation marks left out of account.
    """
    try:
        reason = what_it_is_not(path)
        if not reason:
            return decode(path)
    except DataError as error:
        reason = str(error)
    raise DataError(f"image {str(path)!r}: {reason}")


def what_it_is_not(path: Path) -> str:
    """Return why there is no file to decode; empty if there is one."""
    try:
        if path.is_dir():
            return "is a folder"
        return "" if path.stat().st_size else "is empty"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def decode(path: Path) -> Image:
    """Return the file's image as RGB; `DataError` with the reason alone."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=FORMATS) as image:
            image.load()
            return _rgb(image)
    except UnidentifiedImageError:
        raise DataError(f"is no image in any of the formats {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise DataError("claims to have more pixels than any photograph") from None
    except DAMAGED as error:
        said = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot be decoded: {said[:LONGEST_REASON]}") from None


def _rgb(image: Image) -> Image:
    if image.mode == "P":  # Pillow warns of what is lost if a palette with transparency becomes RGB at once
        image = image.convert("RGBA")
    return image.convert("RGB")
