"""Pitfall 14 with SIGKILL: at random moments and at every spot of a write, a run resumes to the same bits.

benchmarks/kills.py does the same with larger runs and hundreds of kills.
"""

import time
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from benchmarks import kills
from frugal.evidence.runs import Job
from tests.language import tinyrun

RECIPE = "grpo(prompts=2, group=4, epochs=2, temperature=linear(1.0, 0.7), lr=1e-2)+ead+capo"
OPTIONS = {"dtype": "float32", "threads": 1, "evaluations": 3, "eval_problems": 2, "eval_k": 1}
ONCE = "run.json", "curve.jsonl", "model", "model.safetensors", "tokenizer.json", "of the removal of a checkpoint"


def tiny_job(folder: Path) -> Job:
    """Five rounds, with checkpoints after the second, the fourth and the last."""
    model = tinyrun.saved(folder / "start")
    return Job(RECIPE, f"{tinyrun.__file__}:Letters", 40, 3, folder / "out", OPTIONS | {"model": model})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(job, what it leaves behind when nothing disturbs it, its seconds)"""
    job = tiny_job(tmp_path_factory.mktemp("kills"))
    kills.attempt(replace(job, out=job.out.with_name("once"), samples=1))  # the first process waits for imports
    began = time.monotonic()
    kills.attempt(job)
    return job, kills.left_behind(job.out), time.monotonic() - began


@pytest.mark.parametrize("seed", range(5))
def test_a_run_killed_at_random_moments_resumes_to_the_same_bits(finished, tmp_path, seed):
    job, wanted, seconds = finished
    rng, ended = Random(seed), kills.Ended([], [])
    while not ended.kills:
        ended = kills.killed_at_random(replace(job, out=tmp_path / "out"), rng, wanted, seconds)
        assert ended.differing == []


@pytest.mark.parametrize("spot", kills.SPOTS)
def test_a_run_killed_in_the_middle_of_a_write_resumes_to_the_same_bits(finished, tmp_path, spot):
    job, wanted, _ = finished
    nth = 1 if spot.endswith(ONCE) else 2
    assert kills.killed_at(replace(job, out=tmp_path / "out"), spot, [nth], wanted) == kills.Ended([spot], [])


@pytest.mark.parametrize("spot", ["half of model.safetensors", "half of tokenizer.json"])
def test_a_model_that_is_half_written_is_not_there(finished, tmp_path, spot):
    job = replace(finished[0], out=tmp_path / "out")
    assert kills.attempt(job, spot=spot) == "final model"
    assert not (job.out / "model").exists()
