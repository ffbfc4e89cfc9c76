"""A comparison that reuses what is there and reports what failed."""

import pytest

import frugal
from frugal.core.errors import BadRun, RunFailed
from frugal.evidence.compare import folder

SMALL = {"samples": 16, "evaluations": 1, "eval_problems": 4}


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
    with pytest.raises(RunFailed, match="another samples"):
        frugal.compare("modchain", arms, seeds=2, out=tmp_path, **SMALL | {"samples": 24})


def test_arms_with_one_seed_start_alike(tmp_path):
    arms = ["grpo(prompts=2, group=4)", "grpo(prompts=2, group=4)+capo"]
    one, other = frugal.compare("modchain", arms, seeds=1, out=tmp_path, **SMALL)["arms"]
    assert one["curves"][0][0] == other["curves"][0][0]


def test_an_arm_given_twice_is_refused(tmp_path):
    with pytest.raises(BadRun, match="twice"):
        frugal.compare("modchain", ["grpo+ead+capo", "grpo+capo+ead"], out=tmp_path)
