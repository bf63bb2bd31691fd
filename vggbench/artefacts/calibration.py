"""From images to the ranges of a network's activations, by the fp32 file that the quantised one is made from.

Runs that file in ONNX Runtime, image by image: what is kept of an activation is its extremes or its histogram. The
histograms and the ranges that are read off them are `onnxruntime.quantization.calibrate`'s; its calibrators are not
used, because they write and load a second and a third copy of all weights first.

Imports onnx and onnxruntime inside functions, and neither where the ranges exist already.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact, check_files
from vggbench.artefacts.qdq import sources
from vggbench.artefacts.quantization import (
    DEFAULT_METHOD,
    FEWEST_IMAGES,
    IMAGES,
    LAYOUTS,
    NO_CALIBRATION,
    QUANTIZED_PRECISIONS,
    SYNTHETIC,
    Calibration,
    check_method,
    layout_of,
)
from vggbench.artefacts.store import Request, Written, prepare
from vggbench.data.dataset import DataSet, open_dataset, spread
from vggbench.data.synthetic import images as synthetic_images
from vggbench.errors import CalibrationError, ExportError, RequestError
from vggbench.models.preprocessing import Preprocessing
from vggbench.models.spec import IMAGE_CHANNELS, ModelSpec

RANGES_FILE = "ranges.json"
SEED = 20170612  # not the reference's: ranges that were taken from the very images would not be exceeded by them
SET = 8  # synthetic images that are normalised together, as many as the reference has
SCHEME = 2  # raised when the same images would give other ranges
# onnxruntime's own defaults. With more bins its entropy takes the many zeros behind a ReLU for what is common, and cuts
# off more than half of the range.
HISTOGRAM_BINS = 2048
ENTROPY_BINS = 128
ENTROPY_LEVELS = 128  # those of a signed 8-bit type's one side
PERCENTILE = 99.99  # one value in ten thousand may be cut off

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Observed:
    """What calibration found: the least and the largest value of each tensor, and the hash of the images it saw."""

    ranges: Ranges
    sha256: str


def choose_calibration(where: str, method: str) -> Calibration:
    """Return what is asked for by a folder's path or the word `synthetic`, the folder's images hashed.

    Raises `DataError` for a folder that holds no set of images, `CalibrationError` for one that holds too few.
    """
    check_method(method)
    if where == SYNTHETIC:
        return Calibration(method=method)
    if not where:  # a shell's unset variable; Python's Path would take it for the folder one is in
        raise CalibrationError(f"calibration is ''; name a folder of images, or {SYNTHETIC}")
    path = Path(where).expanduser().absolute()
    images = open_dataset(path, "train")
    if len(images) < FEWEST_IMAGES:
        raise CalibrationError(f"{where} holds {len(images)} images; ranges need at least {FEWEST_IMAGES}")
    return Calibration(where=str(path), sha256=images.sha256, images=min(IMAGES, len(images)), method=method)


def quantization(precision: str, layout: str | None, where: str | None, method: str | None) -> dict[str, Any]:
    """Return the fields of an `OnnxForm` that say how it is quantised; none where its precision needs none.

    `RequestError` for a choice that such a file does not have, and where images are needed and not named; errors as of
    `choose_calibration`.
    """
    if precision not in QUANTIZED_PRECISIONS:
        if given := [name for name in (where, method, layout) if name is not None]:
            names = " or ".join(QUANTIZED_PRECISIONS)
            raise RequestError(f"{given[0]!r} is for files of {names}, not of {precision}")
        return {}
    if where is None:
        raise RequestError(NO_CALIBRATION.format(precision=precision))
    chosen = choose_calibration(where, DEFAULT_METHOD if method is None else method)
    return {"layout": layout_of(precision, layout), "calibration": chosen}


def _opened(calibration: Calibration) -> DataSet:
    """Open the folder; `CalibrationError` where it no longer holds what it held when it was chosen."""
    images = open_dataset(Path(calibration.where), "train")
    if images.sha256 != calibration.sha256:
        raise CalibrationError(f"{calibration.where} does not hold the images that it did when the run was planned")
    return images


def ranges_artefact(spec: ModelSpec, exports: Path, parent: Artefact, calibration: Calibration) -> Artefact:
    """Return the ranges of an fp32 file's activations, measured once and then found again; `read_ranges` reads them.

    They serve every precision and layout.

    Raises `CalibrationError` for images that say nothing about the network's activations.
    """
    request = ranges_request(spec, parent, calibration)
    return prepare(request, exports, lambda folder: _write(spec, parent, calibration, folder))


def ranges_request(spec: ModelSpec, parent: Artefact, calibration: Calibration) -> Request:
    """Return what is asked of the store."""
    return Request(
        kind="calibration",
        format="calibration",
        main=RANGES_FILE,
        spec=spec,
        precision="fp32",
        parent=parent.sha256,
        options=calibration.identity,
        material={
            "onnx": parent.sha256,
            "onnxruntime": onnxruntime_version(),
            "images": SEED if calibration.where == SYNTHETIC else Preprocessing.of_spec(spec).to_json(),
            "scheme": SCHEME,
        },
    )


def read_ranges(artefact: Artefact) -> Observed:
    """Return what `ranges_artefact` stored."""
    check_files(artefact)
    data = json.loads(artefact.path.read_text())
    return Observed({name: (low, high) for name, (low, high) in data["ranges"].items()}, data["images_sha256"])


def onnxruntime_version() -> str:
    """Return the version of ONNX Runtime, whichever of its distributions is installed, without importing it."""
    for name in ("onnxruntime-gpu", "onnxruntime"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    raise ExportError("ONNX Runtime is not installed; install vggbench again")


def _write(spec: ModelSpec, parent: Artefact, calibration: Calibration, folder: Path) -> Written:
    check_files(parent)
    images = checked(calibration_images(spec, calibration), spec)
    found = observe(parent.path, images, _ranged(parent.path), calibration.method)
    stored = {"ranges": found.ranges, "images_sha256": found.sha256}
    (folder / RANGES_FILE).write_text(json.dumps(stored, indent=1) + "\n")
    return Written(tools={"onnxruntime": onnxruntime_version()})


def _ranged(path: Path) -> list[str]:
    """Return the tensors whose ranges any layout needs."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return sorted({origin for layout in LAYOUTS for origin in sources(graph, layout).values()})


