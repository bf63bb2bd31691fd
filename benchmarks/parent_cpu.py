"""How much of a core the parent takes while its child measures, in percent.

    python benchmarks/parent_cpu.py [--rounds 3] [--round-seconds 20] [--json]

Measures a network of some ten milliseconds with PyTorch as `vggbench run` does: workers, journal, and on stderr a live
bar if that is a terminal, else plain lines. The parent's own CPU time, of all its threads, and the time on the wall are
read before a round's worker starts and after its record has come back. Children do not count, nor what is done before
the first round and after the last.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from vggbench.cli.progress import progress
from vggbench.environment import default_threads
from vggbench.measure.records import RoundRecord
from vggbench.measure.request import RoundRequest
from vggbench.measure.rounds import run_round
from vggbench.plan import Pace, find_cells, selection
from vggbench.runner import Places, start_run

NETWORK = {"variant": ["vgg11"], "input_size": 64, "classifier_width": 256, "num_classes": 10}


class Watched:
    """Runs rounds and adds up what they cost this process."""

    def __init__(self) -> None:
        self.cpu_s, self.wall_s = 0.0, 0.0

    def __call__(self, request: RoundRequest) -> RoundRecord:
        cpu, wall = time.process_time(), time.monotonic()
        record = run_round(request)
        self.cpu_s += time.process_time() - cpu
        self.wall_s += time.monotonic() - wall
        return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--round-seconds", type=float, default=20.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    asked = selection({**NETWORK, "backend": ["torch"], "precision": ["fp32"]})
    cells, versions = find_cells([asked], device="cpu", threads=default_threads())
    pace = Pace(rounds=options.rounds, time_budget_s=options.rounds * options.round_seconds)
    watched = Watched()
    with tempfile.TemporaryDirectory() as folder, progress() as observer:
        places = Places(folder=Path(folder, "run"), exports=Path(folder, "exports"))
        start_run(pace.plan(cells), places, backend_versions=versions, observer=observer, execute=watched)
    found = {"cpu_s": watched.cpu_s, "wall_s": watched.wall_s, "percent": 100 * watched.cpu_s / watched.wall_s}
    if options.json:
        print(json.dumps(found))
    else:
        print(
            "the parent used {cpu_s:.3f} s of CPU in {wall_s:.1f} s of rounds: {percent:.2f} % of a core".format(
                **found
            )
        )


if __name__ == "__main__":
    main()
