"""The process that builds one TensorRT engine, for whichever of TensorRT 10, 11 and TensorRT for RTX is asked for.

Run as `python -m vggbench.artefacts.engine_builder`: a job comes in as a line of JSON; progress and, last, a result or
an error go out likewise. Every engine has a process of its own: a build that fails changes the next one in the same
process, and a library that crashes takes nothing with it.

The three libraries are one interface; `tensorrt_features` has what only some have. Builds by TensorRT for RTX are
tested, of TensorRT 10 and 11 every call against the signatures of their own bindings. Networks are strongly typed in
all of them: the types of the ONNX file are those of the engine. Imports the standard library and the one TensorRT.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vggbench.artefacts.child_process import die_with_parent, own_answers
from vggbench.artefacts.engine_caches import keep_cache, read_cache
from vggbench.artefacts.tensorrt_features import BuildError, OptionError, set_capabilities, strongly_typed
from vggbench.artefacts.tensorrt_log import make_log, without_repetition

Send = Callable[..., None]
PROGRESS_INTERVAL_S = 0.1  # more often than that nobody looks
_MIB = 2**20
# Of a warning that is none: numbers without sign would be read as numbers with one.
_MISREAD = "Defaulting to INT8"


def main() -> None:
    """Answer the one job; what is not foreseen ends the process, and the one who started it says how."""
    die_with_parent(int(sys.argv[1]))
    answers = own_answers()

    def send(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    job = json.loads(sys.stdin.readline())
    try:
        trt = _library(job["module"])
        send(result=build(trt, job, send) if "onnx" in job else {"version": trt.__version__})
    except OptionError as error:
        send(refused=str(error))
    except BuildError as error:
        send(error=" ".join(str(error).split()))


def _library(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # the module, or a shared library that it loads
        raise BuildError(f"{module} cannot be imported: {error}") from error


def build(trt: Any, job: Mapping[str, Any], send: Send) -> dict[str, Any]:
    """Write the engine to `job["plan"]` and return what the builder said of it."""
    log = make_log(trt)
    builder = _builder(trt, log)
    network = builder.create_network(strongly_typed(trt))
    _parse(trt, network, Path(job["onnx"]), log)
    config = builder.create_builder_config()
    _configure(trt, config, job)
    _add_profile(builder, config, network, job["batch_sizes"])
    config.progress_monitor = monitor = _monitor(trt, send)  # held here: the library holds no reference
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(log.reasons() or "the builder gave no engine and said nothing")
    if misread := [text for text in log.warnings if _MISREAD in text]:
        raise BuildError(misread[0])
    Path(job["plan"]).write_bytes(plan)
    return {
        "layers": log.layers,
        "inspection": "" if log.layers else _inspection(trt, log, plan),
        "timing_cache_sha256": _keep_timings(config, job["timing_cache"]),
        "version": trt.__version__,
        "inputs": [_tensor(network.get_input(index)) for index in range(network.num_inputs)],
        "outputs": [_tensor(network.get_output(index)) for index in range(network.num_outputs)],
        "steps": monitor.steps,
    }


def _builder(trt: Any, log: Any) -> Any:
    try:
        return trt.Builder(log)
    except TypeError as error:  # how the bindings say that the library gave none: TensorRT 10 and 11 without a GPU
        raise BuildError(log.reasons() or "the library gives no builder; it needs an NVIDIA GPU and driver") from error


def _parse(trt: Any, network: Any, path: Path, log: Any) -> None:
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(path)):
        found = [_parser_error(parser.get_error(index)) for index in range(parser.num_errors)]
        raise BuildError(f"{path.name} cannot be parsed: " + "; ".join(without_repetition([*found, *log.errors])))
    if not network.num_inputs or not network.num_outputs or not network.num_layers:
        raise BuildError(f"{path.name} cannot be parsed: there is no network in it; is it an ONNX file?")


def _parser_error(error: Any) -> str:
    """Say which node it is of, and why: `node 3 features.0 (Conv): INVALID_NODE: ...`."""
    code = str(error.code()).rpartition(".")[2]
    name, operator = error.node_name(), error.node_operator()
    where = f"node {error.node()} {name} ({operator}): " if operator else ""
    reason = error.desc()
    return f"{where}{code}" + (f": {reason}" if reason and reason != "false" else "")


def _configure(trt: Any, config: Any, job: Mapping[str, Any]) -> None:
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the list of layers has no types
    (config.set_flag if job["tf32"] else config.clear_flag)(trt.BuilderFlag.TF32)  # set by default; fp32 means fp32
    if job["workspace_mib"] is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job["workspace_mib"] * _MIB)
    if job["optimization_level"] is not None:
        config.builder_optimization_level = job["optimization_level"]
    if job["compute_capabilities"]:
        set_capabilities(trt, config, job["compute_capabilities"])
    if job["timing_cache"]:
        _use_timings(config, Path(job["timing_cache"]))


def _use_timings(config: Any, path: Path) -> None:
    """Let the builder time no kernel again that it has timed on this GPU; of timings that do not fit it takes none."""
    cache = config.create_timing_cache(read_cache(path))
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _keep_timings(config: Any, path: str | None) -> str:
    """Keep the timings that the build ended with; returns their hash, empty where none are kept."""
    if path is None:
        return ""
    blob = bytes(config.get_timing_cache().serialize())
    keep_cache(Path(path), blob)
    return hashlib.sha256(blob).hexdigest()


def _inspection(trt: Any, log: Any, plan: Any) -> str:
    """Return what the inspector says of the engine, as JSON: for a builder that lists no layers, where the GPU is."""
    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    if engine is None:
        raise BuildError(log.reasons() or "the engine cannot be opened again: what it computes in cannot be proven")
    return str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))


def _add_profile(builder: Any, config: Any, network: Any, batch_sizes: Sequence[int]) -> None:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        rest = tuple(tensor.shape)[1:]
        profile.set_shape(tensor.name, *((size, *rest) for size in batch_sizes))
    if config.add_optimization_profile(profile) < 0:
        raise BuildError(f"the builder takes no batches of {':'.join(map(str, batch_sizes))}")


def _tensor(tensor: Any) -> tuple[str, str, list[int]]:
    return tensor.name, str(tensor.dtype).rpartition(".")[2], list(tensor.shape)


def _monitor(trt: Any, send: Send) -> Any:
    """Return a monitor that sends how far the build is: the phase in hand, and the steps of the outermost one."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._outermost = ""
            self._phase = ""
            self._total, self._done = 0, 0
            self._sent_s = 0.0
            self.steps = 0

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            if not parent:
                self._outermost, self._total, self._done = phase, steps, 0
            self._phase = phase
            self._send()

        def step_complete(self, phase: str, step: int) -> bool:
            self.steps += 1
            if phase == self._outermost:
                self._done = step + 1
            self._send()
            return True

        def phase_finish(self, phase: str) -> None:
            if phase == self._outermost:
                self._done = self._total
                self._send(at_once=True)

        def _send(self, *, at_once: bool = False) -> None:
            now = time.monotonic()
            if at_once or now - self._sent_s >= PROGRESS_INTERVAL_S:
                self._sent_s = now
                send(progress=[self._phase, self._done, self._total])

    return Monitor()


if __name__ == "__main__":
    main()
