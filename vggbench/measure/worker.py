"""The process that opens one backend, verifies it and times it, told what to do line by line.

Run as `python -m vggbench.measure.worker`. It imports the standard library, numpy and the backend it is asked for, so
that it also works in an environment that has nothing else. One JSON object a line each way: a command in, an answer
out. What libraries print goes to stderr, never between the answers. It ends when its input does, or its parent.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact, check_files, file_sha256
from vggbench.artefacts.child_process import die_with_parent, own_answers
from vggbench.backends.base import Session, Unavailable
from vggbench.backends.registry import find_backend
from vggbench.environment.cpu import affinity
from vggbench.errors import ArtefactError
from vggbench.measure.clock import clock_of, device_of, settle_of
from vggbench.measure.conditions import observed
from vggbench.measure.device_latency import copy_in_block, copy_out_block, event_block
from vggbench.measure.device_memory import DeviceMemory
from vggbench.measure.images import arrangements, ring, ring_order, variety
from vggbench.measure.kernels import make_kernel, repeat
from vggbench.measure.latency import Block, Ring, compute_block, end_to_end_block
from vggbench.measure.memory import tree_peak_memory
from vggbench.measure.pinning import pin_process
from vggbench.measure.predicting import likeliest
from vggbench.measure.profiling import profile_requests
from vggbench.measure.resting import rest
from vggbench.measure.stopping import Enough, Steady, StoppingRule
from vggbench.measure.throughput import throughput_block
from vggbench.parity.check import check, check_each

PROTOCOL = 1


class Worker:
    """One session at a time, and the commands on it; each returns plain data."""

    def __init__(self, own_cpus: frozenset[int] | None = None) -> None:
        """Take the CPUs among which this process may be pinned; without them its threads are left where they run."""
        self._own_cpus = own_cpus
        self._device = ""
        self._session: Session | None = None
        self._inputs = np.empty((0, 3, 1, 1), dtype=np.float32)
        self._logits = np.empty((0, 0))
        self._exact: NDArray[np.float64] | None = None
        self._seed = 0
        self._ring: Ring = []
        self._ring_order: list[NDArray[np.intp]] = []
        self._tolerance: float | None = None
        self._checked: object = None
        self._artefact_sha256 = ""
        self._verification_ns: list[int] = []
        self._memory = DeviceMemory()
        self._import_s: dict[str, float] = {}  # by backend: it is imported once, however many cells are measured here

    @property
    def session(self) -> Session:
        """The open session."""
        if self._session is None:
            raise RuntimeError("no session is open")
        return self._session

    def probe(self, backend: str, device: str, precisions: list[str]) -> dict[str, Any]:
        """Import the backend's library; say its version, or why not, and which precisions it runs natively."""
        found = find_backend(backend)
        state = found.availability(device)
        if isinstance(state, Unavailable):
            return {"available": False, "version": "", "reason": state.reason, "remedy": state.remedy, "precisions": {}}
        supports = {precision: found.supports(precision, device) for precision in precisions}
        reasons = {precision: "" if support.supported else support.reason for precision, support in supports.items()}
        return {"available": True, "version": state.version, "reason": "", "remedy": "", "precisions": reasons}

    def open(
        self,
        *,
        backend: str,
        artefact: dict[str, Any],
        reference: str,
        reference_sha256: str,
        seed: int,
        pinned: bool = True,
        **opening: Any,
    ) -> dict[str, Any]:
        """Check the files, open a session on them and time its first request.

        The process is pinned to as many CPUs as it gets threads, before the library is imported.
        """
        self.close()
        if opening["in_flight"] == 1:  # another cell's, or its next round
            self._memory = DeviceMemory()
        cpus = self._pin(opening["threads"]) if pinned else None
        self._device = opening["device"]
        files = Artefact.from_json(artefact)
        self._check_once(files)
        self._load_reference(Path(reference), reference_sha256)
        start = time.perf_counter()
        found = find_backend(backend)
        state = found.availability(opening["device"])
        if isinstance(state, Unavailable):
            raise RuntimeError(f"{state.reason}; {state.remedy}")
        imported = time.perf_counter()
        self._session = found.open(files, **opening)
        loaded = time.perf_counter()
        self._seed = seed
        self._tolerance = None
        self._artefact_sha256 = files.sha256
        self._verification_ns = []
        self._ring_order = ring_order(self._inputs, opening["batch_size"], seed)
        device = device_of(self._session)
        batches = ring(self._inputs, self._ring_order)
        self._ring = device.pin(batches) if device else batches
        compilation = self._session.compilation
        return {
            "backend_version": state.version,
            "import_s": self._import_s.setdefault(backend, imported - start),
            "load_s": loaded - imported - (compilation.seconds if compilation else 0.0),
            "compile_s": compilation.seconds if compilation else None,
            "compile_cached": compilation.cached if compilation else None,
            "first_inference_ns": self._first_request(),
            "timeline": self._session.timeline,
            "artefact_sha256": self._artefact_sha256,
            "pinned_cpus": cpus,
            "inputs": variety(self._ring),
        }

    def _pin(self, threads: int) -> tuple[int, ...] | None:
        return pin_process(self._own_cpus, threads) if self._own_cpus else None

    def _check_once(self, files: Artefact) -> None:
        """Hash the files before they are first opened; the second session of a round opens what was just checked.

        Unless it was written since: a file's times and place on the disk tell that, without reading it again.
        """
        found = (files, _stamps(files))
        if found != self._checked:
            check_files(files)
            self._checked = found

    def _load_reference(self, path: Path, sha256: str) -> None:
        found = file_sha256(path)
        if found != sha256:
            raise ArtefactError(
                f"{path}: SHA-256 is {found[:12]}..., the reference that the run was planned with has {sha256[:12]}..."
            )
        with np.load(path, allow_pickle=False) as arrays:
            self._inputs, self._logits = arrays["inputs"], arrays["logits"]
            self._exact = arrays.get("exact_logits")

    def _first_request(self) -> int:
        return self._request_ns(0, self._ring[0])

    def _request_ns(self, slot: int, batch: NDArray[np.float32]) -> int:
        """Run a request on an input staged beforehand; return what it took by the host's clock, or the script's."""
        clock = clock_of(self.session)
        self.session.stage(slot, batch)
        settle_of(self.session)(slot)
        start = clock()
        self.session.enqueue(slot)
        self.session.wait(slot)
        return clock() - start

    def ceiling(
        self, *, library: str, kernel: str, precision: str, device: str, threads: int, seconds: float
    ) -> dict[str, Any]:
        """Repeat one kernel of a library; no session is needed. Returns its work (FLOPs, bytes) and the times."""
        self._pin(threads)
        made = make_kernel(library, kernel, precision, device, threads)
        return {"work": made.work, "samples_ns": repeat(made, seconds)}

    def evidence(self) -> dict[str, Any]:
        """Return what really ran."""
        return asdict(self.session.evidence())

    def verify(self, *, tolerance: float, outputs: str = "") -> dict[str, Any]:
        """Compare every output of the open session, each slot taking its share, with the reference.

        They are written to the file `outputs` (.npy), if it is named: a row for each of the reference's images.
        """
        shares = self._shares()
        self._verification_ns = []
        if len(shares) == 1:  # in the thread that is timed afterwards: libraries keep thread pools per calling thread
            parts = [self._outputs(0, shares[0])]
        else:
            with ThreadPoolExecutor(len(shares)) as pool:
                parts = list(pool.map(self._outputs, range(len(shares)), shares))
        observed = np.concatenate([output for part in parts for output in part])
        order = np.concatenate([indices for share in shares for indices in share])
        self._tolerance = tolerance
        if outputs:
            np.save(outputs, observed[[np.flatnonzero(order == image)[0] for image in range(len(self._inputs))]])
        verdict = check(observed, self._logits, tolerance, order, self._exact)
        would_pass = verdict.metrics.passing_tolerance if verdict.metrics else None
        return {**asdict(verdict), "passing_tolerance": would_pass, "artefact_sha256": self._artefact_sha256}

    def _shares(self) -> list[list[NDArray[np.intp]]]:
        """Return for each slot the batches, as indices of images, that it is verified on: together every image."""
        batch_size, slots = self.session.input_spec.shape[0], self.session.slots
        order: list[NDArray[np.intp]] = []
        while len(order) < slots:
            order += arrangements(len(self._inputs), batch_size, self._seed + len(order))
        return [order[slot::slots] for slot in range(slots)]

    def _outputs(self, slot: int, share: list[NDArray[np.intp]]) -> list[NDArray[np.float32]]:
        outputs = []
        for indices in share:
            self._verification_ns.append(self._request_ns(slot, np.ascontiguousarray(self._inputs[indices])))
            outputs.append(self.session.fetch(slot))
        return outputs

    def warm(self, *, least_s: float, most_s: float) -> dict[str, Any]:
        """Run requests until their times settle; those of the verification, in the same session, count as the first."""
        rule = Steady(least_s=least_s, most_s=most_s)
        for sample in self._verification_ns:
            rule.add(sample)
        block = self._timed(lambda: compute_block(self.session, self._ring, rule, kind="warmup"))
        return _plain(replace(block, samples_ns=(*self._verification_ns, *block.samples_ns)))

    def block(self, *, kind: str, seconds: float, least_samples: int = 1, wanted_samples: int = 0) -> dict[str, Any]:
        """Time one block: of a kind that `Block` has."""
        if kind == "throughput":
            return _plain(self._timed(lambda: throughput_block(self.session, self._ring, seconds=seconds)))
        timers: dict[str, Callable[[Session, Ring, StoppingRule], Block]] = {
            "compute": event_block if self.session.timeline == "cuda" else compute_block,
            "host": partial(compute_block, kind="host"),
            "end_to_end": end_to_end_block,
            "copy_in": copy_in_block,
            "copy_out": copy_out_block,
        }
        rule = Enough(least_s=seconds, least_samples=least_samples, wanted_samples=wanted_samples)
        return _plain(self._timed(lambda: timers[kind](self.session, self._ring, rule)))

    def _timed(self, measure: Callable[[], Block]) -> Block:
        """Measure a block, note what else went on meanwhile, and look at the outputs that it ended with."""
        if self.session.timeline == "scripted":  # beside a script's time nothing goes on
            block = measure()
        else:
            with observed(self._device) as window:
                block = measure()
            block = replace(block, conditions=window.conditions)
        return replace(block, wrong=self._wrong_outputs(block))

    def _wrong_outputs(self, block: Block) -> str:
        """Say what is wrong with the logits of each slot's last request: they were timed, and nobody has asked yet."""
        if self._tolerance is None or not block.last_batches:
            return ""
        rows = [self.session.fetch(slot) for slot in range(len(block.last_batches))]
        images = [self._ring_order[batch] for batch in block.last_batches]
        return check_each(np.concatenate(rows), self._logits, self._tolerance, np.concatenate(images))

    def rest(self, *, most_s: float) -> dict[str, Any]:
        """Wait until the library's threads sleep; beside a script's time there is nothing to wait for."""
        return {"asleep": self.session.timeline == "scripted" or rest(most_s)}

    def predict(self, *, inputs: str) -> dict[str, Any]:
        """Say the likeliest classes of the images in a `.npy` file: fp32, as many as the session's batch has."""
        self.session.stage(0, np.load(inputs, allow_pickle=False))
        self.session.enqueue(0)
        self.session.wait(0)
        return likeliest(self.session.fetch(0))

    def start_profiling(self) -> dict[str, Any]:
        """Turn the open session into one that is profiled; `verify` it again."""
        self.session.start_profiling()
        return {}

    def profile(self, *, requests: int) -> dict[str, Any]:
        """Time every layer of so many requests."""
        return asdict(profile_requests(self.session, self._ring, requests))

    def close(self) -> dict[str, Any]:
        """Close the session, if one is open; return the peak memory of the process and its children, and the device's.

        That is of all sessions since the one that was opened with one request in flight.
        """
        if self._session is not None:
            self._memory.note(self._device, device_of(self._session))
            self._session.close()
            self._session = None
        return {"peak_memory_bytes": tree_peak_memory(), **asdict(self._memory)}


