"""Statistics of a row: where its figure lies, how sure that is, and whether its launches are alike at all.

The unit is the launch (a round: one fresh process), never the iteration. Pure numpy and the standard library: a job
that only compares two runs imports this, so no scipy, no pandas, no torch.
"""

from vggbench.stats.launches import Diagnosis, Sign, diagnose, is_bimodal, is_drifting, largest_unseen_share
from vggbench.stats.location import hodges_lehmann, median, quantile, signed_rank_interval
from vggbench.stats.percentiles import Percentile, percentiles, samples_needed
from vggbench.stats.proportions import PairedChange, wilson_interval
from vggbench.stats.spread import Spread, effective_sample_size, relative_spread, spread

__all__ = [
    "Diagnosis",
    "PairedChange",
    "Percentile",
    "Sign",
    "Spread",
    "diagnose",
    "effective_sample_size",
    "hodges_lehmann",
    "is_bimodal",
    "is_drifting",
    "largest_unseen_share",
    "median",
    "percentiles",
    "quantile",
    "relative_spread",
    "samples_needed",
    "signed_rank_interval",
    "spread",
    "wilson_interval",
]
