"""The images that a network is verified and timed on: synthetic ones, or some of a data set's.

Those of a data set are kept among the artefacts, prepared: a run that is resumed, or read by somebody else, needs the
data set no more. numpy; no torch, and no Pillow but where images are kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import check_files
from vggbench.artefacts.store import Request, Written, prepare, tool_versions
from vggbench.data.source import SEED, DataSource
from vggbench.data.synthetic import images
from vggbench.errors import DataError
from vggbench.models.network_file import Network
from vggbench.models.preprocessing import Preprocessing
from vggbench.models.spec import IMAGE_CHANNELS

if TYPE_CHECKING:
    from vggbench.data.dataset import DataSet

IMAGES = 8  # enough that the part of the output which depends on the input is steady
INPUTS_FILE = "inputs.npz"
SCHEME = 1  # raised when the same data set would give other images


def input_images(network: Network, exports: Path, source: DataSource | None) -> NDArray[np.float32]:
    """Return the images `(8, 3, S, S)`; without a source synthetic ones, the same for everybody.

    Raises `DataError` where a data set's were not kept with `keep_inputs`.
    """
    if source is None:
        return images(IMAGES, network.input_size, SEED)

    def miss(_folder: Path) -> Written:
        raise DataError(
            f"the images of {source.text} are not among the artefacts in {exports}; name the run's own --exports, or "
            "start another with --data"
        )

    artefact = prepare(_request(network, source), exports, miss)
    check_files(artefact)
    with np.load(artefact.path, allow_pickle=False) as stored:
        found: NDArray[np.float32] = stored["inputs"]
    return found


def keep_inputs(network: Network, exports: Path, data: DataSet) -> DataSource:
    """Keep images of a data set, evenly spread over it and prepared as the network's weights say; return their source.

    Raises `DataError` where there are too few, or they do not fit the network.
    """
    from vggbench.data.dataset import spread

    source = DataSource(name=data.name, sha256=data.sha256)
    preprocessing = Preprocessing.of_spec(network)
    chosen = data.batch(spread(len(data), IMAGES), preprocessing, network.input_size)

    def write(folder: Path) -> Written:
        np.savez(folder / INPUTS_FILE, inputs=chosen)
        return Written(outputs=(("inputs", "float32", chosen.shape),), tools=tool_versions("pillow", "numpy"))

    prepare(_request(network, source), exports, write)
    return source


def _request(network: Network, source: DataSource) -> Request:
    return Request(
        kind="inputs",
        format="inputs",
        main=INPUTS_FILE,
        spec=network,
        precision="fp32",
        material={
            "data": source.sha256,
            "preprocessing": Preprocessing.of_spec(network).to_json(),
            "shape": [IMAGES, IMAGE_CHANNELS, network.input_size, network.input_size],
            "scheme": SCHEME,
        },
    )
