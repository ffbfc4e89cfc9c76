"""A comparison that reuses what is there and reports what failed."""

import json

import pytest

import frugal
from frugal.core.errors import BadRun, RunFailed
from frugal.core.recipe import Frozen
from frugal.evidence.compare import folder, summarise
from frugal.evidence.runs import Job

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


def test_what_is_counted_to_the_target_may_be_decoding_steps(tmp_path):
    """Both arms rise alike in samples; the second takes half of the steps, and stays at its last score from there."""
    jobs = []
    for arm, pace in (("grpo", 4), ("grpo+april", 2)):
        for seed in range(4):
            out = tmp_path / arm / str(seed)
            out.mkdir(parents=True)
            scores = [min(0.1 * k, 1.0) + 0.001 * seed for k in range(21)]
            lines = [
                {"kind": "evaluation", "samples": 10 * k, "steps": pace * k, "greedy": s} for k, s in enumerate(scores)
            ]
            (out / "curve.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            jobs.append(Job(arm, "modchain", 200, seed, out, Frozen({"evaluations": 20})))
    in_samples, in_steps = summarise(jobs), summarise(jobs, cost="steps")
    assert in_samples["grid"][-1] == 200 and in_steps["grid"] == [4.0 * k for k in range(21)]
    base, method = in_steps["arms"]
    assert base["curves"] == in_samples["arms"][0]["curves"]
    assert method["curves"][0] == pytest.approx([min(0.2 * k, 1.0) for k in range(21)])
    race = method["statistics"]
    assert race["ratio"] > 1.3 and race["word"] == "better" and in_samples["arms"][1]["statistics"]["ratio"] == 1
    assert "fewer decoding steps (" in in_steps["sentences"][0] and in_steps["cost"] == "decoding steps"
    assert "fewer samples (" in in_samples["sentences"][0]
