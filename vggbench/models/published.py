"""The weights that torchvision publishes: which there are, where a file is looked for, and how it is fetched.

Imports torch and torchvision inside its functions: addresses, transforms and accuracies are read from torchvision's
own table. A file is kept where torch keeps what it downloads, so that either finds what the other has fetched.

A file's name ends in the first characters of its SHA-256. Nothing is returned whose content does not begin so.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from vggbench.errors import WeightsError
from vggbench.models.configs import VARIANTS
from vggbench.models.origin import HASH_CHARACTERS, Origin
from vggbench.models.spec import CLASSIFIER_WIDTH, IMAGENET, ModelSpec, weights_file_sha256

# What torchvision linked until 2021 and tutorials still do; only the file's name in the address differs.
FORMER_FILES = {"vgg11": "vgg11-bbd30ac9", "vgg13": "vgg13-c768596a"}
FILE_NAME = re.compile(rf"vgg\w+-[0-9a-f]{{{HASH_CHARACTERS}}}", re.ASCII)
TIMEOUT_S = 10.0  # to connect, and for any one answer: a host that says nothing is not waited for
BLOCK_BYTES = 1 << 20
TENTHS = 10  # of a file: how often its arrival is told


def is_published_name(weights: str) -> bool:
    """Say whether a request for weights asks for a published file, there or not, and not for one of the user's."""
    return weights == IMAGENET or FILE_NAME.fullmatch(weights) is not None


def published_files() -> dict[str, tuple[Origin, ...]]:
    """Return each variant's published files; the first is what `imagenet` means, others are former ones."""
    from torchvision import models

    names = [name for name in models.list_models(include="vgg*") if name in VARIANTS]
    return {name: _files_of(name, models.get_model_weights(name)["IMAGENET1K_V1"]) for name in names}


def published_classes(variant: str) -> tuple[str, ...]:
    """Return the names of the classes that a variant's published files tell apart, by label."""
    from torchvision import models

    return tuple(models.get_model_weights(variant)["IMAGENET1K_V1"].meta["categories"])


def _files_of(variant: str, weights: Any) -> tuple[Origin, ...]:
    transform = weights.transforms()
    figures = weights.meta["_metrics"]["ImageNet-1K"]
    folder, _, file = weights.url.rpartition("/")
    prepared: dict[str, Any] = {
        "resize": transform.resize_size[0],
        "crop": transform.crop_size[0],
        "interpolation": transform.interpolation.value,
        "mean": tuple(transform.mean),
        "std": tuple(transform.std),
    }
    today = Origin(
        name=file.removesuffix(".pth"),
        address=weights.url,
        top1_percent=figures["acc@1"],
        top5_percent=figures["acc@5"],
        **prepared,
    )
    if variant not in FORMER_FILES:
        return (today,)
    former = FORMER_FILES[variant]
    address = f"{folder}/{former}.pth"
    return today, Origin(name=former, address=address, top1_percent=None, top5_percent=None, **prepared)


def find_published(weights: str, spec: ModelSpec) -> Origin:
    """Return the published file that a request means for a network; `WeightsError` if there is none."""
    table = published_files()
    if spec.variant not in table:
        raise WeightsError(f"weights {weights!r}: {spec.variant} has no published file; {', '.join(table)} have one")
    _check_shape(weights, spec)
    files = {origin.name: origin for origin in table[spec.variant]}
    name = next(iter(files)) if weights == IMAGENET else weights
    if name not in files:
        raise WeightsError(f"weights {weights!r}: {spec.variant}'s published files are {', '.join(files)}")
    return files[name]


def _check_shape(weights: str, spec: ModelSpec) -> None:
    """Refuse a network of another shape than the variant's own: no published file fits it."""
    own = VARIANTS[spec.variant]
    shapes = {
        "classes": (spec.num_classes, own.num_classes),
        "head": (spec.head, own.head),
        "classifier width": (spec.classifier_width, CLASSIFIER_WIDTH),
    }
    for name, (asked, published) in shapes.items():
        if asked != published:
            raise WeightsError(
                f"weights {weights!r}: {name} {asked} was asked for, and {spec.variant}'s published file is for "
                f"{published}, the default; leave that out, or give a file of your own"
            )


def local_file(origin: Origin) -> tuple[Path, str]:
    """Return the path and the SHA-256 of a published file on this machine, fetched if it is not there yet.

    Raises:
        WeightsError: it is not there and cannot be fetched, or its hash is not the one in its name.
    """
    import torch

    path = (Path(torch.hub.get_dir()) / "checkpoints" / origin.file_name).absolute()
    try:
        if not path.is_file():
            return path, _fetch(origin, path)
    except (OSError, HTTPException) as error:  # urllib's errors are OSErrors; an HTTPException is no HTTP at all
        if isinstance(error, HTTPError):
            error.close()  # it is the answer too
        raise WeightsError(
            f"weights {origin.name} are not at {path} and cannot be fetched from {origin.address}: {_reason(error)}; "
            f"{_how_to_provide(path)}"
        ) from error
    sha256 = weights_file_sha256(path)
    if not sha256.startswith(origin.sha256_start):
        raise WeightsError(
            f"weights file {str(path)!r} is not what its name says: its SHA-256 begins with "
            f"{sha256[:HASH_CHARACTERS]}; remove it, and it is fetched again"
        )
    return path, sha256


def _fetch(origin: Origin, path: Path) -> str:
    """Fetch a file, check it and put it in its place whole; return its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as folder:
        partial = Path(folder) / path.name
        sha256 = _receive(origin, partial)
        if not sha256.startswith(origin.sha256_start):
            raise WeightsError(
                f"weights {origin.name}: what {origin.address} sent is not what its name says: its SHA-256 begins with "
                f"{sha256[:HASH_CHARACTERS]}; nothing was kept; {_how_to_provide(path)}"
            )
        partial.replace(path)
    return sha256


def _receive(origin: Origin, path: Path) -> str:
    """Write what the address sends to a new file and return its SHA-256, telling on stderr how far it is."""
    from urllib.request import urlopen

    digest, received = hashlib.sha256(), 0
    with urlopen(origin.address, timeout=TIMEOUT_S) as answer, path.open("xb") as file:  # noqa: S310 - torchvision's own
        total = int(answer.headers.get("Content-Length") or 0)
        print(f"fetching {origin.address} ({total / 2**20:.0f} MiB)", file=sys.stderr, flush=True)
        while block := answer.read(BLOCK_BYTES):
            file.write(block)
            digest.update(block)
            told = TENTHS * received // total if total else 0
            received += len(block)
            if total and (tenths := TENTHS * received // total) > told:
                print(f"fetching {origin.name}: {100 * tenths // TENTHS} %", file=sys.stderr, flush=True)
    if received < total:
        raise ConnectionError(f"{received} of {total} bytes came")
    return digest.hexdigest()


def _how_to_provide(path: Path) -> str:
    return f"put the file there as {path.name}, or set TORCH_HOME to the folder whose hub/checkpoints has it"


def _reason(error: Exception) -> str:
    """Return what went wrong in words: urllib wraps the system's error."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, OSError):
        return inner.strerror or str(inner)
    return " ".join(str(error).split()) or type(error).__name__  # what came instead of HTTP may be of several lines
