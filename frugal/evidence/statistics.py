"""Statistics for a handful of noisy seeds. x [n] is one score a seed, curves [n,K] one curve a seed on grid [K].

Larger is better everywhere; negate what should be small. No seed is ever dropped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from warnings import catch_warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

Array = NDArray[np.float64]

WINDOW = 5  # evaluations in the trailing mean
REPLICATES = 4000  # of a bootstrap or a permutation test
FRACTIONS = (0.5, 0.75, 0.95)  # of the baseline's gain, at which samples to target are printed


# -- one score a seed -----------------------------------------------------------------------------------------


def final(curves: ArrayLike) -> Array:
    """The mean of the last tenth of the evaluations, never the best one. [n,K] -> [n]"""
    curves = np.asarray(curves, float)
    return curves[:, -_tenth(curves) :].mean(1)


def area(grid: ArrayLike, curves: ArrayLike) -> Array:
    """Mean height of each curve over the whole budget. [K], [n,K] -> [n]"""
    grid = np.asarray(grid, float)
    return np.trapezoid(np.asarray(curves, float), grid, axis=1) / (grid[-1] - grid[0])


def mean_interval(x: Sequence[float] | Array, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and its t-interval; infinite for one seed."""
    mean = float(np.mean(x))
    if len(x) < 2:
        return mean, -math.inf, math.inf
    half = float(stats.t.ppf((1 + level) / 2, len(x) - 1) * np.std(x, ddof=1) / math.sqrt(len(x)))
    return mean, mean - half, mean + half


def welch_interval(
    x: Sequence[float] | Array, y: Sequence[float] | Array, level: float = 0.95
) -> tuple[float, float, float]:
    """mean(x) - mean(y) and its Welch interval; infinite if either has one seed."""
    difference = float(np.mean(x) - np.mean(y))
    if min(len(x), len(y)) < 2:
        return difference, -math.inf, math.inf
    if np.ptp(x) == 0 and np.ptp(y) == 0:
        return difference, difference, difference
    with catch_warnings(action="ignore", category=RuntimeWarning):  # of arms whose seeds are nearly equal
        low, high = stats.ttest_ind(x, y, equal_var=False).confidence_interval(level)
    return difference, float(low), float(high)


def permutation_p(x: Sequence[float] | Array, y: Sequence[float] | Array, paired: bool) -> float:
    """Two-sided p of mean(x) = mean(y): signs of the pairs flipped, or labels exchanged; exact for few seeds."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if paired:
        test = stats.permutation_test((x - y,), np.mean, permutation_type="samples", n_resamples=2**14, rng=0)
    else:

        def difference(a: Array, b: Array, axis: int) -> Array:
            return np.mean(a, axis=axis) - np.mean(b, axis=axis)

        test = stats.permutation_test((x, y), difference, vectorized=True, n_resamples=2**14, rng=0)
    return float(test.pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for being many: Holm 1979, Scandinavian Journal of Statistics 6, page 67."""
    order, out, worst = np.argsort(p), [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, p[i] * (len(p) - rank)))
        out[i] = worst
    return out


def improvement(x: Sequence[float] | Array, y: Sequence[float] | Array) -> tuple[float, float]:
    """P(X > Y), ties at 1/2, and its two-sided p by Brunner and Munzel (2000)."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    share = float((np.sign(x[:, None] - y).mean() + 1) / 2)
    if min(len(x), len(y)) < 2:
        return share, math.nan
    if share in (0.0, 1.0) or (np.ptp(x) == 0 and np.ptp(y) == 0):  # the test's variance is zero
        return share, 2 / math.comb(len(x) + len(y), len(x)) if share in (0.0, 1.0) else 1.0
    return share, float(stats.brunnermunzel(x, y).pvalue)


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share."""
    interval = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def detectable(n: int, power: float = 0.8, level: float = 0.05) -> float:
    """The effect size d that a two-sided t-test of two arms with n seeds each detects; infinite for one seed."""
    if n < 2:
        return math.inf
    df = 2 * n - 2
    critical = stats.t.ppf(1 - level / 2, df)

    def lacking(d: float) -> float:
        return float(stats.nct.sf(critical, df, d * math.sqrt(n / 2)) - power)

    return float(optimize.brentq(lacking, 0.01, 50))


