"""Which driver, CUDA, torch, onnxruntime-gpu and TensorRT work together: one table, for README and the doctor.

A cell says how it is known: `seen`: the package was opened here, on a machine without a GPU; `package`: the
requirements in the package's own metadata; `document`: its maker's documentation. No row was run on a GPU so far. The
standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

SEEN, PACKAGE, DOCUMENT = "seen", "package", "document"
Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Known:
    """A cell of the table: its text, and how that is known."""

    text: str
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What works together.

    Attributes:
        cuda_major: which the libraries are built for.
        first_driver: the oldest driver that runs every program of that CUDA; those of newer branches run them, too.
        capabilities: compute capabilities of GPUs that torch's build has kernels for, the first and the last.
        onnxruntime: versions of onnxruntime-gpu that are built for it, the first and the first that no longer is.
        torch_source: where torch's build for it comes from, as one would tell somebody to install it.
        constraints: the file that pins such a set.
    """

    cuda_major: int
    first_driver: str
    capabilities: tuple[Version, Version]
    onnxruntime: tuple[Version, Version]
    torch_source: str
    constraints: str
    driver: Known
    cuda: Known
    gpu: Known
    torch: Known
    onnxruntime_gpu: Known
    provider_tensorrt: Known
    tensorrt: Known
    tensorrt_rtx: Known

    @property
    def first_branch(self) -> int:
        """The branch of the oldest driver, by which drivers are told apart."""
        return int(self.first_driver.partition(".")[0])


HEADINGS = {
    "driver": "driver",
    "cuda": "CUDA",
    "gpu": "compute capability",
    "torch": "torch",
    "onnxruntime_gpu": "onnxruntime-gpu",
    "provider_tensorrt": "TensorRT that onnxruntime-gpu loads",
    "tensorrt": "TensorRT for plans",
    "tensorrt_rtx": "TensorRT for RTX",
}

# The newest first: what a driver allows is the first row whose branch it has.
MATRIX = (
    Row(
        cuda_major=13,
        first_driver="580.65.06",
        capabilities=((7, 5), (12, 1)),
        onnxruntime=((1, 27), (1, 32)),
        torch_source="the package index's own build",
        constraints="constraints/cuda13.txt",
        driver=Known("580.65.06 or newer", DOCUMENT),
        cuda=Known("13", DOCUMENT),
        gpu=Known("7.5 to 12.1", DOCUMENT),
        torch=Known("2.11 to 2.14, the package index's", PACKAGE),
        onnxruntime_gpu=Known("1.27 to 1.31", PACKAGE),
        provider_tensorrt=Known("10 alone (`libnvinfer.so.10`): `tensorrt-cu13<11`", SEEN),
        tensorrt=Known("`tensorrt-cu13` from 10.13.2 on, or 11", PACKAGE),
        tensorrt_rtx=Known("`tensorrt-rtx-cu13` 1.7 builds; GPUs of 7.5, 8.x and 12.x", SEEN),
    ),
    Row(
        cuda_major=12,
        first_driver="525.60.13",
        capabilities=((5, 0), (9, 0)),
        onnxruntime=((1, 24), (1, 27)),
        torch_source="the build for CUDA 12.6, of PyTorch's own index",
        constraints="constraints/cuda12.txt",
        driver=Known("525.60.13 to 579", DOCUMENT),
        cuda=Known("12", DOCUMENT),
        gpu=Known("5.0 to 9.0; TensorRT from 7.5", DOCUMENT),
        torch=Known("2.11 to 2.13, those of PyTorch's own index for CUDA 12.6", DOCUMENT),
        onnxruntime_gpu=Known("1.24 to 1.26", PACKAGE),
        provider_tensorrt=Known("10 alone: `tensorrt-cu12<11`", DOCUMENT),
        tensorrt=Known("`tensorrt-cu12` from 10.13 on, or 11", PACKAGE),
        tensorrt_rtx=Known("`tensorrt-rtx-cu12` 1.4 to 1.7; GPUs of 7.5, 8.x and 12.x", PACKAGE),
    ),
)


def row_of_cuda(major: int) -> Row | None:
    """Return the row for programs of a CUDA major; None for one that no row has."""
    return next((row for row in MATRIX if row.cuda_major == major), None)


def best_row(cuda_major: int) -> Row | None:
    """Return the newest row that a driver serves which supports a CUDA major; None for a driver that is too old."""
    return next((row for row in MATRIX if row.cuda_major <= cuda_major), None)


def cuda_of_driver(driver: str) -> int | None:
    """Return the newest CUDA major of which a driver's version (580.65.06) runs programs, by the table; None if none.

    By "minor version compatibility" of NVIDIA's guide "CUDA Compatibility".
    """
    branch = driver.partition(".")[0]
    if not branch.isdecimal():
        return None
    return next((row.cuda_major for row in MATRIX if int(branch) >= row.first_branch), None)


def markdown() -> str:
    """Return the table as README shows it."""
    lines = [list(HEADINGS.values()), ["---"] * len(HEADINGS)]
    lines += [[_shown(getattr(row, name)) for name in HEADINGS] for row in MATRIX]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _shown(known: Known) -> str:
    return f"{known.text} ({known.how})"
