"""BAPO: the order of the bounds, when they stop, against eq. 8 written out, and what the loop gives and takes."""

import math
from unittest import mock

import pytest
import torch

from frugal.core.errors import BadRecipe, Clash
from frugal.language.methods.bapo import BalancedClip, bapo
from frugal.language.methods.capo import capo
from frugal.language.methods.hapo import hapo
from frugal.language.methods.lp_reg import lp_reg
from frugal.language.methods.rec import rec
from frugal.language.methods.rover import rover
from frugal.language.recipes import grpo, gspo, reinforce, rloo
from tests.language.tinyrun import launch, policy, spy, weights


def bounds(rho, A, used=None, **options):
    """(low, high) for single tokens, which are the same for all of them. rho, A, used [b]"""
    ratio = torch.tensor(rho, requires_grad=True)
    use = torch.ones(len(rho), dtype=torch.bool) if used is None else torch.tensor(used)
    low, high = bapo(**options).fill["learn.clip"](ratio[:, None], torch.tensor(A)[:, None], use[:, None])
    assert low.shape == high.shape == (len(rho), 1) and not low.requires_grad and not high.requires_grad
    assert (low == low[0]).all() and (high == high[0]).all()
    return float(low[0, 0]), float(high[0, 0])


def test_balanced_tokens_leave_the_bounds_where_they_begin():
    """Shares of 1/2, of all and of nothing at all."""
    assert bounds([1.0, 1.0], [1.0, -1.0]) == pytest.approx((0.6, 1.2))
    assert bounds([5.0], [1.0]) == bounds([1.0, 1.0], [0.0, 0.0]) == pytest.approx((0.6, 1.2))


def test_the_upper_bound_rises_as_far_as_it_has_to():
    """P = min(3, high) and N = 3 max(0.1, low) = 1.8: a share of t from P = 1.8 t / (1 - t) on."""
    tokens = [3.0, 0.1, 0.1, 0.1], [1.0, -1.0, -1.0, -1.0]
    for target, high in ((0.39, 1.2), (0.49, 1.75), (0.59, 2.6)):  # from 1.15, 1.73 and 2.59 on
        assert bounds(*tokens, target=target) == pytest.approx((0.6, high))


def test_then_the_lower_one_which_never_helps():
    """A = (+1, -2) at ratio 1: a share of 1/3 whatever the bounds, so that both end at their maxima."""
    assert bounds([1.0, 1.0], [1.0, -2.0]) == pytest.approx((0.9, 3.0))
    assert bounds([1.0, 1.0], [1.0, -2.0], low_max=0.6, high_max=1.2) == pytest.approx((0.6, 1.2))


def test_steps_that_do_not_fit_are_not_made():
    assert bounds([9.0, 9.0], [-1.0, -1.0], low=0.8, low_max=0.85, high_max=1.29) == pytest.approx((0.84, 1.25))


def test_it_is_the_first_pair_of_algorithm_1_that_satisfies_equation_8():
    """The algorithm as it is printed, with eq. 8's min(rho A, clip(rho) A), on many random minibatches."""
    rng = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(60):
        rho = torch.randn(30, generator=rng).exp()
        A = torch.randn(30, generator=rng) - 0.4
        c_low, c_high = 0.6, 1.2

        def share(low, high, rho=rho, A=A):
            term = torch.minimum(rho * A, rho.clamp(low, high) * A).abs()
            return float(term[A > 0].sum() / term.sum())

        while share(c_low, c_high) < 0.4 and c_low + 0.02 <= 0.9 + 1e-9:
            if c_high + 0.05 <= 3.0 + 1e-9:
                c_high += 0.05
            else:
                c_low += 0.02
        found = bounds(rho.tolist(), A.tolist())
        assert found == pytest.approx((c_low, c_high))
        seen.add((round(c_low, 2), round(c_high, 2)))
    assert (0.6, 1.2) in seen and (0.9, 3.0) in seen and any(1.2 < high < 3.0 for _, high in seen)


def test_only_used_tokens_count():
    """Two of the three negative tokens are masked or padding."""
    tokens = [1.0, 1.0, 1.0, 1.0], [1.0, -1.0, -1.0, -1.0]
    assert bounds(*tokens) == pytest.approx((0.9, 3.0))
    assert bounds(*tokens, used=[True, True, False, False]) == pytest.approx((0.6, 1.2))
    assert bounds(*tokens, used=[False] * 4) == pytest.approx((0.6, 1.2))


def test_micro_batches_change_nothing():
    """Long failures in pieces of a few tokens: the bounds are those of the whole minibatch."""
    recipe = grpo(prompts=4, group=4, minibatches=2, epochs=2, lr=3e-3) + bapo(target=0.6)
    nets = policy(), policy()
    for net, micro_tokens in zip(nets, (4096, 8), strict=True):
        launch(recipe, net=net, samples=32, micro_tokens=micro_tokens)
    torch.testing.assert_close(weights(nets[0]), weights(nets[1]), rtol=1e-4, atol=1e-6)
    plain = policy()
    launch(grpo(prompts=4, group=4, minibatches=2, epochs=2, lr=3e-3), net=plain, samples=32)
    assert (weights(nets[0]) - weights(plain)).abs().max() > 1e-4


def test_masked_tokens_are_no_part_of_the_share():
    """What the loop hands over as used is what its mask has left."""
    seen, masks, real = [], [], BalancedClip.__call__
    with mock.patch.object(BalancedClip, "__call__", lambda part, *a: seen.append(a[2]) or real(part, *a)):
        launch(grpo(prompts=2, group=4, epochs=2) + bapo() + capo(policy=1e-6) + spy(masks), samples=8)
    used = [mini.use for _, mini in masks]
    assert len(seen) == len(used) == 2
    assert all((part & ~whole).sum() == 0 for part, whole in zip(seen, used, strict=True))
    assert sum(int(part.sum()) for part in seen) < sum(int(whole.sum()) for whole in used)


def test_clashes():
    for other in (lp_reg(), rover(), rec("opmd")):
        with pytest.raises(Clash, match=r"learn\.clip"):
            grpo() + bapo() + other
    for base in (reinforce, rloo):
        with pytest.raises(Clash, match=r"learn\.clip"):
            base() + bapo()
    with pytest.raises(Clash, match="you chose it for grpo"):
        grpo(clip=0.1) + bapo()
    assert grpo() + bapo() + hapo() + lp_reg(loose=False) and gspo() + bapo() and grpo() + bapo() + rec()


@pytest.mark.parametrize("options", [{"target": 1.5}, {"low": 0.95}, {"high": 0.9}, {"high_max": math.inf}])
def test_nonsense_is_refused(options):
    with pytest.raises(BadRecipe, match="give target"):
        bapo(**options)
