"""What other tools would say of the same blocks: their published rules, on arrays of many trials at once.

Each takes samples of base and of head in ns, shape (trials, rounds, blocks, iterations), nothing dropped, and returns
for each trial whether it would be called slower.
"""

from __future__ import annotations

import math
import sys

import numpy as np

PERCENT = 5.0  # `--benchmark-compare-fail=mean:5%`, the example of pytest-benchmark's documentation
PYPERF_VALUES = 3  # of a process, after one of warm-up: pyperf's defaults
ASV_SAMPLES = 10  # of a process: asv's `repeat` is (1, 10, 20.0)
ASV_FACTOR, ASV_P = 1.1, 0.002  # defaults of `asv continuous --factor` and of asv/_stats.py's is_different
# pyperf/_utils.py, tdist95conf_level: two-sided 95 %, by the least degrees of freedom from which it holds.
T_95 = ((200, 1.960), (100, 1.984), (80, 1.990), (60, 2.000), (50, 2.009), (40, 2.021), (30, 2.042))


def pytest_benchmark(base: np.ndarray, head: np.ndarray) -> np.ndarray:
    """pytest_benchmark/utils.py, PercentageRegressionCheck: current / compared * 100 - 100 > percent, of the means."""
    means = [side.reshape(len(side), -1).mean(axis=1) for side in (base, head)]
    return means[1] / means[0] * 100 - 100 > PERCENT


def pytest_benchmark_once(base: np.ndarray, head: np.ndarray) -> np.ndarray:
    """As it is run: one process a side; here the two of one round, which took turns: no kinder pair is recorded."""
    return pytest_benchmark(base[:, :1], head[:, :1])


def pyperf(base: np.ndarray, head: np.ndarray) -> np.ndarray:
    """pyperf/_utils.py, is_significant: |t| >= the two-sided 95 % value of Student's pooled test; head slower."""
    first, second = _pyperf_values(base), _pyperf_values(head)
    count = first.shape[1]
    error = (first.var(axis=1, ddof=1) + second.var(axis=1, ddof=1)) / 2 / count
    t = (second.mean(axis=1) - first.mean(axis=1)) / np.sqrt(2 * error)
    return t >= tdist95(2 * count - 2)


def tdist95(freedom: int) -> float:
    """Return pyperf's value; its whole table is not here, so fewer degrees than the smallest entry are refused."""
    if freedom < T_95[-1][0]:
        sys.exit(f"pyperf's rule needs {T_95[-1][0]} degrees of freedom here, there are {freedom}")
    return next(value for least, value in T_95 if freedom >= least)


def asv(base: np.ndarray, head: np.ndarray) -> np.ndarray:
    """asv/commands/compare.py, _is_result_better: the samples differ by asv/_stats.py, and base < head / factor.

    The result is the median of the samples (asv_runner/statistics.py, compute_stats); the test is Mann and Whitney's
    in the normal limit, as asv takes it beyond 20 samples.
    """
    first, second = _means(base, ASV_SAMPLES), _means(head, ASV_SAMPLES)
    slower = np.median(first, axis=1) < np.median(second, axis=1) / ASV_FACTOR
    return slower & (_mann_whitney_p(first, second) < ASV_P)


RULES = {
    "pytest-benchmark, mean:5%, one process a side": pytest_benchmark_once,
    "pytest-benchmark, mean:5%, all rounds": pytest_benchmark,
    "pyperf, all rounds": pyperf,
    "asv continuous, all rounds": asv,
}


def _pyperf_values(samples: np.ndarray) -> np.ndarray:
    """Return three values a process: the first quarter of its time is the warm-up."""
    trials, rounds, blocks, iterations = samples.shape
    quarters = samples.reshape(trials, rounds, PYPERF_VALUES + 1, blocks * iterations // (PYPERF_VALUES + 1))
    return quarters.mean(axis=-1)[:, :, 1:].reshape(trials, -1)


def _means(samples: np.ndarray, parts: int) -> np.ndarray:
    trials, rounds, blocks, iterations = samples.shape
    return samples.reshape(trials, rounds * parts, blocks * iterations // parts).mean(axis=-1)


def _mann_whitney_p(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    count = first.shape[1]
    u = np.array([(a[:, np.newaxis] > b).sum() for a, b in zip(first, second, strict=True)])
    deviation = math.sqrt(count * count * (2 * count + 1) / 12)
    z = (np.minimum(u, count * count - u) - count * count / 2) / deviation
    return np.array([math.erfc(-value / math.sqrt(2)) for value in z])