# -- samples to target ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Race:
    """How many samples two arms take to the same score. `ratio` above 1: the method takes fewer."""

    fraction: float  # of the baseline's gain
    target: float  # the score
    ratio: float
    low: float  # 95% interval; 0 and infinity with fewer than two seeds
    high: float
    p: float  # of equal arms, labels exchanged
    samples: tuple[float, float]  # mean samples of baseline and method, at most the budget
    reached: tuple[int, int]  # seeds of baseline and method that reached the target
    seeds: tuple[int, int]
    restricted: bool  # some seed of the method did not reach it: its mean counts the budget for it

    @property
    def word(self) -> str:
        """ "better", "worse" or "not shown": the interval excludes 1 and so does the permutation test."""
        if self.p <= 0.05 and self.low > 1:
            return "better"
        return "worse" if self.p <= 0.05 and self.high < 1 else "not shown"


def race(grid: ArrayLike, baseline: ArrayLike, method: ArrayLike, fraction: float | None = None) -> Race:
    """Samples to `fraction` of the baseline's gain, both arms by the same rule. grid [K], curves [n,K] and [m,K].

    The target is s0 + fraction (B - s0), s0 the baseline's first score, B its final one. A seed's time is the first
    grid point from which two consecutive trailing means of five evaluations reach it; a seed that does not is charged
    the budget. The headline fraction (None) is 0.95, or 0.75 where more than a quarter of the baseline's own seeds
    miss the former.

    The interval is a bootstrap over the seeds of both arms with target and times made anew in each replicate, its
    percentiles widened as t-intervals are (Hesterberg 2015, arXiv 1411.5279, section 4.2). It cannot know of failures
    that no seed shows: where one seed in ten fails and the others are twice as fast, it holds the truth in nine cases
    of ten (benchmarks/coverage.py). The test exchanges the labels of the times to a target that does not depend on
    them: the one of all seeds pooled.
    """
    grid, b, m = (np.asarray(a, float) for a in (grid, baseline, method))
    if fraction is None:
        strict = race(grid, b, m, 0.95)
        return strict if strict.reached[0] >= 0.75 * len(b) else race(grid, b, m, 0.75)
    n, k = len(b), len(m)
    both = np.concatenate([b, m])
    times, first, last = _times(grid, both), both[:, 0], final(both)

    def run(wb: Array, wm: Array) -> tuple[Array, Array, Array, Array]:
        """Targets [R], times [n+m,R] and mean times [R] of arms whose seeds have weights wb, wm [R,n+m]."""
        target = wb @ first + fraction * (wb @ last - wb @ first)
        took = times(target)
        return target, took, (wb * took.T).sum(1), (wm * took.T).sum(1)

    is_b = np.arange(n + k) < n
    target, took, mean_b, mean_m = run(is_b[None] / n, ~is_b[None] / k)
    ratio, reached = float(mean_b[0] / mean_m[0]), took[:, 0] < grid[-1]
    low, high, p = 0.0, math.inf, 1.0
    if min(n, k) > 1:
        rng = np.random.default_rng(0)
        drawn = [rng.multinomial(size, np.full(size, 1 / size), REPLICATES) / size for size in (n, k)]
        wb = np.hstack([drawn[0], np.zeros((REPLICATES, k))])
        wm = np.hstack([np.zeros((REPLICATES, n)), drawn[1]])
        _, _, one, other = run(wb, wm)
        df = min(n, k) - 1
        tail = stats.norm.cdf(-math.sqrt((df + 1) / df) * stats.t.ppf(0.975, df))
        low, high = np.quantile(np.log(one / other), [tail, 1 - tail])
        low, high = math.exp(low), math.exp(high)
        pooled = first.mean() + fraction * (last.mean() - first.mean())
        p = _permutation_p(times(np.array([pooled]))[:, 0], n, rng)
    return Race(
        fraction=fraction,
        target=float(target[0]),
        ratio=ratio,
        low=low,
        high=high,
        p=p,
        samples=(float(mean_b[0]), float(mean_m[0])),
        reached=(int(reached[:n].sum()), int(reached[n:].sum())),
        seeds=(n, k),
        restricted=not reached[n:].all(),
    )


def samples_to(grid: ArrayLike, curves: ArrayLike, target: float) -> Array:
    """Samples to a score, a seed each, by the rule of `race`; the budget where it is not reached. [K], [n,K] -> [n]"""
    return _times(np.asarray(grid, float), np.asarray(curves, float))(np.array([target]))[:, 0]


