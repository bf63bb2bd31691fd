"""What weights say of themselves: the names of their classes, and how their images are prepared.

The standard library at module level. It travels as text in a checkpoint's metadata (safetensors), in manifests and in
ONNX files, under the same two names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vggbench.errors import RequestError, WeightsError
from vggbench.models.network_file import NetworkFile
from vggbench.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from vggbench.models.network_file import Network
    from vggbench.models.spec import ModelSpec

CLASSES_KEY = "vggbench.classes"
PREPROCESSING_KEY = "vggbench.preprocessing"
TRAINING_KEY = "vggbench.training"  # all that is known of how a checkpoint came about, its network under `spec`


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What is known of some weights.

    Attributes:
        classes: names by label; empty where they are not known.
        preprocessing: of images; None where it is not known.
    """

    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None

    def metadata(self) -> dict[str, str]:
        """Return it as texts by name, as `of_metadata` takes them; what is not known is left out."""
        texts = {}
        if self.classes:
            texts[CLASSES_KEY] = json.dumps(self.classes)
        if self.preprocessing is not None:
            texts[PREPROCESSING_KEY] = json.dumps(self.preprocessing.to_json(), sort_keys=True)
        return texts

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, str], source: str) -> Description:
        """Read what `metadata` wrote; other names are left alone. `WeightsError` names the source and what is wrong."""
        classes = _read(metadata, CLASSES_KEY, source) or []
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise WeightsError(f"{source}: {CLASSES_KEY} is not a list of names")
        steps = _read(metadata, PREPROCESSING_KEY, source)
        try:
            preprocessing = None if steps is None else Preprocessing.from_json(steps)
        except RequestError as error:
            raise WeightsError(f"{source}: {error}") from None
        return cls(classes=tuple(classes), preprocessing=preprocessing)


def _read(metadata: Mapping[str, str], key: str, source: str) -> object:
    if key not in metadata:
        return None
    try:
        content: object = json.loads(metadata[key])
    except (ValueError, RecursionError):
        raise WeightsError(f"{source}: {key} is not JSON") from None
    return content


def describe(network: Network) -> Description:
    """Return what a network's weights say of themselves; nothing for generated ones, and for a file of one's own.

    Published weights have it from torchvision's table, a `.safetensors` file of one's own from its metadata. Raises
    `WeightsError` where that cannot be read or names another number of classes than the network has.
    """
    if isinstance(network, NetworkFile):
        return Description()
    found = _describe(network)
    if found.classes and len(found.classes) != network.num_classes:
        raise WeightsError(
            f"weights file {network.weights!r} names {len(found.classes)} classes and the network has "
            f"{network.num_classes}; use --num-classes {len(found.classes)}"
        )
    return found


def described_network(weights: str) -> ModelSpec | None:
    """Return the network that a checkpoint says it is for; None for any other weights.

    Raises `WeightsError` where it says something else than a network.
    """
    from vggbench.models.spec import ModelSpec
    from vggbench.models.weights_file import read_metadata

    path = Path(weights)
    try:
        if path.suffix != ".safetensors" or not path.expanduser().is_file():
            return None
    except (OSError, RuntimeError):  # a name too long, a home of nobody: said where the weights are looked up
        return None
    source = f"weights file {weights!r}"
    training = _read(read_metadata(path.expanduser()), TRAINING_KEY, source)
    if training is None:
        return None
    if not isinstance(training, Mapping) or not isinstance(training.get("spec"), Mapping):
        raise WeightsError(f"{source}: {TRAINING_KEY} has no network; name it with --variant or --config")
    try:
        return ModelSpec.from_json(training["spec"])
    except RequestError as error:
        raise WeightsError(f"{source}: {TRAINING_KEY}: {error}") from None


def _describe(spec: ModelSpec) -> Description:
    if spec.origin is not None:
        from vggbench.models.published import published_classes

        return Description(classes=published_classes(spec.variant), preprocessing=spec.origin.preprocessing)
    if spec.has_generated_weights or Path(spec.weights).suffix != ".safetensors":
        return Description()
    from vggbench.models.weights_file import read_metadata

    return Description.of_metadata(read_metadata(spec.weights), f"weights file {spec.weights!r}")
