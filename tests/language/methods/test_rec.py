"""REC: every variant's gradient by hand, the derivation, PPO's clip as one member, the dropped responses, the loop."""

import math
from types import SimpleNamespace

import pytest
import torch

from frugal import maths
from frugal.core.errors import BadRecipe, Clash
from frugal.language.methods.lp_reg import lp_reg
from frugal.language.methods.rec import VARIANTS, rec
from frugal.language.methods.rover import rover
from frugal.language.policy import Now
from frugal.language.recipes import dr_grpo, grpo, gspo, ppo, reinforce, rloo
from tests.language.rows import rows
from tests.language.tinyrun import (
    assert_gradient,
    each_by_hand,
    exact,
    gradients,
    launch,
    policy,
    sampled,
    second_step,
)


def slope(variant, rho, A, low=0.8, high=1.2, **options):
    """-d loss / d log pi of single tokens, by autograd. rho, A [b] -> [b]"""
    rho, A = torch.tensor(rho, dtype=torch.float64)[:, None], torch.tensor(A, dtype=torch.float64)[:, None]
    logp = (rho.log() - 1).requires_grad_()  # pi_old = exp(-1)
    mini = rows([0.0] * len(rho), [1] * len(rho))
    ratio = (logp - mini.old.double()).exp()
    bounds = torch.full_like(rho, low), torch.full_like(rho, high)
    part = rec(variant, **options).fill["learn.surrogate"]
    (found,) = torch.autograd.grad(part(Now(logp, {}), ratio, A, bounds, mini).sum(), logp)
    return [-round(x, 9) for x in found[:, 0].tolist()]


RHO = [0.3, 0.7, 1.0, 1.1, 1.5, 3.5]
UP, DOWN = [2.0] * 6, [-2.0] * 6


@pytest.mark.parametrize(
    "variant,up,down",
    [
        ("one-side", [2, 2, 2, 2, 0, 0], [0, 0, -2, -2, -2, -2]),
        ("two-side", [0, 0, 2, 2, 0, 0], [0, 0, -2, -2, 0, 0]),
        ("ring", [2, 0, 2, 2, 0, 0], [0, 0, -2, -2, 0, -2]),
        ("reinforce", UP, DOWN),
        ("drop", UP, DOWN),
        ("weight", [2 * math.exp(2)] * 6, [-2 * math.exp(-2)] * 6),
    ],
)
def test_coefficients_by_hand(variant, up, down):
    assert slope(variant, RHO, UP) == pytest.approx(up)
    assert slope(variant, RHO, DOWN) == pytest.approx(down)


@pytest.mark.parametrize("variant", ["one-side", "two-side", "ring"])
def test_importance_multiplies_by_the_ratio(variant):
    for A in (UP, DOWN):
        plain, weighted = slope(variant, RHO, A), slope(variant, RHO, A, importance=True)
        assert weighted == pytest.approx([rho * c for rho, c in zip(RHO, plain, strict=True)])


@pytest.mark.parametrize("low,high", [(0.8, 1.2), (0.4, 3.0), (0.0, math.inf)])
def test_one_side_with_importance_has_the_gradient_of_ppos_clip(low, high):
    rng = torch.Generator().manual_seed(0)
    logp = (0.7 * torch.randn(200, generator=rng, dtype=torch.float64) - 1).requires_grad_()
    A = torch.randn(200, generator=rng, dtype=torch.float64)
    ratio = (logp + 1).exp()
    (wanted,) = torch.autograd.grad(-maths.ppo_clip(ratio, A, torch.tensor(low), torch.tensor(high)).sum(), logp)
    found = slope("one-side", ratio.detach().tolist(), A.tolist(), low, high, importance=True)
    assert found == pytest.approx(wanted.tolist(), abs=1e-8)
    assert 0 < (wanted == 0).sum() < 200 or low == 0


def test_penalties_by_autograd():
    """OPMD's strength (log rho)^2 and AsymRE's lower baseline, added to the loss -A log pi."""
    for strength in (0.1, 0.5):
        wanted = [2.0 - 2 * strength * math.log(rho) for rho in RHO]
        assert slope("opmd", RHO, UP, strength=strength) == pytest.approx(wanted)
        assert slope("asymre", RHO, DOWN, strength=strength) == pytest.approx([-2.0 + strength] * 6)


def test_the_derivation():
    """K responses that anybody wrote: the gradient at pi_old of sum_{i<j} (a_i - a_j)^2 / (2 tau K)."""
    R, tau, K = torch.tensor([1.0, 0.0, 0.0, 0.5, 1.0], dtype=torch.float64), 0.3, 5
    old = torch.tensor([-1.0, -7.0, -2.0, -0.1, -30.0], dtype=torch.float64)
    logp = old.clone().requires_grad_()
    a = R - tau * (logp - old)
    (g,) = torch.autograd.grad((a[:, None] - a).square().triu().sum() / (2 * tau * K), logp)
    A = grpo() + rec("reinforce")
    batch = rows(R.tolist(), [1] * K)
    advantage = A.parts["credit.advantage"](batch.at_end(batch.score), batch)[:, 0]
    assert slope("reinforce", [1.0] * K, advantage.tolist()) == pytest.approx((-g).tolist(), abs=1e-6)


