"""Tulu 3: its stages, the length-normalised loss of the second, and one run through all of them."""

import math

import pytest
import torch

import frugal
from frugal.core.errors import BadRecipe, UnknownName
from frugal.core.stages import Stages
from frugal.preference import tulu3
from frugal.registry import recipe_or_stages
from tests.language.rows import rows
from tests.preference.rows import pairs


def test_its_stages_in_words():
    assert (
        str(tulu3(prompts=8))
        == str(tulu3())
        == (
            "sft(prompts=8):0.25 then online-dpo(beta=5.0, score='mean', data=True, prompts=8):0.25 then "
            "ppo(beta=0.005, prompts=32)"
        )
    )
    made = recipe_or_stages("tulu3(supervised=0.5, data=False)")
    assert isinstance(made, Stages) and made == tulu3(supervised=0.5, data=False)
    assert recipe_or_stages(str(made)) == made and recipe_or_stages("tulu3") == tulu3()
    assert made.ends(1000) == [500, 750, 1000]


def second_stage(delta, lengths):
    """The loss of one pair whose first response won, from log-ratios at every token."""
    parts = tulu3().stages[1].recipe.parts
    both = rows([0.0, 0.0], lengths)
    z = parts["learn.score"](delta, both)
    return float(parts["learn.loss"](z[:1], z[1:], pairs([1.0], lengths)))


def test_lengths_are_divided_out():
    """-log sigmoid(5 (0.3 - 0.1)); of twice the tokens with the same sums, half the margin."""
    short = second_stage(torch.tensor([[0.3], [0.1]]), [1, 1])
    long = second_stage(torch.tensor([[0.1, 0.2], [0.05, 0.05]]), [2, 2])
    assert short == pytest.approx(math.log1p(math.exp(-1.0)))
    assert long == pytest.approx(math.log1p(math.exp(-0.5)))


def test_one_run_through_all_three(tmp_path):
    options = {"samples": 64, "evaluations": 4, "eval_problems": 8, "threads": 1}
    run = frugal.run("tulu3(prompts=8)", "closing", out=tmp_path / "a", **options)
    spent = run.ledger
    assert spent.demonstrations == 16 and spent.samples == 64 and spent.verifier_calls == 32
    assert 8 <= spent.labels <= 16, "pairs of equal responses are samples, and nobody labels them"
    last = [line for line in run.curve if line["kind"] == "evaluation"][-1]
    assert {"win", "reward", "kl", "accuracy"} <= last.keys() and last["kl"] > 0
    assert (tmp_path / "a" / "model" / "config.json").exists()


def test_what_it_refuses():
    with pytest.raises(BadRecipe, match="leave some for the last stage"):
        tulu3(supervised=0.5, preferences=0.5)
    with pytest.raises(UnknownName, match="option of tulu3 'suprevised'; did you mean 'supervised'"):
        recipe_or_stages("tulu3(suprevised=0.1)")
    with pytest.raises(BadRecipe, match="makes a Stages"):
        frugal.recipe("grpo+tulu3")
