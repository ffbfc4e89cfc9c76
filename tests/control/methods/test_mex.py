"""MEX: the term by hand, its gradient, that it works with every off-policy base."""

import math
from types import SimpleNamespace

import pytest
import torch

from frugal.control.laws import Deterministic
from frugal.control.loop_off import uniform
from frugal.control.methods.mex import Optimism, mex
from frugal.core.errors import BadRecipe
from frugal.registry import recipe, usual_task
from tests.control.rows import rows
from tests.control.tinyrun import launch, small


def net(scale: torch.Tensor) -> SimpleNamespace:
    """pi(s) = s, and two critics of a one-dimensional action: q_k(s, a) = k scale a."""
    return SimpleNamespace(
        encode=lambda obs: obs,
        law=lambda obs: Deterministic(obs),
        q=lambda z, a: torch.stack([scale * a[:, 0], 2 * scale * a[:, 0]]),
    )


def batch():
    """s = 3, a = ln 2, s' = 0 in the first row; s = 0, a = 0, s' = ln 3 in the second, which has a further step."""
    obs = torch.tensor([[[3.0], [9.0]], [[0.0], [9.0]]])
    act = torch.tensor([[[math.log(2)], [9.0]], [[0.0], [9.0]]])
    after = torch.tensor([[[0.0], [9.0]], [[math.log(3)], [9.0]]])
    return rows([[0.0, 0.0], [0.0, 0.0]], obs=obs, act=act, next=after)


def test_equation_by_hand():
    """Drawn actions 0 and ln 2. First row: 3 - log(2 + 1 + 1) and 6 - log(4 + 1 + 1), second row: 0 - log(1 + 3 + 2)
    and 0 - log(1 + 9 + 4).
    """
    drawn = torch.tensor([[0.0], [math.log(2)]])
    got = Optimism(0.5, True).loss(net(torch.tensor(1.0)), batch(), drawn)
    assert got.tolist() == pytest.approx([-0.5 * (9 - math.log(24)), 0.5 * math.log(84)], rel=1e-6)
    plain = Optimism(0.5, False).loss(net(torch.tensor(1.0)), batch(), drawn)
    assert plain.tolist() == pytest.approx([-0.5 * 3 * math.log(2), 0.0], rel=1e-6)


def test_its_descent_raises_the_policy_s_action_over_the_others():
    """By the first critic's scale: s minus the mean action under softmax weights of the three."""
    scale = torch.tensor(1.0, requires_grad=True)
    loss = Optimism(1.0, True).loss(net(scale), batch(), torch.zeros(2, 1))
    (gradient,) = torch.autograd.grad(loss[0], scale)
    a = math.log(2)
    assert gradient.item() == pytest.approx(-(3 - 2 * a / 4) - (6 - 2 * a * 4 / 6), rel=1e-6)


@pytest.mark.parametrize("base", ("td3", "sac", "dqn"))
def test_by_itself_it_puts_the_policy_s_action_above_even_ones_with_every_off_policy_base(base):
    """Steps on the term alone, drawn actions new in each; then against others."""
    run = launch(small(base), usual_task(base), 30)
    net, rng = run.net, torch.Generator().manual_seed(0)
    obs, after = (torch.randn(64, 1, *run.spaces.shape, generator=rng) for _ in range(2))
    term, act = Optimism(1.0, True).begin(run), uniform(run.spaces, 64, rng)[:, None]
    given = rows([[0.0]] * 64, obs=obs, next=after, act=act)

    @torch.no_grad()
    def ahead() -> float:
        z = net.encode(given.state)
        other = uniform(run.spaces, 64, torch.Generator().manual_seed(1))
        return float((net.q(z, net.law(given.state).mode) - net.q(z, other)).mean())

    before = ahead()
    for _ in range(50):
        run.ledger.gradient_steps += 1
        net.groups["critic"].step(net.groups["critic"].gradient(term(net, given).mean()), 1e-2)
    assert ahead() > before


def test_it_is_refused_where_no_critic_learns_from_replay_and_where_it_makes_no_sense():
    with pytest.raises(BadRecipe, match=r"mex counts on credit\.value.*on-policy loop"):
        recipe("control.ppo+mex")
    with pytest.raises(BadRecipe, match="eta >= 0"):
        mex(eta=-1.0)
