"""`vggbench list`: every network that has a name, with its facts.

Imports no torch: the facts are declared in `models.configs`.
"""

from __future__ import annotations

import json
from typing import Any

from vggbench.cli.options import JsonOption
from vggbench.cli.tables import plain_table, print_table
from vggbench.models.configs import ALIASES, VARIANTS, Variant

_LETTERS = (
    "Letters are the columns of the paper's table 1 and work as names. "
    'One widespread tutorial calls the paper\'s A, B, D, E "A, B, C, D".'
)


def list_variants(json_output: JsonOption = False) -> None:
    """List every variant, with its parameters and MACs."""
    if json_output:
        print(json.dumps([_record(variant) for variant in VARIANTS.values()], indent=2))
    else:
        _print_table()


def _record(variant: Variant) -> dict[str, Any]:
    return {
        "name": variant.name,
        "paper_name": variant.paper_name,
        "aliases": [alias for alias, name in ALIASES.items() if name == variant.name],
        "weight_layers": variant.weight_layers,
        "parameters": variant.parameters,
        "gmacs": variant.macs / 1e9,
        "input_size": variant.input_size,
        "num_classes": variant.num_classes,
        "batch_norm": variant.batch_norm,
        "local_response_norm": variant.local_response_norm,
        "head": variant.head,
        "configuration": variant.configuration,
    }


def _print_table() -> None:
    table = plain_table(caption=_LETTERS)
    table.add_column("name")
    table.add_column("paper")
    for heading in ("weight layers", "parameters", "GMACs", "input", "classes"):
        table.add_column(heading, justify="right")
    for variant in VARIANTS.values():
        table.add_row(
            variant.name,
            variant.paper_name,
            str(variant.weight_layers),
            f"{variant.parameters:,}",
            f"{variant.macs / 1e9:.3f}",
            str(variant.input_size),
            str(variant.num_classes),
        )
    print_table(table)
