"""What a network knows before it is trained: nothing, ImageNet, or what a file of one's own holds.

Imports torch inside its functions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vggbench.models.description import Description
from vggbench.models.published import find_published, is_published_name, local_file
from vggbench.models.spec import ModelSpec, make_spec
from vggbench.models.weights import build_module, empty_module, initial_state
from vggbench.models.weights_file import fitted, read_metadata, read_state, refuse_nonfinite

if TYPE_CHECKING:
    from vggbench.models.vgg import VGG
    from vggbench.models.weights_file import State

RANDOM = "random"
LAST_LAYER = "classifier.6."
IMAGENET_CLASSES = 1000  # of every published file


@dataclass(frozen=True, slots=True)
class Start:
    """Where the weights of a training come from.

    Attributes:
        path: of the file; None for weights that the seed draws.
        sha256: of the file; empty likewise.
    """

    path: Path | None = None
    sha256: str = ""

    @property
    def text(self) -> str:
        """What the weights are, in a few words and without a folder."""
        return RANDOM if self.path is None else f"{self.path.name}, sha256 {self.sha256}"


def find_start(spec: ModelSpec, init: str) -> Start:
    """Find and hash the file that `--init` names, fetched if it is a published one; `WeightsError` if it is not there.

    `random` is the published initialisation by the spec's seed.
    """
    if init == RANDOM:
        return Start()
    if is_published_name(init):
        return Start(*local_file(find_published(init, replace(spec, num_classes=IMAGENET_CLASSES))))
    named = make_spec(config=spec.configuration, weights=init)
    return Start(Path(named.weights), named.weights_sha256)


def starting_network(spec: ModelSpec, start: Start, classes: tuple[str, ...]) -> VGG:
    """Return the network to train.

    Of a file all is taken but the last layer, which tells other classes apart; where the file says that its classes are
    these very ones, the last layer, too. Raises `WeightsError` where it does not fit otherwise.
    """
    if start.path is None:
        return build_module(spec)
    state = read_state(start.path)
    if _classes_of(start.path) != classes:
        state = _with_new_last_layer(state, initial_state(spec))
    state = fitted(state, empty_module(spec).state_dict(), source=start.path.name, variant=spec.variant)
    refuse_nonfinite(state, start.path.name)
    return build_module(spec, state)


def _classes_of(path: Path) -> tuple[str, ...]:
    if path.suffix != ".safetensors":
        return ()
    return Description.of_metadata(read_metadata(path), f"weights file {str(path)!r}").classes


def _with_new_last_layer(state: State, own: State) -> State:
    kept = {key: tensor for key, tensor in state.items() if not key.startswith(LAST_LAYER)}
    return kept | {key: own[key] for key in own if key.startswith(LAST_LAYER)}
