"""Real paired gates on this machine: of the same thing twice, and of a head that is slower by a known share.

    python benchmarks/gate_real.py aa --total 20          # the same on both sides: none may be REGRESSED
    python benchmarks/gate_real.py slower --percent 5 --total 30
    python benchmarks/gate_real.py slower --percent 10 --total 30
    python benchmarks/gate_real.py summary

Each gate is the shipped one, of a small VGG in ONNX Runtime on one pinned core, in two Python environments made for it.
In the slower one each request is followed by busy waiting for that share of the time it took: a file of that
environment's own wraps the backend's `enqueue`, and the same file with a share of 0 is in the base. What a gate found
is appended to a log (benchmarks/gate_real.csv), so that it grows: `--total` counts what is there of this kind.
"""

import argparse
import csv
import sys
import tempfile
import time
import venv
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median

from vggbench.cli.progress import say
from vggbench.environment import device_name
from vggbench.environment.software import source_commit
from vggbench.gate.choice import BothSides
from vggbench.gate.environments import look, own_source, starters
from vggbench.gate.paired import new_gate, start_gate
from vggbench.gate.records import Rule
from vggbench.plan import find_cells, selection
from vggbench.runner import Places, Silent

NETWORK = {
    "config": ["32,M,64,M,128,128,M,256,256,M,256,256,M"],
    "input_size": 64,
    "classifier_width": 512,
    "num_classes": 10,
    "backend": ["onnxruntime"],
    "precision": ["fp32"],
}
COLUMNS = (
    *("started_at", "kind", "slower_percent", "seed", "verdict", "ratio", "low", "high", "mde90", "rounds", "seconds"),
    *("base_ms", "head_ms", "reasons", "machine", "python", "onnxruntime", "vggbench", "commit"),
)
VERDICTS = ("REGRESSED", "PASS", "INCONCLUSIVE", "IMPROVED", "INVALID")

# Wraps the backend in the environment whose file this is: no part of vggbench knows of it.
SLOWED = """
import importlib.abc, importlib.util, sys, time
SHARE = {share}
NAME = "vggbench.backends.onnxruntime"

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != NAME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            slow(module.OnnxRuntimeSession)
        spec.loader.exec_module = exec_module
        return spec

def slow(session):
    enqueue, clock = session.enqueue, time.perf_counter_ns
    def slowed(self, slot):
        start = clock()
        enqueue(self, slot)
        now = clock()
        end = now + SHARE * (now - start)
        while clock() < end:
            pass
    session.enqueue = slowed

sys.meta_path.insert(0, Finder())
"""


class Watch(Silent):
    """Says nothing but that cells are confirmed."""

    def confirming(self, cells: int) -> None:
        say(f"  {cells} to be confirmed")


def environment(folder: Path, share: float) -> str:
    """Make an environment that has what this one has, and whose requests are slower by a share."""
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    found = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "slowed_requests.py").write_text(SLOWED.format(share=share))
    (packages / "slowed.pth").write_text("\n".join([*found, "import slowed_requests"]) + "\n")
    return str(folder)


def one_gate(kind: str, percent: float, seed: int, exports: Path) -> dict[str, object]:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vggbench-real-") as name, own_source() as variables:
        folder = Path(name)
        places = {"base": environment(folder / "base", 0.0), "head": environment(folder / "head", percent / 100)}
        sides = {side: look(side, place) for side, place in places.items()}
        started = starters(sides, variables)
        cells, versions = find_cells([selection(NETWORK)], device="cpu", threads=1, probe=BothSides(started))
        info = new_gate(cells, sides, {}, Rule(), seed=seed)
        run = Places(folder=folder / "gate", exports=exports)
        report = start_gate(info, run, started, Watch())
    (found,) = report.verdicts
    figures = {name: getattr(found, name) for name in ("ratio", "low", "high", "mde90", "base_ms", "head_ms")}
    return {
        "started_at": info.started_at,
        "kind": kind,
        "slower_percent": percent,
        "seed": seed,
        "verdict": found.verdict,
        **{name: "" if value is None else f"{value:.6g}" for name, value in figures.items()},
        "rounds": found.rounds,
        "seconds": f"{time.monotonic() - start:.1f}",
        "reasons": "; ".join(found.reasons),
        "machine": device_name("cpu"),
        "python": sides["base"].version,
        "onnxruntime": versions["onnxruntime"],
        "vggbench": info.vggbench_version,
        "commit": source_commit() or "",
    }


def read_log(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, row: dict[str, object]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def of_kind(log: list[dict[str, str]], kind: str, percent: float) -> list[dict[str, str]]:
    return [row for row in log if row["kind"] == kind and float(row["slower_percent"]) == percent]


def measure(options: argparse.Namespace) -> None:
    percent = options.percent if options.kind == "slower" else 0.0
    while (done := len(of_kind(read_log(options.log), options.kind, percent))) < options.total:
        row = one_gate(options.kind, percent, int(datetime.now(UTC).timestamp()), options.exports)
        append(options.log, row)
        found = f"{row['verdict']} {row['ratio']} ({row['low']} to {row['high']}) {row['reasons']}"
        say(f"[{done + 1}/{options.total}] {found}")


def summary(log: list[dict[str, str]]) -> None:
    headings = ("truth", "gates", *VERDICTS, "mean ratio", "bias, points", "covers", "median s")
    print(f"| {' | '.join(headings)} |")
    print("| --- " * len(headings) + "|")
    for kind, percent in sorted({(row["kind"], float(row["slower_percent"])) for row in log}, key=lambda key: key[1]):
        rows = of_kind(log, kind, percent)
        truth = 1 + percent / 100
        judged = [row for row in rows if row["ratio"]]
        counts = " | ".join(str(sum(row["verdict"] == name for row in rows)) for name in VERDICTS)
        covers = sum(float(row["low"]) <= truth <= float(row["high"]) for row in judged if row["low"])
        ratio = mean(float(row["ratio"]) for row in judged) if judged else float("nan")
        print(
            f"| {truth:.2f} | {len(rows)} | {counts} | {ratio:.4f} | {100 * (ratio - truth):+.2f} "
            f"| {covers} of {len(judged)} | {median(float(row['seconds']) for row in rows):.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("aa", "slower", "summary"))
    parser.add_argument("--percent", type=float, default=5.0)
    parser.add_argument("--total", type=int, default=20)
    parser.add_argument("--exports", type=Path, default=Path("exports"))
    parser.add_argument("--log", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    if options.kind != "summary":
        measure(options)
    summary(read_log(options.log))


if __name__ == "__main__":
    main()
