"""DRPO: weights by hand, the gradient against the objective differentiated as it is written, and its limits."""

import math
from types import SimpleNamespace

import pytest
import torch

from frugal.core.errors import BadRecipe, Clash
from frugal.language.methods.drpo_len import Barrier, Decoupled, drpo_len
from frugal.language.methods.lp_reg import lp_reg
from frugal.language.methods.ngrpo import ngrpo
from frugal.language.recipes import grpo, reinforce
from tests.language.rows import rows
from tests.language.tinyrun import Letters, gradients, launch, policy, spy


def weights(batch, lam=0.1, tau=10.0, extra=None):
    r = batch.at_end(batch.score if extra is None else batch.score + torch.tensor(extra))
    A = Decoupled(lam, tau)(r, batch)
    assert A.dtype == torch.float32 and A.shape == batch.own.shape and torch.equal(A, A[:, :1].expand_as(A))
    return A[:, 0].tolist()


def mixed():
    """Group 3: right with 2 and 6 of 8 tokens, two wrong ones; group 1: all wrong; group 0: all right."""
    batch = rows([1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0], [2, 4, 6, 1, 3, 5, 2, 2], [3, 3, 3, 3, 1, 0, 1, 0])
    old = batch.old.clone()
    old[1], old[3] = -torch.tensor([1.0, 1, 2, 4, 0, 0]), -torch.tensor([1.0, 0, 0, 0, 0, 0])
    return batch.put(old=old)


def test_equation_by_hand():
    """w = exp(0.75 / lam), exp(0.25 / lam) with lam = 0.5 / ln 3: 3 to 1. s = -2 and -1 with tau = 1 / ln 2: 1 to 2."""
    got = weights(mixed(), lam=0.5 / math.log(3), tau=1 / math.log(2))
    n = 4
    assert got == pytest.approx([n * 3 / 4, -n / 3, n * 1 / 4, -n * 2 / 3, 0, 0, 0, 0], rel=1e-6)


def test_a_long_right_response_is_never_a_negative_example():
    assert all(a > 0 for a, score in zip(weights(mixed(), lam=0.05)[:4], mixed().score[:4], strict=True) if score)


def test_a_single_right_response_has_weight_one_whatever_its_length():
    for length in (1, 8):
        assert weights(rows([1.0, 0.0, 0.0], [length, 2, 2])) == pytest.approx([3, -1.5, -1.5])


def test_without_pressure_all_right_ones_are_equal():
    assert weights(mixed(), lam=math.inf)[:3:2] == [2, 2]
    assert weights(mixed(), lam=1e9, tau=1e9)[:4] == pytest.approx([2, -2, 2, -2])


def test_other_rewards_are_preferences_among_the_right_ones():
    """An extra of 1/2 for the long one makes up for its four tokens of eight; for a wrong one it changes nothing."""
    got = weights(mixed(), extra=[0.0, 5.0, 0.5, 0, 0, 0, 0, 0])
    assert got[0] == pytest.approx(got[2]) and got[1::2][:2] == weights(mixed())[1::2][:2]


def test_extreme_pressure_does_not_overflow():
    assert weights(mixed(), lam=1e-6, tau=1e-6)[:4] == pytest.approx([4, 0, 0, -4])


def test_rows_outside_the_statistics_change_nothing():
    more = mixed() + rows([1.0, 1.0], [1, 1], [3, 1]).put(
        counts=torch.tensor([False, True]), own=torch.tensor([[True], [False]])
    )
    assert weights(more) == weights(mixed()) + [0.0, 0.0]


def objective(logp, batch, lam, tau, barrier, delta):
    """The loss as the paper writes it, over the groups of the batch. logp [b,T]"""
    s, J, groups = (logp * batch.own).sum(1) / batch.own.sum(1), 0.0, batch.group.unique()
    for q in groups:
        right, wrong = ((batch.group == q) & (batch.score == score) for score in (1, 0))
        if right.any() and wrong.any():
            w = torch.exp((1 - batch.length[right] / batch.limit) / lam)
            J = J + (w * s[right]).sum() / w.sum() - tau * torch.exp(s[wrong] / tau).mean().log()
    kl = ((batch.old - logp) * batch.own).sum() / batch.own.sum()
    return -J / len(groups) + barrier * (kl.detach() - delta).clamp(min=0) * kl


def test_the_loop_follows_the_gradient_of_the_papers_objective():
    """First step of a round on real samples: the logits' gradient is that of the objective, differentiated."""
    seen: list = []
    recipe = grpo(prompts=3, group=6, max_grad_norm=1e9) + drpo_len(lam=0.3, tau=1.0) + spy(seen)
    net = policy()
    with gradients() as got:
        launch(recipe, HalfRight(), net, samples=18)
    (_, mini), *rest = seen
    assert not rest and len(got) == 1 and 0 < float(mini.score.mean()) < 1
    fresh = policy()
    objective(fresh.columns(mini, {}).logp, mini, 0.3, 1.0, 1000.0, 1e-4).backward()
    for name, p in fresh.model.named_parameters():
        assert torch.allclose(got[0][name], p.grad, rtol=1e-3, atol=1e-5), name


class HalfRight(Letters):
    """Right where the response begins with one of the first three letters."""

    def score(self, problems, completions):
        return [float(text[:1] in ("a", "b", "c")) for text in completions]


def test_the_barrier_begins_at_delta_and_has_the_gradient_of_its_kl():
    """KL = mean of 0.1 and 0.5 = 0.3, delta = 0.1: c = 10 (0.3 - 0.1) = 2, on every token 2 (old - now)."""
    batch = rows([1.0], [2])
    now = SimpleNamespace(logp=torch.tensor([[-1.1, -1.5]], requires_grad=True))
    loss = Barrier(10.0, 0.1)(now, batch)
    assert loss.tolist() == [pytest.approx([0.2, 1.0])]
    loss.mean().backward()
    assert now.logp.grad.tolist() == [pytest.approx([-1.0, -1.0])]
    assert Barrier(10.0, 0.4)(now, batch).tolist() == [[0.0, 0.0]]


def test_without_barrier_the_first_step_is_the_same_and_the_clip_range_is_alive():
    with gradients() as got:
        for barrier in (1000.0, 0.0):
            launch(grpo(prompts=3, group=6) + drpo_len(barrier=barrier), HalfRight(), policy(), samples=18)
    assert len(got) == 2 and all(torch.allclose(got[0][n], got[1][n], atol=1e-6) for n in got[0])
    with pytest.raises(Clash, match=r"drpo-len makes learn\.clip dead"):
        grpo() + drpo_len() + lp_reg()
    grpo() + drpo_len(barrier=0) + lp_reg()
    assert set(drpo_len(barrier=0).fill) == {"credit.advantage"}


def test_leans_on_groups_and_owns_the_baseline():
    with pytest.raises(BadRecipe, match="compares a group's rewards"):
        (reinforce() + drpo_len()).check()
    with pytest.raises(Clash, match="baseline"):
        grpo() + drpo_len(barrier=0) + ngrpo()
    with pytest.raises(Clash, match="mean"):
        grpo(mean="token") + drpo_len()


@pytest.mark.parametrize("options", [{"lam": 0.0}, {"tau": 0.0}, {"barrier": -1.0}, {"delta": -1.0}])
def test_nonsense_is_refused(options):
    with pytest.raises(BadRecipe, match="give lam > 0"):
        drpo_len(**options)
