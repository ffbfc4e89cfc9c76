"""Intervals against known values; a comparison that reuses what is there and reports what failed."""

import math

import pytest
from scipy import stats

import frugal
from frugal.core.errors import BadRun, RunFailed
from frugal.evidence.compare import folder
from frugal.evidence.statistics import mean_interval, welch_interval

SMALL = {"samples": 16, "evaluations": 1, "eval_problems": 4}


def test_mean_interval_by_hand():
    # 1, 2, 3: standard deviation 1, standard error 1/sqrt(3), t(0.975, 2) = 4.302653
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2 and high - mean == pytest.approx(4.302653 / math.sqrt(3), abs=1e-5) == mean - low
    assert mean_interval([0.5]) == (0.5, -math.inf, math.inf)


def test_welch_interval_by_hand():
    # equal variances of 1 and n = 3: standard error sqrt(2/3), 4 degrees of freedom
    difference, low, high = welch_interval([4.0, 5.0, 6.0], [1.0, 2.0, 3.0])
    assert difference == 3
    assert high - low == pytest.approx(2 * stats.t.ppf(0.975, 4) * math.sqrt(2 / 3))
    assert welch_interval([1.0, 1.0], [0.0, 0.0]) == (1, 1, 1)


def test_folders_of_different_recipes_differ():
    names = ["grpo", "grpo+ead", "grpo+ead(hot=1.3)", "grpo(lr=1e-4)"]
    assert len({folder(name) for name in names}) == len(names)


def test_a_comparison_reuses_finished_runs_and_refuses_other_ones(tmp_path):
    arms = ["grpo(prompts=2, group=4)", "grpo(prompts=2, group=4)+ead"]
    first = frugal.compare("modchain", arms, seeds=2, out=tmp_path, **SMALL)
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("curve.jsonl")}
    assert len(stamps) == 4
    assert first == frugal.compare("modchain", arms, seeds=2, out=tmp_path, **SMALL)
    assert stamps == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("curve.jsonl")}
    with pytest.raises(RunFailed, match="another run"):
        frugal.compare("modchain", arms, seeds=2, out=tmp_path, **SMALL | {"samples": 24})


def test_arms_with_one_seed_start_alike(tmp_path):
    arms = ["grpo(prompts=2, group=4)", "grpo(prompts=2, group=4)+capo"]
    one, other = frugal.compare("modchain", arms, seeds=1, out=tmp_path, **SMALL)["arms"]
    assert one["curves"][0][0] == other["curves"][0][0]


def test_an_arm_given_twice_is_refused(tmp_path):
    with pytest.raises(BadRun, match="twice"):
        frugal.compare("modchain", ["grpo+ead+capo", "grpo+capo+ead"], out=tmp_path)
