"""Lp-Reg: proxy, chosen tokens and loss by hand, and against loops over the tokens."""

import math

import pytest
import torch
from torch import Tensor

from frugal.core.errors import BadRecipe
from frugal.language.methods.lp_reg import LowProbabilityKL, ProxyLogProbability, lp_reg
from frugal.language.policy import Now
from frugal.language.recipes import grpo
from frugal.language.rows import Rows
from tests.language.rows import rows

P = torch.tensor([0.60, 0.30, 0.09, 0.01])


def proxy(p: Tensor, kappa: float) -> Tensor:
    """q of every token."""
    return ProxyLogProbability(kappa)(p.log().expand(len(p), -1), torch.arange(len(p)), None).exp()


def mini(logp: Tensor, log_q: Tensor, A: Tensor) -> tuple[Now, Rows]:
    """Rollouts of equal length with logp, log q, A [b,T]."""
    batch = rows([0.0] * len(logp), [logp.shape[1]] * len(logp))
    return Now(logp, {}), batch.put(A=A, columns={"old.proxy": log_q})


def test_the_proxy_by_hand():
    """kappa = 0.02: the threshold is 0.012, and the last token falls below it."""
    q = proxy(P, 0.02)
    torch.testing.assert_close(q[:3], torch.tensor([0.60, 0.30, 0.09]) / 0.99)
    assert q[3] == 0


def test_a_proxy_that_cuts_nothing_is_the_policy():
    torch.testing.assert_close(proxy(P, 0.0), P)


@pytest.mark.parametrize("kappa", [0.05, 0.3, 0.9])
def test_the_proxy_equals_a_loop(kappa):
    p = torch.randn(9, generator=torch.Generator().manual_seed(0)).softmax(0)
    kept = [float(x) for x in p if float(x) > kappa * float(p.max())]
    wanted = [float(x) / sum(kept) if float(x) in kept else 0.0 for x in p]
    assert proxy(p, kappa).tolist() == pytest.approx(wanted, rel=1e-5)
    assert 0 < len(kept) < 9


def test_plausible_rare_tokens_of_failures_are_regularised():
    """The token of 0.09 is pulled up to 0.0909 in a failed response and left alone in a good one; 0.01 never is."""
    log_q = proxy(P, 0.02).log()[None, 2:].repeat(2, 1)
    now, batch = mini(P.log()[None, 2:].repeat(2, 1), log_q, torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    loss = LowProbabilityKL(0.02, 1.0, beta=2.0)(now, batch)
    d = math.log(1 / 0.99)
    torch.testing.assert_close(loss, torch.tensor([[2 * (math.exp(d) - d - 1), 0.0], [0.0, 0.0]]))


def test_tokens_already_above_the_proxy_are_left_alone():
    now, batch = mini(torch.tensor([[-2.0, -3.0]]), torch.tensor([[-2.5, -2.5]]), -torch.ones(1, 2))
    loss = LowProbabilityKL(0.02, 1.0, beta=1.0)(now, batch)
    assert loss[0, 0] == 0 and loss[0, 1] > 0


def test_no_penalty_at_the_proxy():
    now, batch = mini(torch.full((1, 2), -2.0), torch.full((1, 2), -2.0), -torch.ones(1, 2))
    assert not LowProbabilityKL(0.02, 1.0, beta=1.0)(now, batch).any()


def test_the_gradient_pulls_the_token_up_and_ends_at_the_largest_penalty():
    """d k3 / d log pi = 1 - q / pi below the limit of 10, 0 above it; nothing else has a gradient."""
    logp = torch.tensor([[-3.0, -9.0, -1.0]], requires_grad=True)
    now, batch = mini(logp, torch.tensor([[-2.5, -2.5, -2.5]]), -torch.ones(1, 3))
    loss = LowProbabilityKL(0.02, 1.0, beta=1.0)(now, batch)
    assert loss[0, 1] == 10
    (slope,) = torch.autograd.grad(loss.sum(), logp)
    assert slope[0].tolist() == pytest.approx([1 - math.exp(0.5), 0.0, 0.0])


@pytest.mark.parametrize("rho", [0.0, 0.15, 0.4, 1.0])
def test_equals_a_loop(rho):
    rng = torch.Generator().manual_seed(1)
    logp = -4 * torch.rand(12, 8, generator=rng)
    log_q = torch.where(
        torch.rand(12, 8, generator=rng) < 0.3, float("-inf"), logp + torch.randn(12, 8, generator=rng) / 2
    )
    A = torch.randn(12, 1, generator=rng).expand(12, 8)
    now, batch = mini(logp, log_q, A)
    batch = batch.put(selected=torch.rand(12, 8, generator=rng) < 0.8)
    used = [(b, t) for b in range(12) for t in range(8) if bool(batch.selected[b, t]) and float(A[b, t]) < 0]
    rarest = sorted(used, key=lambda i: float(logp[i]))[: int(rho * len(used))]
    wanted = torch.zeros(12, 8)
    for i in rarest:
        if float(log_q[i]) > float(logp[i]):
            d = float(log_q[i] - logp[i])
            wanted[i] = 0.5 * min(math.exp(d) - d - 1, 10.0)
    torch.testing.assert_close(LowProbabilityKL(0.02, rho, beta=0.5)(now, batch), wanted)
    assert (len(rarest) > 0) == (rho > 0) and bool(wanted.any()) == (rho > 0)


def test_only_used_negative_tokens_fill_the_quota():
    """A third of the three used negative tokens is one, -3, whatever rarer tokens are good or not used."""
    logp = torch.tensor([[-9.0, -3.0, -1.0, -1.0], [-8.0] * 4])
    now, batch = mini(logp, logp + 0.5, torch.tensor([[-1.0] * 4, [1.0] * 4]))
    used = torch.ones(2, 4, dtype=torch.bool)
    used[0, 0] = False
    loss = LowProbabilityKL(0.02, 0.34, beta=1.0)(now, batch.put(selected=used))
    assert loss.nonzero().tolist() == [[0, 1]]


@pytest.mark.parametrize("options", [{"rho": 0.0}, {"beta": 0.0}])
def test_without_tokens_or_without_weight_it_is_the_base(options):
    now, batch = mini(torch.full((1, 3), -3.0), torch.full((1, 3), -2.5), -torch.ones(1, 3))
    part = lp_reg(**{"rho": 1.0, **options}).add["learn.terms"]
    assert not part(now, batch).any()
    assert lp_reg(rho=1.0).add["learn.terms"](now, batch).all()


def test_falling_tokens_are_never_clipped():
    """With A < 0 the loss is -A ratio for every ratio, so that the penalty joins the plain surrogate."""
    parts = (grpo() + lp_reg()).parts
    ratio, A = torch.tensor([[0.01, 0.5, 1.0, 3.0, 50.0]]), torch.full((1, 5), -1.5)
    loss = parts["learn.surrogate"](None, ratio, A, parts["learn.clip"](ratio, A, torch.ones_like(A) > 0), None)
    torch.testing.assert_close(loss, 1.5 * ratio)
    base = (grpo() + lp_reg(loose=False)).parts
    assert base["learn.clip"] == grpo().parts["learn.clip"]


@pytest.mark.parametrize("options", [{"kappa": 1.0}, {"rho": 1.5}, {"beta": -1.0}])
def test_nonsense_is_refused(options):
    with pytest.raises(BadRecipe, match="give"):
        lp_reg(**options)
