"""Importance ratios by token, turn and rollout, and their clipping."""

import math

import pytest
import torch

from frugal import maths
from frugal.maths.ratios import LARGEST_LOG_RATIO

NAN, INF = float("nan"), float("inf")
UNITS = ["token", "turn", "rollout"]

L = torch.tensor([[0.1, 0.3, 9.0, -0.4, 0.8], [0.5, -0.5, 0.2, 0.6, 9.0]], dtype=torch.float64)
WHERE = torch.tensor([[True, True, False, True, True], [True, True, True, True, False]])
TURN = torch.tensor([[0, 0, 0, 1, 1], [0, 1, 1, 1, 1]])
# by hand: turns of row 0: (0.1 + 0.3) / 2 = 0.2, (-0.4 + 0.8) / 2 = 0.2; of row 1: 0.5, (-0.5 + 0.2 + 0.6) / 3 = 0.1
# rollouts: (0.1 + 0.3 - 0.4 + 0.8) / 4 = 0.2, (0.5 - 0.5 + 0.2 + 0.6) / 4 = 0.2; where masked log 1 = 0
BY_HAND = {
    "token": [[0.1, 0.3, 0.0, -0.4, 0.8], [0.5, -0.5, 0.2, 0.6, 0.0]],
    "turn": [[0.2, 0.2, 0.0, 0.2, 0.2], [0.5, 0.1, 0.1, 0.1, 0.0]],
    "rollout": [[0.2, 0.2, 0.0, 0.2, 0.2], [0.2, 0.2, 0.2, 0.2, 0.0]],
}


@pytest.mark.parametrize("unit", UNITS)
def test_ratios_by_hand(unit):
    ratio = maths.by_unit(L, WHERE, unit, TURN)
    torch.testing.assert_close(ratio.log(), torch.tensor(BY_HAND[unit], dtype=torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("unit", UNITS)
def test_equal_policies_have_a_ratio_of_exactly_one(unit):
    assert (maths.by_unit(torch.zeros(2, 5), WHERE, unit, TURN) == 1).all()


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("masked", [NAN, INF, -INF])
def test_masked_positions_have_no_influence_on_ratio_or_gradient(unit, masked):
    plain, other = L.clone().requires_grad_(), L.where(WHERE, masked).requires_grad_()
    ratios = [maths.by_unit(l, WHERE, unit, TURN) for l in (plain, other)]
    for ratio in ratios:
        (ratio * torch.arange(10.0).view(2, 5)).sum().backward()
    assert torch.equal(*ratios) and (ratios[0][~WHERE] == 1).all()
    assert torch.equal(plain.grad, other.grad) and (plain.grad[~WHERE] == 0).all()


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("far", [1e3, -1e3, INF, -INF])
def test_a_large_log_ratio_does_not_overflow(unit, far):
    l = L.clone()
    l[0, 0] = far
    l.requires_grad_()
    ratio = maths.by_unit(l.float(), WHERE, unit, TURN)
    ratio.sum().backward()
    assert ratio.isfinite().all() and l.grad.isfinite().all()
    torch.testing.assert_close(ratio[1], maths.by_unit(L.float(), WHERE, unit, TURN)[1])


def test_the_ratio_of_a_token_is_bounded_at_the_largest_log_ratio():
    l, where = torch.tensor([[1e9, -1e9]], dtype=torch.float64), torch.ones(1, 2, dtype=torch.bool)
    bound = [[math.exp(LARGEST_LOG_RATIO), math.exp(-LARGEST_LOG_RATIO)]]
    assert maths.by_unit(l, where, "token", torch.zeros(1, 2, dtype=torch.int64)).tolist() == bound


def test_every_token_of_a_rollout_carries_its_share_of_the_gradient():
    # rho = exp(mean l), so d rho / d l_t = rho / n for each of n tokens; summed over n positions: rho
    l = L.clone().requires_grad_()
    maths.by_unit(l, WHERE, "rollout", TURN)[WHERE].sum().backward()
    torch.testing.assert_close(l.grad, math.exp(0.2) * WHERE.double(), rtol=1e-12, atol=0)


def test_one_turn_is_the_rollout_and_turns_of_one_token_are_tokens():
    alone, each = torch.zeros_like(TURN), torch.arange(5).expand(2, 5)
    for turn, unit in ((alone, "rollout"), (each, "token")):
        by_turn, limit = maths.by_unit(L, WHERE, "turn", turn), maths.by_unit(L, WHERE, unit, TURN)
        torch.testing.assert_close(by_turn, limit, rtol=1e-14, atol=0)


def test_a_rollout_that_is_masked_whole_has_ratio_one():
    for unit in UNITS:
        assert (maths.by_unit(L, torch.zeros_like(WHERE), unit, TURN) == 1).all()


def test_an_unknown_unit_raises():
    with pytest.raises(ValueError, match="'word'; choose token, turn or rollout"):
        maths.by_unit(L, WHERE, "word", TURN)


@pytest.mark.parametrize(
    "ratio, A, loss, slope",
    [
        (1.5, 2.0, -2.4, 0.0),  # -min(3, 1.2 * 2): clipped above, no gradient
        (1.5, -2.0, 3.0, 2.0),  # -min(-3, 1.2 * -2) = 3: a bad action that grew is pushed down without bound
        (0.5, 2.0, -1.0, -2.0),  # -min(1, 0.8 * 2): a good action that shrank is pushed up
        (0.5, -2.0, 1.6, 0.0),  # -min(-1, 0.8 * -2) = 1.6: clipped below, no gradient
        (1.1, 2.0, -2.2, -2.0),  # within the range
    ],
)
def test_ppo_clip_by_hand(ratio, A, loss, slope):
    rho = torch.tensor([[ratio]], requires_grad=True)
    value = maths.ppo_clip(rho, torch.tensor([[A]]), 0.8, 1.2)
    value.sum().backward()
    assert value.item() == pytest.approx(loss) and rho.grad.item() == pytest.approx(slope)


def test_ppo_clip_with_an_infinite_range_is_the_plain_surrogate():
    rho, A = torch.tensor([[0.1, 9.0]]), torch.tensor([[3.0, -2.0]])
    assert torch.equal(maths.ppo_clip(rho, A, 0.0, INF), -rho * A)


def test_ppo_clip_takes_a_range_for_each_token():
    rho, A = torch.tensor([[2.0, 2.0]]), torch.ones(1, 2)
    clipped = maths.ppo_clip(rho, A, torch.tensor([[0.5, 0.5]]), torch.tensor([[1.5, 3.0]]))
    assert clipped.tolist() == [[-1.5, -2.0]]


def test_truncated_weight_by_hand():
    # pi / mu = 0.3 / 0.6, 0.6 / 0.3 and 0.9 / 0.1, the last above the cap
    weight = maths.truncated_weight(torch.tensor([0.3, 0.6, 0.9]).log(), torch.tensor([0.6, 0.3, 0.1]).log(), cap=3.0)
    assert weight.tolist() == pytest.approx([0.5, 2.0, 3.0])


def test_truncated_weight_of_policies_far_apart_is_the_cap_or_nothing():
    weight = maths.truncated_weight(torch.tensor([0.0, -1e4]), torch.tensor([-1e4, 0.0]), cap=2.0)
    assert weight.tolist() == [2.0, 0.0]
