"""Stages: text, budgets, and a run that passes its weights on and resumes in any stage."""

import pytest
import torch

import frugal
from frugal.core.errors import BadRecipe, RunFailed
from frugal.core.stages import Stage, Stages
from frugal.language import ead, grpo, sft
from frugal.registry import recipe_or_stages

TEXT = "sft(prompts=8):16@modchain then grpo(beta=0.1, prompts=2)+ead"


def weights(run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in run.net.model.parameters()])


def test_text_round_trip():
    stages = recipe_or_stages(TEXT)
    assert stages == Stages((Stage(sft(prompts=8), 16, "modchain"), Stage(grpo(prompts=2, beta=0.1) + ead())))
    assert str(stages) == TEXT and recipe_or_stages(str(stages)) == stages
    assert recipe_or_stages("grpo+ead") == grpo() + ead()


def test_a_stage_may_take_a_share_of_the_budget():
    stages = recipe_or_stages("sft:.25 then grpo:0.5 then grpo(beta=0.1)")
    assert str(stages) == "sft:0.25 then grpo:0.5 then grpo(beta=0.1)" and recipe_or_stages(str(stages)) == stages
    assert stages.ends(1000) == [250, 750, 1000] and stages.ends(10) == [2, 7, 10]
    assert recipe_or_stages("sft:10 then grpo:0.5 then grpo").ends(40) == [10, 30, 40]


@pytest.mark.parametrize(
    "text,words",
    [
        ("sft:0.1 then grpo:0.9 then grpo", "budget is 100"),
        ("sft:0.0 then grpo", "how many samples"),
        ("sft then grpo", "how many samples"),
        ("sft:10 then grpo:10", "budget is 100"),
        ("sft:100 then grpo", "budget is 100"),
    ],
)
def test_budgets_that_do_not_fit(text, words):
    with pytest.raises(BadRecipe, match=words):
        recipe_or_stages(text).ends(100)


def test_schedules_run_over_their_own_stage(tmp_path):
    rates = []
    stages = recipe_or_stages("grpo(prompts=2, lr=1e-4):32 then grpo(prompts=2, lr=linear(1e-4, 0))")
    run = frugal.run(
        stages,
        "modchain",
        samples=64,
        evaluations=1,
        eval_problems=2,
        threads=1,
        reporter=lambda run, line: rates.append((run.stage, round(run.progress, 2))),
    )
    assert run.ledger.samples == 64
    assert (0, 0.5) in rates and (1, 0.5) in rates


@pytest.mark.parametrize("lines", [1, 3, 5, 6])
def test_killed_in_any_stage_it_resumes_to_the_same_result(tmp_path, monkeypatch, lines):
    """The second stage's reference is the first one's result: it has to survive too."""
    monkeypatch.setattr("frugal.core.run.Run.__init__.__kwdefaults__", {"checkpoint_seconds": 0.0, "reporter": None})
    options = {"evaluations": 2, "eval_problems": 2, "threads": 1}
    whole = frugal.run(TEXT, "modchain", samples=48, out=tmp_path / "whole", **options)

    def stop(run, line):
        if len(run.curve) == lines:
            raise RunFailed("killed")

    if lines < len(whole.curve):
        with pytest.raises(RunFailed, match="killed"):
            frugal.run(TEXT, "modchain", samples=48, out=tmp_path / "cut", reporter=stop, **options)
        resumed = frugal.resume(tmp_path / "cut")
        assert torch.equal(weights(whole), weights(resumed))
        assert (tmp_path / "whole" / "curve.jsonl").read_text() == (tmp_path / "cut" / "curve.jsonl").read_text()
