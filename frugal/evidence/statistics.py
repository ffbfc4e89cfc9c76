"""Intervals for few, noisy seeds. See scipy.stats for the distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats


def mean_interval(x: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Mean and its t-interval. x [n]; the interval is infinite for n = 1."""
    mean = float(np.mean(x))
    if len(x) < 2:
        return mean, -math.inf, math.inf
    half = float(stats.t.ppf((1 + level) / 2, len(x) - 1) * np.std(x, ddof=1) / math.sqrt(len(x)))
    return mean, mean - half, mean + half


def welch_interval(x: Sequence[float], y: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """mean(x) - mean(y) and its Welch interval. x [n], y [m]; infinite if n or m is 1."""
    difference = float(np.mean(x) - np.mean(y))
    if min(len(x), len(y)) < 2:
        return difference, -math.inf, math.inf
    if np.ptp(x) == 0 and np.ptp(y) == 0:
        return difference, difference, difference
    low, high = stats.ttest_ind(x, y, equal_var=False).confidence_interval(level)
    return difference, float(low), float(high)
