"""What does pinning buy? The same cell pinned and left to the scheduler, in interleaved rounds of fresh processes.

    python benchmarks/pinning.py [--rounds 8] [--seconds 0.6] [--threads 1 2] [--output FILE.json]

A round starts, for each backend and number of threads, one worker that is pinned as every worker of a run is, and one
that is not, in an order drawn at random; they run one after the other. A round's figure is the median of its compute
blocks' medians. Spread is the quartile coefficient of these figures over rounds, (Q3 - Q1) / (Q3 + Q1); the ratio is
pinned over free within a round: its Hodges-Lehmann estimate with the exact signed-rank interval. What else went on is
in the last column: the CPU time that other processes had on the worker's cores.
"""

import argparse
import json
import math
import random
import sys
from pathlib import Path
from statistics import median, quantiles

from vggbench.environment import collect
from vggbench.measure.client import WorkerClient
from vggbench.measure.conditions import Conditions
from vggbench.measure.disturbance import sum_up
from vggbench.measure.request import RoundRequest
from vggbench.plan import Cell, Pace, find_cells, selection
from vggbench.preparation import Materials, materials, request_for
from vggbench.stats import hodges_lehmann, signed_rank_interval

BACKENDS = ("torch", "onnxruntime", "openvino")
BLOCKS = 3  # the fewest whose median ignores one disturbed block
SIDES = ("pinned", "free")


def request_of(cell: Cell, found: Materials, number: int, seconds: float) -> RoundRequest:
    return request_for(cell, found, number, in_flight=1, seconds=seconds, seed=number, timeout_s=300.0)


def one_process(request: RoundRequest, *, pinned: bool, seconds: float) -> tuple[float, list[dict]]:
    """Return a fresh worker's latency (ms) and the conditions of its blocks."""
    with WorkerClient(timeout_s=300.0) as worker:
        opened = worker.call("open", **request.opening(1), pinned=pinned)
        assert (opened["pinned_cpus"] is not None) == pinned, "this system cannot pin"
        verdict = worker.call("verify", tolerance=request.tolerance)
        assert verdict["passed"], verdict["reasons"]
        worker.call("warm", least_s=0.3, most_s=2.0)
        blocks = [
            worker.call("block", kind="compute", seconds=seconds / BLOCKS, least_samples=3) for _ in range(BLOCKS)
        ]
    return median(median(block["samples_ns"]) for block in blocks) / 1e6, [block["conditions"] for block in blocks]


def spread_percent(values: list[float]) -> float:
    first, _, third = quantiles(values, n=4)
    return 100 * (third - first) / (third + first)


def summarise(cell: Cell, figures: dict[str, list[float]], conditions: list[dict]) -> dict[str, object]:
    logs = [math.log(pinned / free) for pinned, free in zip(figures["pinned"], figures["free"], strict=True)]
    low, high = signed_rank_interval(logs) or (math.nan, math.nan)
    return {
        "backend": cell.backend,
        "threads": cell.threads,
        "rounds": len(logs),
        **{f"{side}_ms": median(figures[side]) for side in SIDES},
        **{f"{side}_spread_percent": spread_percent(figures[side]) for side in SIDES},
        "ratio": math.exp(hodges_lehmann(logs)),
        "low": math.exp(low),
        "high": math.exp(high),
        "other_cpu_percent": sum_up([Conditions(**{**block, "gpu": None}) for block in conditions]).other_cpu_percent,
    }


def find(options: argparse.Namespace) -> list[tuple[Cell, Materials]]:
    asked = selection({"variant": [options.variant], "backend": options.backend, "precision": ["fp32"]})
    cells = [
        cell
        for threads in options.threads
        for cell in Pace().plan(find_cells([asked], device="cpu", threads=threads)[0]).cells
    ]
    return [(cell, materials(cell, options.exports)) for cell in cells]


def print_table(table: list[dict[str, object]]) -> None:
    print("| backend | threads | rounds | pinned ms | free ms | pinned spread | free spread | ratio | 95 % | others |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in table:
        print(
            f"| {row['backend']} | {row['threads']} | {row['rounds']} | {row['pinned_ms']:.1f} | {row['free_ms']:.1f} "
            f"| {row['pinned_spread_percent']:.1f} % | {row['free_spread_percent']:.1f} % | {row['ratio']:.3f} "
            f"| {row['low']:.3f} to {row['high']:.3f} | {row['other_cpu_percent']:.0f} % |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.6, help="of compute blocks, in each process")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--backend", nargs="+", default=list(BACKENDS))
    parser.add_argument("--variant", default="vgg16_cifar")
    parser.add_argument("--exports", type=Path, default=Path("exports"))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    found = find(options)
    figures = [{side: [] for side in SIDES} for _ in found]
    conditions: list[list[dict]] = [[] for _ in found]
    for number in range(options.rounds):
        order = [(place, side) for place in range(len(found)) for side in SIDES]
        random.Random(number).shuffle(order)
        for place, side in order:
            request = request_of(*found[place], number, options.seconds)
            value, seen = one_process(request, pinned=side == "pinned", seconds=options.seconds)
            figures[place][side].append(value)
            conditions[place] += seen
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    table = [summarise(cell, *measured) for (cell, _), *measured in zip(found, figures, conditions, strict=True)]
    print_table(table)
    if options.output:
        kept = {"environment": collect().to_json(), "figures": figures, "table": table}
        options.output.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