def calibration_images(spec: ModelSpec, calibration: Calibration) -> Iterator[NDArray[np.float32]]:
    """Yield the images one by one, each `(1, 3, S, S)`."""
    if calibration.where == SYNTHETIC:
        for first in range(0, calibration.images, SET):
            yield from np.split(synthetic_images(SET, spec.input_size, SEED + first), SET)
        return
    images, preprocessing = _opened(calibration), Preprocessing.of_spec(spec)
    for index in spread(len(images), calibration.images):
        yield images.batch([int(index)], preprocessing, spec.input_size)


def checked(images: Iterator[NDArray[np.float32]], spec: ModelSpec) -> Iterator[NDArray[np.float32]]:
    """Hand images on that say something about activations; `CalibrationError` names the one that does not."""
    expected = (1, IMAGE_CHANNELS, spec.input_size, spec.input_size)
    contents: set[bytes] = set()
    flat = count = 0
    for count, image in enumerate(images, start=1):
        if image.shape != expected:
            raise CalibrationError(
                f"calibration image {count} has the shape {image.shape}; {spec.variant} takes {expected}"
            )
        if lost := int(np.count_nonzero(~np.isfinite(image))):
            raise CalibrationError(
                f"calibration image {count} has {lost} values that are NaN or infinite; leave it out"
            )
        flat += not np.ptp(image, axis=(2, 3)).any()
        contents.add(hashlib.sha256(image.tobytes()).digest())
        yield image
    if count < FEWEST_IMAGES:
        raise CalibrationError(f"{count} calibration images; ranges need at least {FEWEST_IMAGES} that differ")
    if flat == count:
        raise CalibrationError(f"each of the {count} calibration images is one colour all over; give photographs")
    if len(contents) == 1:
        raise CalibrationError(f"the {count} calibration images are all the same; give different ones")


