"""What function a network is: the model spec, its defaults, its checks, and the digest that names it.

The standard library only: plans, rows and manifests carry a spec without knowing torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from vggbench.errors import RequestError, WeightsError
from vggbench.models.configs import (
    HEADS,
    LOCAL_RESPONSE_NORM_READINGS,
    VARIANTS,
    Conv,
    MaxPool,
    Stage,
    Variant,
    find_variant,
    format_configuration,
    parse_configuration,
)
from vggbench.models.fields import checked_fields
from vggbench.models.origin import Origin

Outputs = Literal["logits", "probabilities"]

CUSTOM = "custom"
OUTPUTS: tuple[Outputs, ...] = ("logits", "probabilities")
GENERATED_WEIGHTS = ("random", "init")
IMAGENET = "imagenet"  # the file that torchvision publishes for the variant
WEIGHTS_SUFFIXES = (".pth", ".pt", ".safetensors")
CLASSIFIER_WIDTH = 4096  # the paper's
POOLED_SIZE = 7  # the adaptive head's side: what five pools leave of 224 pixels
IMAGE_CHANNELS = 3

MAX_INPUT_SIZE = 8192  # one image's first activation is 16 GiB there: beyond it a number is a typing error
MAX_CLASSES = 1_000_000  # 45 times ImageNet-21k
MAX_CLASSIFIER_WIDTH = 65_536  # 16 times the paper's
MAX_LINEAR_WEIGHTS = 2**31  # 8 GiB in fp32: no smaller machine could hold the layer and its export
MAX_SEED = 2**63 - 1  # what a torch.Generator and a JSON reader both take


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A network completely: two equal specs compute the same function. Checked when it is made.

    Attributes:
        variant: a name of `VARIANTS`; `custom` or `custom_bn` for a configuration of one's own.
        configuration: canonical text.
        local_response_norm: `none`, `literal` or `divided`, after the first ReLU.
        head: `adaptive` (7x7 average pool) or `flatten` (a linear layer sized to the input).
        input_size: side of the square input in pixels.
        outputs: `logits` or `probabilities`.
        weights: `random`, `init` or the absolute path of a file.
        weights_sha256: of that file; empty for generated weights.
        origin: where a published file comes from; None for one of the user's own. No part of the function.
    """

    variant: str
    configuration: str
    batch_norm: bool
    local_response_norm: str
    head: str
    input_size: int
    num_classes: int
    classifier_width: int
    outputs: str
    weights: str
    seed: int
    weights_sha256: str = ""
    origin: Origin | None = None

    def __post_init__(self) -> None:
        _check_choice("local response norm", self.local_response_norm, LOCAL_RESPONSE_NORM_READINGS)
        _check_choice("head", self.head, HEADS)
        _check_choice("outputs", self.outputs, OUTPUTS)
        _check_range("input size", self.input_size, 1, MAX_INPUT_SIZE)
        _check_range("number of classes", self.num_classes, 1, MAX_CLASSES)
        _check_range("classifier width", self.classifier_width, 1, MAX_CLASSIFIER_WIDTH)
        _check_range("seed", self.seed, 0, MAX_SEED)
        _check_pools(self)
        _check_first_linear(self)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The configuration, read."""
        return parse_configuration(self.configuration)

    @property
    def feature_channels(self) -> int:
        """Channels of the last convolution."""
        return [stage.channels for stage in self.stages if isinstance(stage, Conv)][-1]

    @property
    def feature_size(self) -> int:
        """Side of the last feature map in pixels, before the head's own pool."""
        return self.input_size >> sum(isinstance(stage, MaxPool) for stage in self.stages)

    @property
    def classifier_inputs(self) -> int:
        """Width that the first linear layer takes."""
        side = POOLED_SIZE if self.head == "adaptive" else self.feature_size
        return self.feature_channels * side * side

    @property
    def input_name(self) -> str:
        """What the exported file calls its input."""
        return "input"

    @property
    def output_name(self) -> str:
        """What the exported file calls the output that is held against the reference."""
        return "logits"

    @property
    def has_generated_weights(self) -> bool:
        """Whether the weights come from the seed and not from a file."""
        return self.weights in GENERATED_WEIGHTS

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` takes; without an origin where there is none."""
        data = asdict(self)
        return data if self.origin else {name: value for name, value in data.items() if name != "origin"}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelSpec:
        """Rebuild a spec; `RequestError` names the field that is missing, unknown or of a wrong type."""
        own = {name: value for name, value in data.items() if name != "origin"}
        values = checked_fields(cls, own, "model spec", besides=("origin",))
        return cls(**values, origin=Origin.from_json(data["origin"]) if "origin" in data else None)

    def digest(self) -> str:
        """Return 16 hex characters that name the function: the same for the same weights wherever their file lies."""
        content = {name: value for name, value in self.to_json().items() if name != "origin"}
        if not self.has_generated_weights:
            content |= {"weights": "file", "seed": 0}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def make_spec(
    variant: str | None = None,
    *,
    config: str | None = None,
    batch_norm: bool | None = None,
    local_response_norm: str | None = None,
    head: str | None = None,
    input_size: int | None = None,
    num_classes: int | None = None,
    classifier_width: int = CLASSIFIER_WIDTH,
    outputs: str = "logits",
    weights: str = "random",
    seed: int = 0,
) -> ModelSpec:
    """Return the spec of a variant, or of a configuration; what is None is the variant's own.

    `batch_norm` chooses between a variant and its `_bn` form. A checkpoint that says which network it is for needs
    neither variant nor configuration. A weights file is hashed here, once; a published one is looked for, and fetched
    if it is not on this machine.
    """
    if variant is None and config is None:
        from vggbench.models.description import described_network

        if described := described_network(weights):
            asked = {
                "batch norm": (batch_norm, described.batch_norm),
                "local response norm": (local_response_norm, described.local_response_norm),
                "head": (head, described.head),
                "number of classes": (num_classes, described.num_classes),
            }
            _refuse_others(weights, asked)
            size = described.input_size if input_size is None else input_size
            return _with_weights(replace(described, input_size=size, outputs=outputs, seed=seed), weights)
    if (variant is None) == (config is None):
        raise RequestError("name either a variant or a configuration, not both and not neither")
    base = (
        _custom_variant(config, bool(batch_norm)) if config is not None else _named_variant(variant or "", batch_norm)
    )
    spec = ModelSpec(
        variant=base.name,
        configuration=base.configuration,
        batch_norm=base.batch_norm,
        local_response_norm=_local_response_norm(base, local_response_norm),
        head=base.head if head is None else head,
        input_size=base.input_size if input_size is None else input_size,
        num_classes=base.num_classes if num_classes is None else num_classes,
        classifier_width=classifier_width,
        outputs=outputs,
        weights=GENERATED_WEIGHTS[0],
        seed=seed,
    )
    return _with_weights(spec, weights)


def _refuse_others(weights: str, asked: Mapping[str, tuple[object, object]]) -> None:
    """Refuse what was asked for beside a checkpoint that says it is for something else."""
    for name, (given, own) in asked.items():
        if given is not None and given != own:
            raise RequestError(
                f"weights file {weights!r} is for a network with {name} {own}, not {given}; leave that out, or name "
                "another network with --variant or --config"
            )


def _named_variant(name: str, batch_norm: bool | None) -> Variant:
    found = find_variant(name)
    if batch_norm is None or batch_norm == found.batch_norm:
        return found
    sibling = found.name + "_bn" if batch_norm else found.name.removesuffix("_bn")
    if sibling not in VARIANTS:
        raise RequestError(f"{found.name} has no batch-norm form; give its layers with --config to build one")
    return VARIANTS[sibling]


def _custom_variant(config: str, batch_norm: bool) -> Variant:
    """Return a variant that stands for a configuration; nothing is declared about it, so its facts are 0."""
    return Variant(
        name=CUSTOM + "_bn" if batch_norm else CUSTOM,
        paper_name="",
        configuration=format_configuration(parse_configuration(config)),
        batch_norm=batch_norm,
        weight_layers=0,
        parameters=0,
        macs=0,
    )


def _local_response_norm(base: Variant, asked: str | None) -> str:
    if asked is None:
        return base.local_response_norm
    if base.name in VARIANTS and (asked == "none") != (base.local_response_norm == "none"):
        raise RequestError(
            f"{base.name} is defined with local response norm {base.local_response_norm!r}, not {asked!r}; "
            "use vgg11_lrn, or give the layers with --config"
        )
    return asked


def _with_weights(spec: ModelSpec, weights: str) -> ModelSpec:
    """Return the spec with the kind of generated weights, or with a file's absolute path and SHA-256."""
    if weights in GENERATED_WEIGHTS:
        return replace(spec, weights=weights)
    from vggbench.models.published import find_published, is_published_name, local_file

    if is_published_name(weights):
        origin = find_published(weights, spec)
        path, sha256 = local_file(origin)
        return replace(spec, weights=str(path), weights_sha256=sha256, origin=origin)
    path = _own_file(weights)
    return replace(spec, weights=str(path.resolve()), weights_sha256=weights_file_sha256(path))


def _own_file(weights: str) -> Path:
    path = Path(weights)
    if path.suffix not in WEIGHTS_SUFFIXES:
        kinds = " or ".join(WEIGHTS_SUFFIXES)
        raise WeightsError(f"weights {weights!r}: give 'random', 'init', 'imagenet' or a file that ends in {kinds}")
    try:
        path = path.expanduser()
        found, folder = path.is_file(), path.is_dir()
    except (OSError, RuntimeError) as error:  # a name too long, a home of nobody
        raise WeightsError(f"weights {weights[:80]!r} cannot be looked up: {error}") from None
    if folder:
        raise WeightsError(f"weights {weights!r} is a folder; name the file in it")
    if not found:
        raise WeightsError(f"weights file {weights!r} does not exist; check the path, or use 'random' or 'init'")
    return path


def weights_file_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a weights file; `WeightsError` when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"weights file {str(path)!r} cannot be read: {error.strerror}") from error


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise RequestError(f"{name} is {value!r}; it can be {' or '.join(choices)}")


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise RequestError(f"{name} is {value}; it must be from {least} to {most}")


def _check_pools(spec: ModelSpec) -> None:
    pools = sum(isinstance(stage, MaxPool) for stage in spec.stages)
    if spec.feature_size >= 1:
        return
    failing = spec.input_size.bit_length()  # each pool drops one bit of the size: the first that is handed 1 pixel
    raise RequestError(
        f"input size {spec.input_size} is too small for {spec.variant}: pool {failing} of {pools} would be handed "
        f"1 pixel a side and needs 2; the smallest size that works is {2**pools}"
    )


def _check_first_linear(spec: ModelSpec) -> None:
    weights = spec.classifier_inputs * spec.classifier_width
    if weights > MAX_LINEAR_WEIGHTS:
        raise RequestError(
            f"the first linear layer would have {spec.classifier_inputs} x {spec.classifier_width} weights, "
            f"{weights / MAX_LINEAR_WEIGHTS:.1f} times the most that is built; use the adaptive head or a smaller size"
        )
