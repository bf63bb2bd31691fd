"""What is to be measured: selections from the command line or a TOML file, expanded into the cells of a plan.

No torch, no onnx, no backend's library.
"""

from vggbench.plan.cells import (
    DEFAULT_ROUND_SECONDS,
    DEFAULT_ROUNDS,
    GPU_BUDGET_S,
    GPU_ROUNDS,
    LARGEST_BATCH,
    LONGEST_BUDGET_S,
    MOST_REPLICAS,
    MOST_ROUNDS,
    Cell,
    Pace,
    Plan,
    format_options,
)
from vggbench.plan.expansion import expand, find_cells, parse_backend
from vggbench.plan.selections import DEFAULT_VARIANT, PlanFile, Selection, read_plan_file, selection

__all__ = [
    "DEFAULT_ROUNDS",
    "DEFAULT_ROUND_SECONDS",
    "DEFAULT_VARIANT",
    "GPU_BUDGET_S",
    "GPU_ROUNDS",
    "LARGEST_BATCH",
    "LONGEST_BUDGET_S",
    "MOST_REPLICAS",
    "MOST_ROUNDS",
    "Cell",
    "Pace",
    "Plan",
    "PlanFile",
    "Selection",
    "expand",
    "find_cells",
    "format_options",
    "parse_backend",
    "read_plan_file",
    "selection",
]
