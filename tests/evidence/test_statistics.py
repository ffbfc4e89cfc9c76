"""Statistics by hand, against a plain loop, and on simulated arms whose truth is known."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.coverage import GRID, covered, curves, races, truth
from frugal.evidence import statistics
from frugal.evidence.statistics import race


def test_one_score_a_seed_by_hand():
    rows = np.array([[0.0] * 18 + [0.4, 0.6], [0.0] * 20])
    assert statistics.final(rows).tolist() == [0.5, 0.0]  # the last tenth: two of twenty
    assert statistics.area([0, 1, 3], [[0, 1, 1]]).tolist() == [2.5 / 3]


def test_mean_interval_by_hand():
    # 1, 2, 3: standard deviation 1, standard error 1/sqrt(3), t(0.975, 2) = 4.302653
    mean, low, high = statistics.mean_interval([1.0, 2.0, 3.0])
    assert mean == 2 and high - mean == pytest.approx(4.302653 / math.sqrt(3), abs=1e-5) == mean - low
    assert statistics.mean_interval([0.5]) == (0.5, -math.inf, math.inf)


def test_welch_interval_by_hand():
    # equal variances of 1 and n = 3: standard error sqrt(2/3), 4 degrees of freedom
    difference, low, high = statistics.welch_interval([4.0, 5.0, 6.0], [1.0, 2.0, 3.0])
    assert difference == 3
    assert high - low == pytest.approx(2 * stats.t.ppf(0.975, 4) * math.sqrt(2 / 3))
    assert statistics.welch_interval([1.0, 1.0], [0.0, 0.0]) == (1, 1, 1)


@pytest.mark.parametrize("n,labels,signs", [(3, 0.1, 0.25), (4, 2 / 70, 0.125), (5, 2 / 252, 0.0625)])
def test_the_smallest_permutation_p_of_few_seeds(n, labels, signs):
    low, high = np.arange(n) / 100, 1 + np.arange(n) / 100
    assert statistics.permutation_p(high, low, paired=False) == pytest.approx(labels)
    assert statistics.permutation_p(high, low, paired=True) == pytest.approx(signs)
    assert statistics.permutation_p(low, low, paired=False) == 1


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0] and statistics.holm([]) == []


def test_improvement_by_hand():
    share, p = statistics.improvement([1.0, 2.0], [0.0, 1.0])
    assert share == 3.5 / 4 and 0 < p < 1
    assert statistics.improvement([2.0, 3.0], [0.0, 1.0]) == (1.0, pytest.approx(2 / 6))
    assert statistics.improvement([1.0, 1.0], [1.0, 1.0]) == (0.5, 1.0)


def test_wilson_by_hand():
    z2 = stats.norm.ppf(0.975) ** 2
    assert statistics.wilson(0, 5) == pytest.approx((0, z2 / (5 + z2)))


@pytest.mark.parametrize("n,d", [(3, 3.1), (5, 2.0), (10, 1.3), (20, 0.9)])
def test_detectable_effects(n, d):
    assert statistics.detectable(n) == pytest.approx(d, abs=0.05)
    assert statistics.detectable(1) == math.inf


def by_loop(grid, base, method, fraction):
    """The ratio, the mean samples and the seeds that reached the target, one step after another."""
    start, end = np.mean([row[0] for row in base]), np.mean([np.mean(row[-5:]) for row in base])
    target = start + fraction * (end - start)

    def samples(row):
        smooth = [np.mean(row[max(0, k - 4) : k + 1]) for k in range(len(row))]
        for k in range(len(row) - 1):
            if smooth[k] >= target and smooth[k + 1] >= target:
                return max(grid[k], grid[1])
        return grid[-1]

    times = [[samples(row) for row in arm] for arm in (base, method)]
    reached = tuple(sum(t < grid[-1] for t in arm) for arm in times)
    return np.mean(times[0]) / np.mean(times[1]), tuple(np.mean(arm) for arm in times), reached


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fraction", [0.5, 0.75, 0.95])
def test_samples_to_target_equal_a_loop(seed, fraction):
    rng = np.random.default_rng(seed)
    base, method = curves(rng, 4), curves(rng, 6, speed=1.5, failing=0.4)
    ratio, samples, reached = by_loop(GRID, base, method, fraction)
    found = race(GRID, base, method, fraction)
    assert found.ratio == pytest.approx(ratio) and found.samples == pytest.approx(samples)
    assert found.reached == reached and found.seeds == (4, 6) and found.restricted == (reached[1] < 6)


def test_an_arm_against_itself_is_one_and_not_shown():
    base = curves(np.random.default_rng(0), 5)
    found = race(GRID, base, base)
    assert found.ratio == 1 and found.p == 1 and found.word == "not shown" and found.low < 1 < found.high


def test_seeds_that_never_get_there_are_charged_the_budget_and_kept():
    base = curves(np.random.default_rng(0), 4, failing=0)
    found = race(GRID, base, np.full_like(base, 0.2))
    assert found.reached[1] == 0 and found.samples[1] == GRID[-1] and found.restricted and found.word == "worse"


def test_the_headline_asks_for_less_where_the_baseline_misses_its_own_target():
    early = 0.2 + 0.6 * (1 - np.exp(-GRID / 500))
    late = 0.2 + 0.6 * (GRID / GRID[-1]) ** 2
    assert race(GRID, [early] * 4, [early] * 4).fraction == 0.95
    assert race(GRID, [early] * 2 + [late] * 2, [early] * 4).fraction == 0.75


def test_one_seed_has_no_interval():
    base = curves(np.random.default_rng(0), 1, failing=0)
    found = race(GRID, base, base)
    assert (found.low, found.high, found.p, found.word) == (0, math.inf, 1, "not shown")


def test_warnings():
    rising, flat = 0.2 + 0.6 * GRID / GRID[-1], np.full_like(GRID, 0.2)
    early = 0.2 + 0.6 * (1 - np.exp(-GRID / 500))
    for base, expected in ((rising, "levelled off"), (flat, "does not rise"), (early, "further apart")):
        arms = np.stack([base + 1e-4 * i for i in range(4)])
        assert any(expected in w for w in statistics.warnings(GRID, arms, arms, race(GRID, arms, arms)))
    ends, arms = GRID[[0, -1]], np.array([[0.2, 0.8]] * 4)
    assert "the baseline has not levelled off" in statistics.warnings(ends, arms, arms, race(ends, arms, arms))


def test_across_tasks_by_hand():
    tasks = [[0.0, 0.2, 0.4, 0.6], [0.8, 1.0, 1.0, 1.0]]
    assert statistics.interquartile_mean(tasks)[0] == pytest.approx((0.4 + 0.6 + 0.8 + 1.0) / 4)
    assert statistics.performance_profile(tasks, [0.1, 0.9]).tolist() == [0.875, 0.375]


# -- simulated arms; benchmarks/coverage.py prints the whole table --------------------------------------------


@pytest.mark.parametrize("n,least", [(5, 0.88), (10, 0.92)])
@pytest.mark.parametrize("speed,failing", [(1.0, 0.1), (1.5, 0.1), (2.0, 0.0)])
def test_intervals_hold_the_truth_as_often_as_they_say(n, least, speed, failing, monkeypatch):
    monkeypatch.setattr(statistics, "REPLICATES", 1000)
    assert covered(races(n, speed, 0.75, failing, repeats=200), truth(speed, 0.75, failing)) >= least


def test_a_method_twice_as_fast_is_mostly_found_with_eight_seeds(monkeypatch):
    monkeypatch.setattr(statistics, "REPLICATES", 1000)
    assert np.mean([r.word == "better" for r in races(8, 2.0, 0.75, 0.0, repeats=100)]) >= 2 / 3


@pytest.mark.parametrize("failing", [0.0, 0.1])
def test_equal_arms_are_seldom_told_apart(failing, monkeypatch):
    monkeypatch.setattr(statistics, "REPLICATES", 1000)
    found = races(5, 1.0, None, failing, repeats=400)
    assert np.mean([r.word != "not shown" for r in found]) <= 0.06
    assert np.median([r.ratio for r in found]) == pytest.approx(1, abs=0.05)