def _stamps(files: Artefact) -> list[tuple[int, ...]]:
    """Return what changes when a file is written or replaced; nothing of one that is missing."""
    paths = [Path(files.folder) / name for name in files.files]
    found = [path.stat() for path in paths if path.is_file()]
    return [(stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for stat in found]


def _plain(block: Block) -> dict[str, Any]:
    return asdict(block)


_COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "probe": Worker.probe,
    "ceiling": Worker.ceiling,
    "open": Worker.open,
    "evidence": Worker.evidence,
    "verify": Worker.verify,
    "warm": Worker.warm,
    "block": Worker.block,
    "rest": Worker.rest,
    "predict": Worker.predict,
    "start_profiling": Worker.start_profiling,
    "profile": Worker.profile,
    "close": Worker.close,
}


def answer(worker: Worker, line: str) -> dict[str, Any]:
    """Obey one command."""
    return obey({name: partial(method, worker) for name, method in _COMMANDS.items()}, line)


def obey(commands: Mapping[str, Callable[..., dict[str, Any]]], line: str) -> dict[str, Any]:
    """Obey one of the commands; whatever it raises becomes an answer, since this is the process's boundary."""
    command = "command"
    try:
        request = json.loads(line)
        command = request.pop("command")
        if command not in commands:
            raise ValueError(f"there is no command {command!r}; there are {', '.join(commands)}")
        return {"ok": True, "result": commands[command](**request)}
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - the one boundary where everything becomes a row
        return {"ok": False, "command": command, "kind": type(error).__name__, "message": _told(error)}