def observe(path: Path, images: Iterator[NDArray[np.float32]], tensors: Sequence[str], method: str) -> Observed:
    """Run an fp32 file on each image and return the tensors' ranges; the input is one of the tensors it may name."""
    run = _session(path, tensors)
    collector = _COLLECTORS[method]()
    digest = hashlib.sha256()
    for image in images:
        digest.update(image.tobytes())
        collector.collect(run(image))
    ranges = {name: (float(low), float(high)) for name, (low, high) in collector.ranges().items()}
    lost = [name for name, extremes in ranges.items() if not np.isfinite(extremes).all()]
    if lost:
        raise ExportError(f"{lost[0]} is NaN or infinite on the calibration images; check the weights")
    return Observed(ranges, digest.hexdigest())


def _session(path: Path, tensors: Sequence[str]) -> Any:
    """Return a function from an image to the values of the tensors by name, which the file does not list as outputs.

    The graph is changed in memory, and its weights are read from where they lie.
    """
    import onnx
    import onnxruntime

    model = onnx.load(path, load_external_data=False)
    image = model.graph.input[0].name
    wanted = [name for name in tensors if name != image]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(values: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        found = dict(zip(wanted, session.run(wanted, {image: values}), strict=True))
        return found | ({image: values} if image in tensors else {})

    return run


class _Collector(Protocol):
    """Keeps what is needed of the activations of any number of images."""

    def collect(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Take one image's."""
        ...

    def ranges(self) -> Mapping[str, tuple[Any, Any]]:
        """Return the least and the largest value that each tensor should be able to hold."""
        ...


class _Extremes:
    """The least and the largest value that was seen."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Any, Any]] = {}

    def collect(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        for name, array in values.items():
            low, high = self._found.get(name, (np.inf, -np.inf))
            # Unlike Python's own, numpy's pass a NaN on.
            self._found[name] = np.minimum(low, array.min()), np.maximum(high, array.max())

    def ranges(self) -> Mapping[str, tuple[Any, Any]]:
        return self._found


class _Histograms:
    """onnxruntime's own; it prints what it does, and a caller's stdout may be JSON."""

    def __init__(self, method: str, bins: int) -> None:
        from onnxruntime.quantization.calibrate import HistogramCollector

        self._extremes = _Extremes()
        self._collector: Any = HistogramCollector(
            method=method,
            symmetric=False,
            num_bins=bins,
            num_quantized_bins=ENTROPY_LEVELS,
            percentile=PERCENTILE,
            scenario="same",
        )

    def collect(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        self._extremes.collect(values)
        finite = all(np.isfinite(extremes).all() for extremes in self._extremes.ranges().values())
        if finite:  # a histogram of others cannot be made; they are named by their extremes
            with contextlib.redirect_stdout(io.StringIO()):
                self._collector.collect(values)

    def ranges(self) -> Mapping[str, tuple[Any, Any]]:
        extremes = self._extremes.ranges()
        if not all(np.isfinite(found).all() for found in extremes.values()):
            return extremes
        with contextlib.redirect_stdout(io.StringIO()):
            thresholds = self._collector.compute_collection_result()
        return {name: (found[0], found[1]) for name, found in thresholds.items()}


_COLLECTORS: Mapping[str, Callable[[], _Collector]] = {
    "min-max": _Extremes,
    "entropy": lambda: _Histograms("entropy", ENTROPY_BINS),
    "percentile": lambda: _Histograms("percentile", HISTOGRAM_BINS),
}
