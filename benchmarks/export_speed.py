"""How long does it take to get VGG-16 onto the disk, against `torch.onnx.export` as one would write it by hand?

    python benchmarks/export_speed.py [--pairs 8] [--variant vgg16] [--place exports] [--output FILE.json]

A pair is one whole process of each, on an empty folder, the one first in even pairs, the other in odd ones: a script
that builds torchvision's network and exports it, and `vggbench export`, which draws the weights, writes them as a file
of their own too, hashes and checks everything, and waits for the disk. A third process asks `vggbench export` again for
what is there by then. Times are the wall's, from the start of a process to its end; memory is the highest resident set
that the system saw. Over pairs, the Hodges-Lehmann estimate of the log ratio with its exact signed-rank interval.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from vggbench.environment import collect
from vggbench.models.layers import totals, walk
from vggbench.models.spec import make_spec
from vggbench.stats import hodges_lehmann, signed_rank_interval

BY_HAND = """
import sys
import torch
import torchvision

network = torchvision.models.get_model(sys.argv[1]).eval()
torch.onnx.export(
    network,
    (torch.zeros(1, 3, 224, 224),),
    sys.argv[2],
    dynamo=True,
    external_data=True,
    input_names=["input"],
    output_names=["logits"],
    dynamic_shapes=({0: torch.export.Dim("batch")},),
)
"""
MIB = 2**20


def process(command: list[str]) -> dict[str, float]:
    """Return the wall time (s), processor time (s) and highest resident set (MiB) of a process; it has to succeed."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        said = running.stderr.read().decode()
        _, status, used = os.wait4(running.pid, 0)
        seconds = time.perf_counter() - start
        running.returncode = os.waitstatus_to_exitcode(status)
    assert running.returncode == 0, said
    # Linux counts in KiB.
    return {"wall_s": seconds, "cpu_s": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}


def one_pair(variant: str, place: Path, number: int) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="export-speed-", dir=place) as folder:
        exports = Path(folder) / "exports"
        ours = [sys.executable, "-m", "vggbench", "export", "--variant", variant, "--exports", str(exports)]
        by_hand = [sys.executable, "-c", BY_HAND, variant, str(Path(folder) / "by-hand.onnx")]
        sides = {"by_hand": by_hand, "ours": ours}
        order = sorted(sides, reverse=bool(number % 2))
        found = {side: process(sides[side]) for side in order}
        return found | {"again": process(ours)}


def ratio(pairs: list[dict[str, dict[str, float]]], upper: str, lower: str) -> str:
    logs = [math.log(pair[upper]["wall_s"] / pair[lower]["wall_s"]) for pair in pairs]
    interval = signed_rank_interval(logs)
    doubt = f"{math.exp(interval[0]):.3f} to {math.exp(interval[1]):.3f}" if interval else "fewer than 6 pairs"
    return f"{math.exp(hodges_lehmann(logs)):.3f} | {doubt}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--variant", default="vgg16", help="one that torchvision has")
    parser.add_argument("--place", type=Path, default=Path("exports"), help="on the disk to be written to")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    weights_mib = totals(walk(make_spec(options.variant))).weight_bytes / MIB
    torch_mib = min(process([sys.executable, "-c", "import torch"])["peak_mib"] for _ in range(2))
    pairs = []
    for number in range(options.pairs):
        pairs.append(one_pair(options.variant, options.place, number))
        shown = {side: f"{found['wall_s']:.2f} s" for side, found in pairs[-1].items()}
        print(f"pair {number + 1}: {shown}", file=sys.stderr, flush=True)
    print("| what | wall s | processor s | peak MiB | above torch, in weights | wall against by hand | 95 % interval |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for side, name in (("by_hand", "by hand"), ("ours", "vggbench export"), ("again", "the same again")):
        wall, cpu, peak = (median(pair[side][key] for pair in pairs) for key in ("wall_s", "cpu_s", "peak_mib"))
        against = " | " if side == "by_hand" else ratio(pairs, side, "by_hand")
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {peak:.0f} | {(peak - torch_mib) / weights_mib:.2f} | {against} |")
    if options.output:
        options.output.write_text(json.dumps({"environment": collect().to_json(), "pairs": pairs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
