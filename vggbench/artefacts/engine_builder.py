"""The process that builds one TensorRT engine, for whichever of TensorRT 10, 11 and TensorRT for RTX is asked for.

Run as `python -m vggbench.artefacts.engine_builder`: a job comes in as a line of JSON; progress and, last, a result or
an error go out likewise. Every engine has a process of its own: a build that fails changes the next one in the same
process, and a library that crashes takes nothing with it.

The three libraries are one interface. What only some have is asked for by `hasattr`, here and nowhere else; builds by
TensorRT for RTX are tested, of TensorRT 10 and 11 only what differs and needs no GPU. Networks are strongly typed in
all of them, so that the types of the ONNX file are those of the engine. Imports the standard library and the one
TensorRT.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vggbench.artefacts.child_process import die_with_parent, own_answers

Send = Callable[..., None]
LAYERS = "Layers:"  # how the message begins that lists the layers of the finished engine
PROGRESS_INTERVAL_S = 0.1  # more often than that nobody looks
_MIB = 2**20
# What every library says on a machine without a driver, whatever it was asked.
_NOISE = re.compile(r"cudaError 35\b|CUDA driver version is insufficient|CUDA lazy loading is not enabled")
# Of a message, where in the library's source it comes from, and what is around the reason itself.
_PLACES = re.compile(
    r"^ERROR: |^IBuilder::\w+: |\w+\.cpp:\d+ In function \w+:\s*(?:\[\d+\] )?|\[[\w.]+\.cpp:\d+:[^\]]*\]\s*|"
    r"\.? In \w+ at /\S+?(?=\)|$)"
)
_WRAPPED = re.compile(r"Error Code \d+: Myelin \((?P<reason>.*)\)")
# Of a warning that is none: numbers without sign would be read as numbers with one.
_MISREAD = "Defaulting to INT8"


class BuildError(Exception):
    """Why there is no engine, in one line."""


class OptionError(BuildError):
    """An option that this library does not have."""


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
    log = _log(trt)
    builder = _builder(trt, log)
    network = builder.create_network(_strongly_typed(trt))
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
        "version": trt.__version__,
        "inputs": [_tensor(network.get_input(index)) for index in range(network.num_inputs)],
        "outputs": [_tensor(network.get_output(index)) for index in range(network.num_outputs)],
        "layers": log.layers,
        "steps": monitor.steps,
    }


def _builder(trt: Any, log: Any) -> Any:
    try:
        return trt.Builder(log)
    except TypeError as error:  # how the bindings say that the library gave none: TensorRT 10 and 11 without a GPU
        raise BuildError(log.reasons() or "the library gives no builder; it needs an NVIDIA GPU and driver") from error


def _strongly_typed(trt: Any) -> int:
    """Return the flags of a network whose types are its file's: needed by 10, the only ones that 11 and RTX know."""
    flags = trt.NetworkDefinitionCreationFlag
    if not hasattr(flags, "STRONGLY_TYPED"):
        raise BuildError(f"{trt.__name__} {trt.__version__} has no strongly typed networks; install 10 or newer")
    return 1 << int(flags.STRONGLY_TYPED)  # bits differ between versions


def _parse(trt: Any, network: Any, path: Path, log: Any) -> None:
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(path)):
        found = [_parser_error(parser.get_error(index)) for index in range(parser.num_errors)]
        raise BuildError(f"{path.name} cannot be parsed: " + "; ".join(_without_repetition([*found, *log.errors])))
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
    config.clear_flag(trt.BuilderFlag.TF32)  # set by default, and fp32 means fp32
    if job["workspace_mib"] is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job["workspace_mib"] * _MIB)
    if job["optimization_level"] is not None:
        config.builder_optimization_level = job["optimization_level"]
    if job["compute_capabilities"]:
        _set_capabilities(trt, config, job["compute_capabilities"])


def _set_capabilities(trt: Any, config: Any, names: Sequence[str]) -> None:
    if not hasattr(config, "set_compute_capability"):
        raise OptionError(
            f"{trt.__name__} {trt.__version__} builds for the GPU it runs on and takes no compute capability"
        )
    known = {name: value for name, value in trt.ComputeCapability.__members__.items() if name.startswith("SM")}
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        if name not in known:
            raise OptionError(
                f"{name} is no compute capability of {trt.__name__} {trt.__version__}: {', '.join(known)}"
            )
        config.set_compute_capability(known[name], index)


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


def _reason(text: str) -> str:
    """Return what a message of the library says without where in its source that was found."""
    said = _PLACES.sub("", text).strip()
    return _WRAPPED.sub(r"\g<reason>", said)


def _without_repetition(texts: Sequence[str]) -> list[str]:
    """Return texts in their order, without those that another one has in it."""
    chosen = list(dict.fromkeys(texts))
    return [text for text in chosen if not any(text != other and text in other for other in chosen)]


def _log(trt: Any) -> Any:
    """Return a logger that keeps errors, warnings and the list of layers; the class is of the library's own kind."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self.layers = ""
            self._noise: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity.name in {"ERROR", "INTERNAL_ERROR"}:
                (self._noise if _NOISE.search(text) else self.errors).append(_reason(text))
            elif severity.name == "WARNING":
                self.warnings.append(text)
            elif text.startswith(LAYERS):
                self.layers = text

        def reasons(self) -> str:
            """Say all errors; that there is no driver only where nothing else was said."""
            return "; ".join(_without_repetition(self.errors or self._noise[-1:]))

    return Log()


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
