"""Lite PPO: both tricks by hand and against TRL's, where they differ from GRPO, and what they clash with."""

import pytest
import torch

from frugal.core.errors import BadRecipe, Clash
from frugal.language.methods.copo import copo
from frugal.language.methods.lite_ppo import lite_ppo
from frugal.language.methods.pacs import pacs
from frugal.language.methods.rec import rec
from frugal.language.recipes import dapo, dr_grpo, grpo, ppo, reinforce, rloo
from tests.language.rows import rows
from tests.language.tinyrun import gradients, launch


def advantages(recipe, scores, groups):
    batch = rows(scores, [1] * len(scores), groups)
    return recipe.parts["credit.advantage"](batch.at_end(batch.score), batch)[:, 0]


SCORES, GROUPS = [1.0, 0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 1, 1, 1, 1]


def test_advantage_by_hand():
    """Means 1/4 and 3/4; four of eight are right: the spread of the rewards is sqrt(2/7)."""
    std = (2 / 7) ** 0.5 + 1e-4
    wanted = torch.tensor([0.75, -0.25, -0.25, -0.25, 0.25, 0.25, 0.25, -0.75]) / std
    torch.testing.assert_close(advantages(grpo() + lite_ppo(), SCORES, GROUPS), wanted)


def test_one_success_among_many_failures_is_not_blown_up():
    """A group without spread beside one with a spread of 1/2: the group's own spread gives 1.5, the batch's 2.1."""
    scores, groups = [1.0, 0, 0, 0, 0, 0, 0, 0], GROUPS
    ours, plain = advantages(grpo() + lite_ppo(), scores, groups), advantages(grpo(), scores, groups)
    assert float(plain[0]) == pytest.approx(1.5, abs=1e-3)
    assert float(ours[0]) == pytest.approx(0.75 / (1 / 8) ** 0.5, abs=1e-3)
    assert not ours[4:].any() and not plain[4:].any()


def test_the_advantage_is_that_of_trl():
    pytest.importorskip("trl", reason="needs TRL")
    from tests.language.trl_reference import trl_advantages

    rng = torch.Generator().manual_seed(0)
    rewards = torch.rand(4, 6, generator=rng)
    wanted = trl_advantages(rewards.flatten(), 6, "batch")
    found = advantages(grpo() + lite_ppo(), rewards.flatten().tolist(), [i // 6 for i in range(24)])
    torch.testing.assert_close(found, wanted)


def test_the_first_step_is_the_token_mean_of_centred_rewards():
    """Up to one factor, the spread of the round's rewards."""
    with gradients() as ours:
        launch(grpo(prompts=2, group=4) + lite_ppo())
    with gradients() as plain:
        launch(dr_grpo(prompts=2, group=4, mean="token"))
    ratios = torch.cat([(ours[0][name] / g).flatten()[g.flatten().abs() > 1e-4] for name, g in plain[0].items()])
    assert len(ratios) > 100
    torch.testing.assert_close(ratios, torch.full_like(ratios, float(ratios.median())), rtol=1e-3, atol=0)


def test_each_trick_alone():
    one, other = grpo() + lite_ppo(token_mean=False), grpo() + lite_ppo(batch_std=False)
    assert (one.parts["credit.advantage"].scale, one.settings.mean) == ("batch", "rollout")
    assert (other.parts["credit.advantage"].scale, other.settings.mean) == ("group", "token")
    assert other.parts == grpo(mean="token").parts


def test_clashes_and_their_ways_out():
    with pytest.raises(Clash, match=r"lite-ppo\(batch_std=False\)"):
        grpo() + rec() + lite_ppo()
    assert grpo() + rec() + lite_ppo(batch_std=False)
    with pytest.raises(Clash, match="you chose it for grpo"):
        grpo(mean="rollout") + lite_ppo()
    with pytest.raises(Clash, match="pacs"):
        grpo() + pacs() + lite_ppo()
    with pytest.raises(BadRecipe, match="'scale'"):
        rloo() + lite_ppo()
    for base in (reinforce, ppo):
        with pytest.raises(BadRecipe):
            (base() + lite_ppo()).check()
    assert dapo() + lite_ppo() and grpo() + copo() + lite_ppo()