# -- RED-Drop -------------------------------------------------------------------------------------------------


def balanced(scores, groups=None, clock=0, counts=None):
    batch = rows(scores, [2] * len(scores), groups)
    batch = batch if counts is None else batch.put(counts=torch.tensor(counts))
    recipe = grpo() + rec("drop")
    part = recipe.parts["credit.advantage"]
    run = SimpleNamespace(rng=lambda name: torch.Generator().manual_seed(clock))
    return part.begin(run)(batch.at_end(batch.score), batch)[:, 0].tolist()


def test_drop_by_hand():
    """One of five failures stays beside one success: A = 1/2 and -1/2. Two successes of three stay as they are."""
    got = balanced([1.0, 0, 0, 0, 0, 0, 1.0, 0, 1.0], [3] * 6 + [1] * 3)
    assert got[0] == 0.5 and sorted(got[1:6]) == [-0.5, 0, 0, 0, 0]
    assert got[6:] == pytest.approx([1 / 3, -2 / 3, 1 / 3])


def test_drop_takes_any_of_them_and_nothing_where_all_are_alike():
    where = {balanced([1.0, 0, 0, 0], clock=clock).index(-0.5) for clock in range(30)}
    assert where == {1, 2, 3}
    assert balanced([0.1] * 7) == [0.0] * 7


def test_drop_leaves_rows_that_do_not_count_alone():
    """The last row is a failure of which statistics know nothing: one success and one failure stay as they are."""
    assert balanced([1.0, 0.0, 0.0], counts=[True, True, False]) == [0.5, -0.5, -0.5]


# -- in the loop ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_second_step_of_a_round_by_hand(variant):
    """Ratios on both sides of the range, rewards of four values: against the coefficient written out in float64."""
    net = policy()
    batch = sampled(net)
    noise = 0.4 * torch.randn(batch.old.shape, generator=torch.Generator().manual_seed(0)) * batch.own
    batch = batch.put(old=batch.old + noise, score=torch.tensor([0.0, 0, 1, 1, 0, 2, 2, 3]) / 3)
    recipe = grpo(mean="token", epochs=2, lr=0.0, prompts=2, group=4) + rec(variant)
    seen, _ = second_step(recipe, batch, net)
    model, terms = exact(net), []
    for b, logp in enumerate(each_by_hand(model, batch)):
        A = float(batch.score[b] - batch.score[4 * (b // 4) : 4 * (b // 4) + 4].mean())
        for t, l in enumerate(logp):
            log_rho = float(l.detach() - batch.old[b][batch.own[b]][t])
            rho = math.exp(log_rho)
            between = 0.8 <= rho <= 1.2
            c = {
                "one-side": A * (rho <= 1.2 if A > 0 else rho >= 0.8),
                "two-side": A * between,
                "ring": A * (between or (rho <= 0.4 if A > 0 else rho >= 3)),
                "opmd": A - 0.2 * log_rho,
                "asymre": A + 0.1,
                "weight": A * math.exp(A),
            }.get(variant, A)  # no group has too many below its mean
            terms.append(-c * l)
    assert_gradient(seen, torch.stack(terms).mean(), model)


def test_the_first_step_of_the_clipped_ones_is_that_of_dr_grpo():
    with gradients() as plain:
        launch(dr_grpo(prompts=2, group=4))
    for variant in ("one-side", "two-side", "ring", "reinforce"):
        with gradients() as ours:
            launch(grpo(prompts=2, group=4, mean="constant") + rec(variant))
        for name, gradient in ours[0].items():
            torch.testing.assert_close(gradient, plain[0][name], rtol=1e-5, atol=1e-8)


# -- what it goes with ----------------------------------------------------------------------------------------


def test_the_range_is_the_bases_unless_given():
    assert (gspo() + rec()).parts["learn.clip"] == gspo().parts["learn.clip"]
    wide = (grpo() + rec(low=0.6, high=2.0)).parts["learn.clip"]
    assert (wide.low, wide.high) == (0.6, 2.0)
    with pytest.raises(Clash, match=r"lp-reg\(loose=False\)"):
        grpo() + rec(low=0.6) + lp_reg()


def test_clashes():
    with pytest.raises(Clash, match=r"learn\.surrogate"):
        grpo() + rec() + rover()
    with pytest.raises(Clash, match=r"learn\.clip"):  # nothing to read
        rloo() + rec(unscaled=False)
    with pytest.raises(Clash, match="you chose it for grpo"):
        grpo(clip=0.1) + rec("opmd")
    for base in (reinforce, ppo):
        with pytest.raises(BadRecipe, match="compares a group's rewards"):
            (base() + rec("asymre", unscaled=False)).check()


@pytest.mark.parametrize(
    "options,message",
    [
        ({"variant": "threeside"}, "choose from one-side"),
        ({"variant": "opmd", "low": 0.6}, "clips nothing"),
        ({"variant": "weight", "importance": True}, "clips nothing"),
        ({"strength": 0.5}, "no strength"),
        ({"variant": "asymre", "strength": -0.1}, "give 0 or more"),
        ({"high": -2.0}, "give 0 or more"),
    ],
)
def test_nonsense_is_refused(options, message):
    with pytest.raises(BadRecipe, match=message):
        rec(**options)
