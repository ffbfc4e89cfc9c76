"""STEER: the predicted change against the entropy's derivative, the weights by hand, the loss in the loop."""

import math

import pytest
import torch
from torch import Tensor

from frugal import maths
from frugal.core.errors import BadRecipe, Clash
from frugal.language.methods.pacs import pacs
from frugal.language.methods.steer import entropy_change, steer
from frugal.language.policy import Now
from frugal.language.recipes import grpo, sft
from tests.language.rows import rows
from tests.language.tinyrun import assert_gradient, each_by_hand, exact, policy, sampled, second_step


def weights(logp: Tensor, entropy: Tensor, A: Tensor, selected: Tensor | None = None, **options) -> Tensor:
    """w of rollouts of equal length whose policy is still the one that sampled. All [b,T]"""
    batch = rows([0.0] * len(logp), [logp.shape[1]] * len(logp))
    mini = batch.put(A=A, old=logp, columns={"old.entropy": entropy}, selected=selected)
    return steer(**options).add["learn.step_weights"](Now(logp, {}), mini)


def test_tokens_that_leave_the_entropy_alone():
    """A certain token, one of two equal ones, any token with log p = -H; and every token with A = 0."""
    logp = torch.tensor([[0.0, math.log(0.5), -2.0, -1.0]])
    H = torch.tensor([[0.0, math.log(2), 2.0, 0.3]])
    A = torch.tensor([[1.0, 1.0, -3.0, 0.0]])
    assert not entropy_change(logp, torch.ones(1, 4), H, A).any()
    assert torch.equal(weights(logp, H, A, low=0.5), torch.ones(1, 4))


def test_the_prediction_is_the_entropys_derivative():
    """-dH / dz_a = p (log p + H), by autograd; Omega is A rho times it times (1 - p) / p. Its sign is the fall's."""
    z = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).mul(2).requires_grad_()
    H = maths.entropy(z)
    (slope,) = torch.autograd.grad(H, z)
    logp = z.detach().log_softmax(0)
    p, A, ratio = logp.exp(), torch.tensor(-1.5), torch.tensor(1.25)
    omega = entropy_change(logp, ratio, H.detach(), A)
    torch.testing.assert_close(omega, -slope * A * ratio * (1 - p) / p)
    assert (omega > 0).any() and (omega < 0).any()


def test_weights_by_hand():
    """Omega = 1/2 (log 1/2 + H): with H = log 2 + 1, log 2 and log 2 - 0.5 it is 0.5, 0 and -0.25.

    low = 1/4: k = log 4 / 0.5, so w = 4^-1, 4^0 and 4^(-1/2).
    """
    logp = torch.full((1, 3), math.log(0.5))
    H = math.log(2) + torch.tensor([[1.0, 0.0, -0.5]])
    torch.testing.assert_close(weights(logp, H, torch.ones(1, 3), low=0.25), torch.tensor([[0.25, 1.0, 0.5]]))
    torch.testing.assert_close(weights(logp, H, -torch.ones(1, 3), low=0.25), torch.tensor([[0.25, 1.0, 0.5]]))


def test_small_changes_stay_small():
    """The largest Omega is 0.01, half of 0.02: w = low^(1/2) at most."""
    logp = torch.full((1, 2), math.log(0.5))
    H = math.log(2) + torch.tensor([[0.02, 0.0]])
    torch.testing.assert_close(
        weights(logp, H, torch.ones(1, 2), low=0.64), torch.tensor([[0.8, 1.0]]), rtol=1e-5, atol=0
    )


def test_what_is_not_used_does_not_count():
    """The second token has the largest change and is not used: the first one is then the largest."""
    logp = torch.full((1, 2), math.log(0.5))
    H = math.log(2) + torch.tensor([[1.0, 9.0]])
    used = torch.tensor([[True, False]])
    assert weights(logp, H, torch.ones(1, 2), used, low=0.3)[0].tolist() == pytest.approx([0.3, 1.0])


def test_a_least_weight_of_one_is_the_base():
    rng = torch.Generator().manual_seed(0)
    logp, H, A = -torch.rand(4, 5, generator=rng), torch.rand(4, 5, generator=rng), torch.randn(4, 5, generator=rng)
    assert torch.equal(weights(logp, H, A, low=1.0), torch.ones(4, 5))
    assert weights(logp, H, A, low=0.9).min() == pytest.approx(0.9)


def test_the_loss_is_weighted_and_the_weights_have_no_gradient():
    """At the second step of a round, ratios unequal to one: against the loss written out in float64."""
    net = policy()
    batch = sampled(net)
    rng = torch.Generator().manual_seed(0)
    old = batch.old + 0.1 * torch.randn(batch.old.shape, generator=rng) * batch.own
    H = torch.rand(batch.old.shape, generator=rng) * batch.own
    batch = batch.put(old=old, columns={"old.entropy": H}, score=torch.arange(8.0))
    recipe = grpo(clip=0.99, mean="token", epochs=2, lr=0.0, prompts=2, group=4) + steer(low=0.1)
    seen, loss = second_step(recipe, batch, net)
    model = exact(net)
    logp = each_by_hand(model, batch)
    std = float(torch.arange(4.0).std()) + 1e-4
    A = [(b % 4 - 1.5) / std for b in range(8)]
    ratio = [(l - old[b][batch.own[b]].double()).exp() for b, l in enumerate(logp)]
    change = []
    for b, l in enumerate(logp):
        p = l.detach().exp()
        change.append((A[b] * ratio[b].detach() * (1 - p) * (l.detach() + H[b][batch.own[b]].double())).abs())
    k = math.log(10) / float(torch.cat(change).max())
    wanted = torch.cat([-A[b] * ratio[b] * (-k * change[b]).exp() for b in range(8)]).mean()
    assert loss == pytest.approx(float(wanted.detach()), rel=1e-4)
    assert_gradient(seen, wanted, model)


def test_clashes_where_no_advantage_is_trained_on():
    for make in (sft, lambda: grpo() + pacs()):
        with pytest.raises(Clash, match=r"steer clash at credit\.advantage"):
            make() + steer()


@pytest.mark.parametrize("low", [0.0, 1.1])
def test_nonsense_is_refused(low):
    with pytest.raises(BadRecipe, match="give a weight"):
        steer(low=low)
