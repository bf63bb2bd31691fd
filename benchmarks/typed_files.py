"""Three ways to a file of fp16 or bf16: our conversion of the fp32 file, exporting the cast module, other converters.

    python benchmarks/typed_files.py [--variant vgg16_bn] [--precision fp16 bf16] [--place exports] [--images 8]

Each way is a process of its own that starts with the fp32 file, or the fp32 weights, on the disk. Time is the wall's
from the start of a process to its end, memory the highest resident set. Then the checker reads the file, ONNX's own
evaluator runs it on the images of the reference (as the backend `onnx-reference` does), and the error is held to
PyTorch in float64, relative to the signal. `onnxconverter-common` and ModelOpt's AutoCast are tried where they can be
imported: `pip install --no-deps --target DIR onnxconverter-common nvidia-modelopt onnx_graphsurgeon tqdm onnxslim lief`
and `PYTHONPATH=DIR`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MIB = 2**20
COLUMNS = (("wall_s", 1), ("cpu_s", 1), ("peak_mib", 0), ("mib", 1), ("error", 5))  # with their decimals
ROUTES = ("vggbench", "cast module", "cast module, batch norms live", "onnxconverter-common", "AutoCast")


def by_vggbench(variant: str, precision: str, exports: Path, target: Path) -> None:
    from vggbench.artefacts.exported import exported
    from vggbench.artefacts.onnx_form import OnnxForm
    from vggbench.models.spec import make_spec

    artefact = exported(make_spec(variant), exports, OnnxForm.of_cell(precision, {}))
    (target / "path").write_text(str(artefact.path))


def by_cast_module(variant: str, precision: str, exports: Path, target: Path, *, fuse: bool = True) -> None:
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    from vggbench.artefacts.weights import weights_artefact
    from vggbench.models.spec import make_spec
    from vggbench.models.weights import load_module

    spec = make_spec(variant)
    network = load_module(spec, weights_artefact(spec, exports).path).eval()
    if fuse:
        for index, (one, other) in enumerate(zip(network.features, list(network.features)[1:], strict=False)):
            if isinstance(other, torch.nn.BatchNorm2d):
                network.features[index] = fuse_conv_bn_eval(one, other)
                network.features[index + 1] = torch.nn.Identity()
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]

    class Cast(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network.to(dtype)

        def forward(self, x):
            return self.network.logits(x.to(dtype)).float()

    torch.onnx.export(
        Cast().eval(),
        (torch.zeros(2, 3, spec.input_size, spec.input_size),),
        target / "model.onnx",
        dynamo=True,
        opset_version={"fp16": 20, "bf16": 22}[precision],
        input_names=["input"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )


def by_live_module(variant: str, precision: str, exports: Path, target: Path) -> None:
    by_cast_module(variant, precision, exports, target, fuse=False)


def parent(variant: str, exports: Path):
    import onnx

    from vggbench.artefacts.exported import exported
    from vggbench.models.spec import make_spec

    return onnx.load(exported(make_spec(variant), exports).path)


def save(model, target: Path) -> None:
    import onnx

    onnx.save(model, target / "model.onnx", save_as_external_data=True, location="model.onnx.data")


def by_converter(variant: str, precision: str, exports: Path, target: Path) -> None:
    from onnxconverter_common.float16 import convert_float_to_float16

    if precision != "fp16":
        raise ValueError("converts to fp16 alone")
    save(convert_float_to_float16(parent(variant, exports), keep_io_types=True, disable_shape_infer=True), target)


def by_autocast(variant: str, precision: str, exports: Path, target: Path) -> None:
    from modelopt.onnx.autocast import convert_to_f16

    save(convert_to_f16(parent(variant, exports), low_precision_type=precision, keep_io_types=True), target)


MAKERS = dict(zip(ROUTES, (by_vggbench, by_cast_module, by_live_module, by_converter, by_autocast), strict=True))


def made(route: str, variant: str, precision: str, exports: Path, target: Path) -> dict:
    """Make a file in a process of its own; return what it took, or why there is none.

    Linux lets a process begin with the resident set of the one that starts it, so that this one has to stay small.
    """
    command = [sys.executable, __file__, "--make", route, variant, precision, str(exports), str(target)]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        said = running.stderr.read().decode()
        _, status, used = os.wait4(running.pid, 0)
        seconds = time.perf_counter() - start
        running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        return {"why": said.strip().splitlines()[-1][:100]}
    # Linux counts in KiB.
    return {"wall_s": seconds, "cpu_s": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}


def judged(path: Path, variant: str, exports: Path, count: int) -> dict:
    """Return what the checker says of a file, and its error on the images of the reference."""
    import numpy as np
    import onnx
    from onnx.reference import ReferenceEvaluator

    from vggbench.artefacts.weights import weights_artefact
    from vggbench.backends.onnx_operators import operators
    from vggbench.models.spec import make_spec
    from vggbench.parity.metrics import compare
    from vggbench.parity.reference import reference_artefact

    found = {"mib": sum(file.stat().st_size for file in path.parent.iterdir() if file.name.startswith("model")) / MIB}
    try:
        onnx.checker.check_model(path, full_check=True)
        found["checker"] = "passes"
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        found["checker"], found["complaint"] = "refuses", str(error).splitlines()[0]
    spec = make_spec(variant)
    with np.load(reference_artefact(spec, exports, weights_artefact(spec, exports)).path) as arrays:
        inputs, logits = arrays["inputs"][:count], arrays["logits"][:count]
    evaluator = ReferenceEvaluator(onnx.load(path), new_ops=operators())
    with np.errstate(all="ignore"):
        (outputs,) = evaluator.run(["logits"], {"input": inputs})
    return found | {"error": float(compare(outputs, logits).signal_error), "output": str(outputs.dtype)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="vgg16_bn")
    parser.add_argument("--precision", nargs="+", default=["fp16", "bf16"], choices=["fp16", "bf16"])
    parser.add_argument("--place", type=Path, default=Path("exports"), help="an exports folder on the disk to write to")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    # The fp32 file and the weights are there before anything is timed.
    subprocess.run(
        [sys.executable, "-m", "vggbench", "export", "--variant", options.variant, "--exports", options.place],
        check=True,
    )
    rows = []
    for precision in options.precision:
        for route in ROUTES:
            with tempfile.TemporaryDirectory(prefix="typed-files-", dir=options.place) as folder:
                target = Path(folder)
                row = {"precision": precision, "route": route}
                row |= made(route, options.variant, precision, options.place, target)
                if "why" not in row:
                    path = target / "path"
                    path = Path(path.read_text()) if path.exists() else target / "model.onnx"
                    judge = [sys.executable, __file__, "--judge", path, options.variant, options.place, options.images]
                    answer = subprocess.run([*map(str, judge)], check=True, capture_output=True, text=True).stdout
                    row |= json.loads(answer)
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    print("| precision | way | wall s | processor s | peak MiB | file MiB | checker | error |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        numbers = [f"{row[key]:.{digits}f}" for key, digits in COLUMNS if key in row]
        shown = [*numbers[:4], row["checker"], numbers[4]] if numbers else ["", "", "", "", row["why"], ""]
        print(f"| {row['precision']} | {row['route']} | {' | '.join(shown)} |")
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        _, _, chosen, name, kind, folder, place = sys.argv
        MAKERS[chosen](name, kind, Path(folder), Path(place))
    elif sys.argv[1:2] == ["--judge"]:
        _, _, file, name, folder, number = sys.argv
        print(json.dumps(judged(Path(file), name, Path(folder), int(number))))
    else:
        main()