def warnings(grid: ArrayLike, baseline: ArrayLike, method: ArrayLike, headline: Race) -> list[str]:
    """What a reader of the headline should know: baseline still rising, coarse grid, a verdict that one seed makes."""
    grid, b, m = (np.asarray(a, float) for a in (grid, baseline, method))
    found = []
    fifth = min(max(3, len(grid) // 5), len(grid))
    slopes = [np.polyfit(grid[-fifth:], row[-fifth:], 1)[0] for row in b]
    gain = final(b).mean() - b[:, 0].mean()
    if gain <= 0:
        found.append("the baseline does not rise, so there is no target to race to")
    elif mean_interval(slopes)[1] > 0 and np.mean(slopes) * (grid[-1] - grid[-fifth]) > 0.02 * gain:
        found.append("the baseline has not levelled off")
    if np.diff(grid).max() > 0.05 * min(headline.samples):
        found.append("evaluations are further apart than 5% of the samples to target")
    if min(headline.seeds) > 2:
        without = [race(grid, np.delete(b, i, 0), m, headline.fraction).word for i in range(len(b))]
        without += [race(grid, b, np.delete(m, i, 0), headline.fraction).word for i in range(len(m))]
        if set(without) != {headline.word}:
            found.append("leaving out one seed changes the verdict")
    return found


def _times(grid: Array, curves: Array) -> Callable[[Array], Array]:
    """targets [R] -> samples at which each curve reaches each, the budget where it does not. [n,R]"""
    padded = np.cumsum(np.pad(curves, ((0, 0), (1, 0))), axis=1)
    ends = np.arange(1, len(grid) + 1)
    begins = np.maximum(ends - WINDOW, 0)
    smooth = (padded[:, ends] - padded[:, begins]) / (ends - begins)
    stays = np.maximum.accumulate(np.minimum(smooth[:, :-1], smooth[:, 1:]), axis=1)
    samples = np.append(np.maximum(grid[:-1], grid[1]), grid[-1])  # at the start already: one evaluation's worth
    return lambda targets: np.stack([samples[np.searchsorted(row, targets)] for row in stays])


def _permutation_p(times: Array, n: int, rng: np.random.Generator) -> float:
    """Two-sided p of equal mean times of the first n seeds and the others, on the logarithm of their ratio."""
    chosen = _labels(n, len(times) - n, rng)
    ratios = abs(np.log((chosen @ times / n) / (~chosen @ times / (len(times) - n))))
    return float(np.mean(ratios >= abs(np.log(times[:n].mean() / times[n:].mean())) - 1e-12))


def _labels(n: int, m: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Ways to call n of n + m seeds the baseline: all of them if they are few, else that many drawn. [R,n+m]"""
    if math.comb(n + m, n) <= 4 * REPLICATES:
        chosen = np.array(list(combinations(range(n + m), n)))
    else:
        chosen = np.argsort(rng.random((REPLICATES, n + m)), axis=1)[:, :n]
        chosen[0] = np.arange(n)  # what was seen is one of them, so that p is never 0
    labels = np.zeros((len(chosen), n + m), bool)
    np.put_along_axis(labels, chosen, True, axis=1)
    return labels


def _tenth(curves: Array) -> int:
    return max(1, math.ceil(curves.shape[1] / 10))


# -- across tasks ---------------------------------------------------------------------------------------------


def interquartile_mean(scores: Sequence[ArrayLike], level: float = 0.95) -> tuple[float, float, float]:
    """Mean of the middle half of all tasks' normalised scores, with a bootstrap over seeds within each task.

    scores: one [n] a task. Agarwal et al. 2021, arXiv 2108.13264, section 4.
    """
    tasks = [np.asarray(x, float) for x in scores]
    rng = np.random.default_rng(0)
    drawn = np.hstack([x[rng.integers(len(x), size=(REPLICATES, len(x)))] for x in tasks])
    low, high = np.quantile(stats.trim_mean(drawn, 0.25, axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(stats.trim_mean(np.concatenate(tasks), 0.25)), float(low), float(high)


def performance_profile(scores: Sequence[ArrayLike], levels: ArrayLike) -> Array:
    """Share of runs with a score above each level, averaged over tasks. One [n] a task, [L] -> [L]"""
    levels = np.asarray(levels, float)
    return np.mean([(np.asarray(x, float)[:, None] > levels).mean(0) for x in scores], axis=0)
