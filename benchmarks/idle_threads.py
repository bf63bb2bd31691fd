"""How long do a library's threads go on when there is nothing to do? CPU time of an idle worker after its last request.

    python benchmarks/idle_threads.py [--threads 2] [--exports exports]

A worker times blocks of a small network, and is then left alone; the CPU time that its threads have taken is read at
several moments after each block (Linux counts it in ns in /proc/PID/task/*/schedstat). The table has the largest of
three blocks. It is why a paired gate waits, after each block, until the worker's threads sleep.
"""

import argparse
import time
from pathlib import Path

from vggbench.measure.client import WorkerClient
from vggbench.plan import Cell, find_cells, selection
from vggbench.preparation import materials, request_for

NETWORK = "16,M,32,M,64,64,M,128,128,M,128,128,M"
MOMENTS_MS = (2, 5, 10, 20, 50, 200)
BLOCKS = 3


def cpu_ms(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


def after_block(worker: WorkerClient) -> list[float]:
    """Return the CPU time (ms) that was taken until each moment after a block."""
    worker.call("block", kind="compute", seconds=0.1, least_samples=8)
    start, before, taken = time.perf_counter(), cpu_ms(worker.pid), []
    for moment in MOMENTS_MS:
        time.sleep(max(0.0, start + moment / 1000 - time.perf_counter()))
        taken.append(cpu_ms(worker.pid) - before)
    return taken


def measure(cell: Cell, exports: Path) -> list[float]:
    request = request_for(cell, materials(cell, exports), 0, in_flight=1, seconds=1.0, seed=0, timeout_s=300.0)
    with WorkerClient(timeout_s=300.0) as worker:
        worker.call("open", **request.opening(1))
        worker.call("verify", tolerance=request.tolerance)
        blocks = [after_block(worker) for _ in range(BLOCKS)]
    return [max(values) for values in zip(*blocks, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--backend", nargs="+", default=["onnxruntime", "openvino", "torch"])
    parser.add_argument("--exports", type=Path, default=Path("exports"))
    options = parser.parse_args()
    asked = selection({"config": [NETWORK], "backend": options.backend, "precision": ["fp32"]})
    cells, _versions = find_cells([asked], device="cpu", threads=options.threads)
    print("| backend | threads |" + "".join(f" after {moment} ms |" for moment in MOMENTS_MS))
    print("| --- | --- |" + " --- |" * len(MOMENTS_MS))
    for cell in cells:
        taken = measure(cell, options.exports)
        print(f"| {cell.backend} | {cell.threads} |" + "".join(f" {value:.1f} |" for value in taken), flush=True)


if __name__ == "__main__":
    main()