def _told(error: BaseException) -> str:
    """Return a message's first line, and those that it only leads to: `Exception from core.cpp:117:` says nothing."""
    lines = str(error).strip().splitlines() or ["memory ran out" if isinstance(error, MemoryError) else ""]
    last = next((number for number, line in enumerate(lines) if not line.rstrip().endswith(":")), len(lines) - 1)
    return " ".join(line.strip() for line in lines[: last + 1])


def serve(commands: IO[str], answers: IO[str], answer_line: Callable[[str], dict[str, Any]]) -> None:
    """Greet, then answer line by line until the input ends."""
    _send(answers, {"ok": True, "result": {"protocol": PROTOCOL, "pid": os.getpid(), "python": sys.version.split()[0]}})
    for line in commands:
        _send(answers, answer_line(line))


def _send(answers: IO[str], message: dict[str, Any]) -> None:
    answers.write(json.dumps(without_nonfinite(message)) + "\n")
    answers.flush()


def without_nonfinite(value: Any) -> Any:
    """Return the value with NaN and infinities as None: JSON has neither."""
    if isinstance(value, dict):
        return {key: without_nonfinite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main() -> None:
    """Answer as a worker."""
    worker = Worker(affinity())
    talk(lambda line: answer(worker, line))


def talk(answer_line: Callable[[str], dict[str, Any]]) -> None:
    """Take stdin and stdout for the protocol and leave libraries an empty stdin and stderr."""
    die_with_parent(int(sys.argv[1]))
    commands = os.fdopen(os.dup(0), encoding="utf-8")
    answers = own_answers()
    with open(os.devnull) as nothing:  # noqa: PTH123 - a device, not a path
        os.dup2(nothing.fileno(), 0)
    serve(commands, answers, answer_line)


if __name__ == "__main__":
    main()
