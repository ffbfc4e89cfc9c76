"""Losses with soft labels come to their closed forms; stages of both domains; language recipes on these tasks."""

import pytest
import torch

import frugal
from frugal import maths
from frugal.core.errors import BadRecipe, BadRun
from frugal.preference.parts import Hinge, Logistic, Mean, Prospect, Squared, Sum
from tests.language.rows import rows
from tests.preference.rows import pairs

K = 5


def table(seed):
    rng = torch.Generator().manual_seed(seed)
    r, ref = torch.randn(K, generator=rng).double(), torch.randn(K, generator=rng).double().softmax(0)
    return r, ref, torch.sigmoid(r[:, None] - r[None, :])


def fitted(loss, ref, P):
    """The table of the least loss over all ordered pairs, their labels in expectation."""
    a, b = torch.arange(K).repeat_interleave(K), torch.arange(K).repeat(K)
    mini = pairs([0.5] * (K * K), [1] * (2 * K * K)).put(a=a, b=b, y=P[a, b])
    logits = torch.zeros(K, dtype=torch.float64, requires_grad=True)
    steps = torch.optim.LBFGS(
        [logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        steps.zero_grad()
        z = logits.log_softmax(0) - ref.log()
        value = loss(z[a], z[b], mini).mean()
        value.backward()
        return value

    steps.step(closure)
    return logits.detach().softmax(0)


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_dpo_with_expected_labels_comes_to_the_tilted_policy(beta):
    r, ref, P = table(0)
    torch.testing.assert_close(fitted(Logistic(beta), ref, P), maths.tilted(ref, r, beta), atol=1e-7, rtol=0)


def test_ipo_with_expected_labels_comes_to_the_tilt_by_the_mean_win_rate():
    """Azar et al. 2023, theorem 2: pi ~ ref exp(E_b P(y > b) / tau), here for pairs that are drawn evenly."""
    _, ref, P = table(1)
    torch.testing.assert_close(fitted(Squared(0.3), ref, P), maths.tilted(ref, P.mean(1), 0.3), atol=1e-7, rtol=0)


@pytest.mark.parametrize("loss", [Logistic(0.7), Squared(0.7), Hinge(0.7), Prospect(0.7)])
def test_losses_do_not_mind_which_response_stands_first(loss):
    z = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    mini = pairs([1.0, 0.0, 0.25, 0.5], [1] * 8)
    torch.testing.assert_close(loss(z[0], z[1], mini), loss(z[1], z[0], mini.put(y=1 - mini.y)))


def test_score_is_the_sum_or_the_mean_over_own_tokens():
    batch = rows([0.0, 0.0], [3, 1])
    delta = torch.tensor([[1.0, 2.0, 6.0], [4.0, 9.0, 9.0]])
    assert Sum()(delta, batch).tolist() == [9.0, 4.0] and Mean()(delta, batch).tolist() == [3.0, 4.0]


SMALL = {"evaluations": 1, "eval_problems": 4, "threads": 1}


def test_supervised_then_pairs_then_rewards_is_one_run(tmp_path):
    stages = "sft(prompts=8):16 then dpo(prompts=8):16 then ppo(prompts=8)"
    run = frugal.run(stages, "rm-lab", samples=48, out=tmp_path / "a", **SMALL)
    spent = run.ledger
    assert (spent.demonstrations, spent.labels, spent.verifier_calls) == (16, 16, 16)
    assert [line["samples"] for line in run.curve if line["kind"] == "train"] == [8, 16, 24, 32, 40, 48]
    assert (tmp_path / "a" / "model" / "config.json").exists()


def test_language_recipes_on_these_tasks_are_measured_as_the_others():
    run = frugal.run("grpo(prompts=2, group=4)", "rm-lab", samples=8, **SMALL)
    assert {"win", "kl", "reward"} <= next(line for line in run.curve if line["kind"] == "evaluation").keys()
    with pytest.raises(BadRun, match=r"modchain it is .*grpo in language, dpo in preference"):
        frugal.compare("modchain", ["grpo", "dpo"], samples=8)


def test_patches_go_where_their_loop_is():
    assert str(frugal.recipe("rlhf+ead")) == "rlhf+ead"
    with pytest.raises(BadRecipe, match="ead belongs to the language domain, dpo to preference"):
        frugal.recipe("dpo+ead")
    with pytest.raises(BadRecipe, match="does not use the setting 'group'"):
        frugal.recipe("dpo(group=3)")
    with pytest.raises(BadRecipe, match="give a number above 0"):
        frugal.recipe("dpo(beta=0)")
    with pytest.raises(BadRecipe, match="choose from: hinge, ipo, kto, sigmoid"):
        frugal.recipe("online-dpo(loss='odds')")
