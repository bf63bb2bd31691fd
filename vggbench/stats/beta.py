"""The regularised incomplete beta function, and the tails of distributions that are one. Standard library only."""

from __future__ import annotations

import math

_SMALLEST = 1e-300  # keeps Lentz's denominators from being 0
_PRECISION = 1e-15  # relative, of the last factor
_MOST_TERMS = 100_000  # about the square root of the larger parameter is needed


def regularized_beta(x: float, a: float, b: float) -> float:
    """Return I_x(a, b) for 0 <= x <= 1 and positive a, b.

    The continued fraction of DLMF 8.17.22, evaluated by the modified Lentz algorithm (Press et al., "Numerical
    Recipes", section 6.4); `ValueError` outside the domain.
    """
    if not (0 <= x <= 1 and a > 0 and b > 0):
        raise ValueError(f"I_{x}({a}, {b}) is outside the domain")
    if x in (0, 1):
        return float(x)
    # It converges fast below the mean only; above it, the other tail.
    return _lower_tail(x, a, b) if x <= (a + 1) / (a + b + 2) else 1 - _lower_tail(1 - x, b, a)


def binomial_at_most(count: int, trials: int, probability: float) -> float:
    """Return P(X <= count) of X ~ Binomial(trials, probability): I_{1 - probability}(trials - count, count + 1)."""
    if count >= trials:
        return 1.0
    return regularized_beta(1 - probability, trials - count, count + 1)


def f_at_least(ratio: float, numerator: int, denominator: int) -> float:
    """Return P(F >= ratio) of Fisher's F with these degrees of freedom (DLMF 8.17, Abramowitz and Stegun 26.6.2)."""
    return regularized_beta(denominator / (denominator + numerator * ratio), denominator / 2, numerator / 2)


def _lower_tail(x: float, a: float, b: float) -> float:
    log_front = a * math.log(x) + b * math.log1p(-x) - math.log(a)
    log_front += math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(log_front) * _continued_fraction(x, a, b)


def _continued_fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d
    for term in range(1, _MOST_TERMS):
        for factor in _coefficients(term, x, a, b):
            d = 1 / _not_zero(1 + factor * d)
            c = _not_zero(1 + factor / c)
            value *= c * d
        if abs(c * d - 1) < _PRECISION:
            return value
    raise ArithmeticError(f"I_{x}({a}, {b}) did not converge")


def _coefficients(term: int, x: float, a: float, b: float) -> tuple[float, float]:
    """Return d_2m and d_2m+1 of DLMF 8.17.23."""
    even = term * (b - term) * x / ((a + 2 * term - 1) * (a + 2 * term))
    odd = -(a + term) * (a + b + term) * x / ((a + 2 * term) * (a + 2 * term + 1))
    return even, odd


def _not_zero(value: float) -> float:
    return value if abs(value) > _SMALLEST else _SMALLEST
