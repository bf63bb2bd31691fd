"""Does the harness measure what a bare loop measures? Ratio of the two, paired, with its interval.

    python benchmarks/harness_truth.py [--rounds 12] [--variant vgg16_bn] [--output FILE.json]

A round starts two fresh processes on the same ONNX file: the harness's worker and `bare_loop.py`, the one first in even
rounds, the other in odd ones. They take turns on the same cores in short blocks, in an order drawn at random for each
pair; the first iteration of a block is dropped, because the other side has emptied the caches. A round's figure is the
median over its pairs of the ratio of the two blocks' medians: what disturbs the machine for longer than a pair takes
slows both. Over rounds, the Hodges-Lehmann estimate of the log ratio with its exact signed-rank interval. OpenVINO's
own `benchmark_app` runs once a round, after the pair and alone on the machine, so its ratio is paired by round only.
"""

import argparse
import json
import math
import random
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np

from vggbench.environment import collect, default_threads
from vggbench.measure.client import WorkerClient
from vggbench.measure.request import RoundRequest
from vggbench.plan import Pace, find_cells, selection
from vggbench.preparation import Materials, materials, request_for
from vggbench.stats import hodges_lehmann, signed_rank_interval

PAIRS = 7  # block pairs a round
ITERATIONS = 5  # a block; the first is dropped
REST_S = 0.05  # idle thread pools of the other side stop spinning within it
BACKENDS = ("onnxruntime", "openvino")


class BareLoop:
    """The process of `bare_loop.py`."""

    def __init__(self, backend: str, found: Materials, threads: int, stack: ExitStack) -> None:
        images = Path(tempfile.gettempdir()) / f"bare-loop-{found.reference.sha256[:12]}.npy"
        with np.load(found.reference.path) as arrays:
            np.save(images, arrays["inputs"])
        script = Path(__file__).with_name("bare_loop.py")
        command = [sys.executable, str(script), backend, str(found.artefact.path), str(threads), str(images)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(self._close)
        assert self._process.stdout.readline() == "ready\n", "the bare loop did not start"

    def block(self) -> list[int]:
        self._process.stdin.write(f"{ITERATIONS}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def _close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def harness_block(worker: WorkerClient) -> list[int]:
    return worker.call("block", kind="compute", seconds=0.0, least_samples=ITERATIONS)["samples_ns"]


def ready_worker(request: RoundRequest, found: Materials, stack: ExitStack) -> WorkerClient:
    """Return a worker whose session is verified and warm."""
    worker = stack.enter_context(WorkerClient(timeout_s=300.0))
    worker.call("open", **request.opening(1), pinned=False)  # nor is the bare loop
    worker.call("evidence")
    verdict = worker.call("verify", tolerance=found.tolerance)
    assert verdict["passed"], verdict["reasons"]
    worker.call("warm", least_s=0.5, most_s=3.0)
    return worker


def one_round(cell, found: Materials, number: int) -> dict[str, float]:
    """Return the medians (ms) of both sides in one round, and the median ratio of its pairs."""
    request = request_for(cell, found, number, in_flight=1, seconds=1.0, seed=number, timeout_s=300.0)
    order = random.Random(f"{cell.id}/{number}")
    blocks: dict[str, list[float]] = {"harness": [], "bare": []}
    with ExitStack() as stack:
        # Whichever process starts first is the slower one by about 1 %, so they take turns in that too.
        bare = BareLoop(cell.backend, found, cell.threads, stack) if number % 2 else None
        worker = ready_worker(request, found, stack)
        bare = bare or BareLoop(cell.backend, found, cell.threads, stack)
        sides = {"harness": lambda: harness_block(worker), "bare": bare.block}
        for _ in range(PAIRS):
            for side in order.sample(sorted(sides), 2):
                time.sleep(REST_S)
                blocks[side].append(median(sides[side]()[1:]) / 1e6)
    ratios = [harness / bare for harness, bare in zip(blocks["harness"], blocks["bare"], strict=True)]
    return {side: median(values) for side, values in blocks.items()} | {"ratio": median(ratios)}


def benchmark_app(found: Materials, threads: int) -> float:
    """Return the median latency (ms) that OpenVINO's own tool prints."""
    command = [
        str(Path(sys.executable).with_name("benchmark_app")),
        # Its rule: threads and streams by hand only without a hint; one stream is what the latency hint means.
        *("-m", str(found.artefact.path), "-d", "CPU", "-hint", "none", "-api", "sync", "-t", "3"),
        *("-shape", "input[1,3,224,224]", "-infer_precision", "f32", "-nthreads", str(threads), "-nstreams", "1"),
    ]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(re.search(r"Median:\s+([\d.]+) ms", output).group(1))


def summarise(name: str, rounds: list[dict[str, float]], against: str) -> dict[str, object]:
    """Return the ratio harness / other with its 95 % interval."""
    paired = against == "bare"
    logs = [math.log(values["ratio"] if paired else values["harness"] / values[against]) for values in rounds]
    low, high = signed_rank_interval(logs)
    return {
        "backend": name,
        "against": against,
        "rounds": len(rounds),
        "harness_ms": median(values["harness"] for values in rounds),
        "other_ms": median(values[against] for values in rounds),
        "ratio": math.exp(hodges_lehmann(logs)),
        "low": math.exp(low),
        "high": math.exp(high),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--variant", default="vgg16_bn")
    parser.add_argument("--exports", type=Path, default=Path("exports"))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    asked = selection({"variant": [options.variant], "backend": list(BACKENDS), "precision": ["fp32"]})
    cells, _ = find_cells([asked], device="cpu", threads=default_threads())
    cells = Pace().plan(cells).cells
    found = {cell.backend: materials(cell, options.exports) for cell in cells}
    rounds: dict[str, list[dict[str, float]]] = {cell.backend: [] for cell in cells}
    for number in range(options.rounds):
        for cell in cells:
            values = one_round(cell, found[cell.backend], number)
            if cell.backend == "openvino":
                values["benchmark_app"] = benchmark_app(found[cell.backend], cell.threads)
            rounds[cell.backend].append(values)
            print(f"round {number + 1} {cell.backend}: {values}", file=sys.stderr, flush=True)
    table = [summarise(name, values, "bare") for name, values in rounds.items()]
    table.append(summarise("openvino", rounds["openvino"], "benchmark_app"))
    print("| backend | against | rounds | harness ms | other ms | ratio | 95 % interval |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in table:
        print(
            f"| {row['backend']} | {row['against']} | {row['rounds']} | {row['harness_ms']:.1f} "
            f"| {row['other_ms']:.1f} | {row['ratio']:.4f} | {row['low']:.4f} to {row['high']:.4f} |"
        )
    if options.output:
        kept = {"environment": collect().to_json(), "rounds": rounds, "table": table}
        options.output.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
