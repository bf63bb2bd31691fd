"""What the scripted backends open, and the reference they are held against. No torch.

The artefact is one small JSON file; the reference is the fake's own function of the images, in float64.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.store import Request, Written, prepare
from vggbench.backends.fake import fake_logits
from vggbench.models.spec import ModelSpec


def script_artefact(spec: ModelSpec, exports: Path) -> Artefact:
    """Return the file that says which function the fake computes."""

    def write(folder: Path) -> Written:
        (folder / "script.json").write_text(json.dumps({"spec": spec.digest(), "seed": spec.seed}))
        return Written()

    request = Request(
        kind="script",
        format="script",
        main="script.json",
        spec=spec,
        precision="fp32",
        material={"spec": spec.digest()},
    )
    return prepare(request, exports, write)


def script_reference(spec: ModelSpec, exports: Path, artefact: Artefact, inputs: NDArray[np.float32]) -> Artefact:
    """Return the images and the fake's exact logits for them."""

    def write(folder: Path) -> Written:
        np.savez(folder / "reference.npz", inputs=inputs, logits=fake_logits(inputs, spec.num_classes, spec.seed))
        return Written()

    request = Request(
        kind="reference",
        format="script-reference",
        main="reference.npz",
        spec=spec,
        precision="fp64",
        material={"spec": spec.digest(), "inputs": hashlib.sha256(inputs.tobytes()).hexdigest()},
        parent=artefact.sha256,
    )
    return prepare(request, exports, write)
