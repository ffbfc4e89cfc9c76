"""Advantages and returns against values computed by hand and against plain float64 loops."""

import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frugal import maths

NAN, INF = float("nan"), float("inf")


def yes(x):
    return torch.ones(len(x), dtype=torch.bool)


def random_batch(seed=0):
    """Rewards in groups of 1 to 5 rows, interleaved, some rows not counted."""
    draw = torch.Generator().manual_seed(seed)
    group = torch.tensor([0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4])[torch.randperm(15, generator=draw)]
    counts = torch.rand(15, generator=draw) > 0.2
    counts[3] = False
    return torch.randn(15, generator=draw), group, counts


# -- group_mean_std -------------------------------------------------------------------------------------------


def test_mean_and_std_of_groups_by_hand():
    # group 0: 1, 2, 6: mean 3, squares 4 + 1 + 9 = 14, std sqrt(14 / 2); group 1: 5, 7: mean 6, std sqrt(2 / 1)
    x, group = torch.tensor([1.0, 5.0, 2.0, 7.0, 6.0]), torch.tensor([0, 1, 0, 1, 0])
    mean, std = maths.group_mean_std(x, group, yes(x))
    assert mean.tolist() == [3, 6, 3, 6, 3]
    seven, two = math.sqrt(7), math.sqrt(2)
    assert std.tolist() == pytest.approx([seven, two, seven, two, seven], rel=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_mean_and_std_are_those_of_the_counted_rows(seed):
    x, group, counts = random_batch(seed)
    mean, std = maths.group_mean_std(x, group, counts)
    for g in range(5):
        mine = x[(group == g) & counts].double()
        assert mean[group == g].tolist() == pytest.approx([float(mine.mean()) if len(mine) else 0.0] * (g + 1))
        assert std[group == g].tolist() == pytest.approx([float(mine.std()) if len(mine) > 1 else 0.0] * (g + 1))


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e8 + 0.5, -0.7])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10])
def test_equal_values_have_a_spread_of_exactly_zero(value, size):
    x = torch.full((size,), value)
    assert maths.group_mean_std(x, torch.zeros(size, dtype=torch.int64), yes(x))[1].tolist() == [0.0] * size


def test_a_small_spread_beside_a_large_mean_is_kept():
    # 1e4, 1e4 + 1/1024 (both exact in float32): std = (1/1024) / sqrt(2); in float32 the squares would drown
    x = torch.tensor([1e4, 1e4 + 1 / 1024])
    std = maths.group_mean_std(x, torch.zeros(2, dtype=torch.int64), yes(x))[1]
    assert std.tolist() == pytest.approx([1 / 1024 / math.sqrt(2)] * 2, rel=1e-9)


@pytest.mark.parametrize("masked", [NAN, INF, -INF, 1e30])
def test_rows_that_do_not_count_have_no_influence(masked):
    x, group, counts = random_batch()
    other = torch.where(counts, x, masked)
    for f in (
        lambda x: torch.stack(maths.group_mean_std(x, group, counts)),
        lambda x: maths.group_relative(x, group, counts, "group")[counts],
        lambda x: maths.group_relative(x, group, counts, "batch")[counts],
        lambda x: maths.leave_one_out(x, group, counts)[counts],
    ):
        assert torch.equal(f(x), f(other)) and f(x).isfinite().all()


# -- group_relative -------------------------------------------------------------------------------------------


def test_group_relative_by_hand():
    # group 0: 0, 0, 1, 1: mean 1/2, std sqrt(4 (1/4) / 3) = 1 / sqrt(3); group 1: 2, 4: mean 3, std sqrt(2)
    R, group = torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0, 4.0]), torch.tensor([0, 0, 0, 0, 1, 1])
    by_group = maths.group_relative(R, group, yes(R), "group", eps=0.0)
    half = 0.5 * math.sqrt(3)
    assert by_group.tolist() == pytest.approx([-half, -half, half, half, -1 / math.sqrt(2), 1 / math.sqrt(2)])
    # whole batch: mean 4/3, squares 2 (16/9) + 2 (1/9) + 4/9 + 64/9 = 102/9, over 5: std = sqrt(34/15)
    by_batch = maths.group_relative(R, group, yes(R), "batch", eps=0.0)
    s = math.sqrt(34 / 15)
    assert by_batch.tolist() == pytest.approx([-0.5 / s, -0.5 / s, 0.5 / s, 0.5 / s, -1 / s, 1 / s])
    assert maths.group_relative(R, group, yes(R), "none").tolist() == [-0.5, -0.5, 0.5, 0.5, -1.0, 1.0]


def test_eps_is_added_to_the_spread():
    # 0, 2: mean 1, std sqrt(2)
    R = torch.tensor([0.0, 2.0])
    A = maths.group_relative(R, torch.tensor([0, 0]), yes(R), "group", eps=0.5)
    assert A.tolist() == pytest.approx([-1 / (math.sqrt(2) + 0.5), 1 / (math.sqrt(2) + 0.5)])


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("eps", [1e-4, 0.0])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e8])
def test_equal_rewards_and_groups_of_one_give_exactly_zero(scale, eps, value):
    # a flat group of three, a group of one, and one with spread beside them
    R, group = torch.tensor([value, value, value, 7.3, 0.0, 1.0]), torch.tensor([0, 0, 0, 1, 2, 2])
    A = maths.group_relative(R, group, yes(R), scale, eps)
    assert A[:4].tolist() == [0.0] * 4 and A[5] == -A[4] > 0
    assert maths.group_relative(R[:4], group[:4], yes(R[:4]), scale, eps).tolist() == [0.0] * 4
    assert maths.leave_one_out(R, group, yes(R))[:4].tolist() == [0.0] * 4
    assert maths.leave_one_out(R, group, yes(R))[4:].tolist() == [-1.0, 1.0]


def test_a_group_with_one_counted_row_gives_zero():
    R, group, counts = torch.tensor([1.0, 5.0]), torch.tensor([0, 0]), torch.tensor([True, False])
    for A in (maths.group_relative(R, group, counts, "group"), maths.leave_one_out(R, group, counts)):
        assert A.tolist() == [0.0, 0.0]


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=6), min_size=1, max_size=4))
def test_centred_advantages_have_mean_zero_in_every_group(groups):
    R = torch.tensor([r for rewards in groups for r in rewards])
    group = torch.tensor([g for g, rewards in enumerate(groups) for _ in rewards])
    A = maths.group_relative(R, group, yes(R), "none")
    for g, rewards in enumerate(groups):
        # each A is rounded once to float32: by at most 2^-24 of at most twice the largest reward, or 2^-149 near 0
        bound = (2**-23 * max(map(abs, rewards)) + 2**-149) * len(rewards)
        assert abs(math.fsum(A[group == g].tolist())) <= bound


@settings(deadline=None)
@given(
    st.lists(st.floats(-10, 10, width=16), min_size=2, max_size=8),
    st.sampled_from([0.25, 2.0, 1024.0]),
    st.integers(-8, 8),
)
def test_group_advantages_do_not_change_with_the_scale_and_offset_of_rewards(rewards, factor, offset):
    R, group = torch.tensor(rewards), torch.zeros(len(rewards), dtype=torch.int64)
    plain = maths.group_relative(R, group, yes(R), "group", eps=0.0)
    moved = maths.group_relative(R.double() * factor + offset, group, yes(R), "group", eps=0.0)
    torch.testing.assert_close(moved, plain, rtol=1e-6, atol=1e-6)


def test_an_unknown_scale_raises():
    with pytest.raises(ValueError, match="'grup'; choose group, batch or none"):
        maths.group_relative(torch.zeros(2), torch.tensor([0, 0]), torch.ones(2).bool(), "grup")


# -- leave_one_out --------------------------------------------------------------------------------------------


def test_group_softmax_by_hand():
    # group 0: ln 1, ln 3 -> 1/4, 3/4; group 1: one chosen row; group 2: none chosen
    x, group = torch.tensor([0.0, 5.0, math.log(3), NAN, 1.0, 7.0]), torch.tensor([0, 1, 0, 0, 1, 2])
    where = torch.tensor([True, True, True, False, False, False])
    assert maths.group_softmax(x, group, where).tolist() == pytest.approx([1 / 4, 1, 3 / 4, 0, 0, 0])


def test_group_softmax_is_torchs_in_every_group_and_never_overflows():
    x, group, where = random_batch(3)
    for factor in (1.0, 1e6):
        got = maths.group_softmax(factor * x, group, where)
        for g in group.unique():
            rows = where & (group == g)
            assert torch.allclose(got[rows], (factor * x[rows].double()).softmax(0))


def test_leave_one_out_by_hand():
    # 1 - (2 + 6) / 2 = -3, 2 - (1 + 6) / 2 = -1.5, 6 - (1 + 2) / 2 = 4.5
    R, group = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0, 0, 0])
    assert maths.leave_one_out(R, group, yes(R)).tolist() == pytest.approx([-3, -1.5, 4.5])


@pytest.mark.parametrize("seed", range(5))
def test_leave_one_out_is_the_reward_less_the_mean_of_the_other_counted_rows(seed):
    R, group, counts = random_batch(seed)
    A = maths.leave_one_out(R, group, counts).tolist()
    checked = 0
    for i in range(len(R)):
        others = [R[j].item() for j in range(len(R)) if group[j] == group[i] and counts[j] and j != i]
        if sum(counts[group == group[i]]) > 1:
            assert A[i] == pytest.approx(R[i].item() - statistics.fmean(others), rel=1e-6, abs=1e-6)
            checked += 1
        else:
            assert A[i] == 0.0
    assert checked >= 8


# -- returns --------------------------------------------------------------------------------------------------


def test_reward_to_go_by_hand():
    # with gamma = 1/2: 4; 2 + 4/2 = 4; 1 + 4/2 = 3
    r = torch.tensor([[1.0, 2.0, 4.0]])
    assert maths.reward_to_go(r, gamma=0.5).tolist() == [[3.0, 4.0, 4.0]]
    assert maths.reward_to_go(r).tolist() == [[7.0, 6.0, 4.0]]
    assert maths.reward_to_go(r, gamma=0.0).tolist() == r.tolist()


def test_reward_to_go_without_discount_is_the_limit_of_a_small_one():
    r = torch.randn(3, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(maths.reward_to_go(r), maths.reward_to_go(r, gamma=1 - 1e-15), rtol=0, atol=1e-12)


def double_sum(r, v, own, gamma, lam):
    """A_t = sum_l (gamma lam)^l delta_{t+l} over the own positions, written out."""
    A = torch.zeros_like(r)
    for b in range(len(r)):
        steps = own[b].nonzero()[:, 0].tolist()
        value = [v[b, t].item() for t in steps] + [0.0]
        delta = [r[b, t].item() + gamma * value[i + 1] - value[i] for i, t in enumerate(steps)]
        for i, t in enumerate(steps):
            A[b, t] = math.fsum((gamma * lam) ** (k - i) * delta[k] for k in range(i, len(steps)))
    return A


def gae_batch(T=12):
    draw = torch.Generator().manual_seed(0)
    r, v = torch.randn(2, 4, T, generator=draw, dtype=torch.float64)
    own = torch.rand(4, T, generator=draw) > 0.4
    own[3] = False
    return r, v, own


def test_gae_by_hand():
    # gamma = lam = 1/2, v = (1, 2, 4), r = (0, 0, 8): delta = 0 + 2/2 - 1 = 0, 0 + 4/2 - 2 = 0, 8 + 0 - 4 = 4
    # A = 4; 0 + 4/4 = 1; 0 + 1/4
    r, v = torch.tensor([[0.0, 0.0, 8.0]]), torch.tensor([[1.0, 2.0, 4.0]])
    assert maths.gae(r, v, torch.ones(1, 3).bool(), 0.5, 0.5).tolist() == [[0.25, 1.0, 4.0]]
    # without the middle position the first looks at the last: delta = 0 + 4/2 - 1 = 1, A = 1 + 4/4 = 2
    assert maths.gae(r, v, torch.tensor([[True, False, True]]), 0.5, 0.5).tolist() == [[2.0, 0.0, 4.0]]


@pytest.mark.parametrize("gamma", [1.0, 0.9, 0.0])
@pytest.mark.parametrize("lam", [1.0, 0.95, 0.0])
def test_gae_is_the_double_sum(gamma, lam):
    r, v, own = gae_batch()
    torch.testing.assert_close(maths.gae(r, v, own, gamma, lam), double_sum(r, v, own, gamma, lam), rtol=0, atol=1e-12)


@pytest.mark.parametrize("masked", [NAN, INF])
def test_gae_never_looks_at_positions_that_are_not_its_own(masked):
    r, v, own = gae_batch()
    with_masked = maths.gae(r.where(own, masked), v.where(own, masked), own, 0.9, 0.95)
    assert torch.equal(with_masked, maths.gae(r, v, own, 0.9, 0.95))
    assert (with_masked[~own] == 0).all()


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_gae_without_a_critic_is_reward_to_go(gamma):
    r, _, _ = gae_batch()
    A = maths.gae(r, torch.zeros_like(r), torch.ones_like(r).bool(), gamma, lam=1.0)
    torch.testing.assert_close(A, maths.reward_to_go(r, gamma), rtol=0, atol=1e-12)


def test_gae_with_lambda_one_is_the_return_less_the_value():
    r, v, _ = gae_batch()
    A = maths.gae(r, v, torch.ones_like(r).bool(), 0.9, 1.0)
    torch.testing.assert_close(A + v, maths.reward_to_go(r, 0.9), rtol=0, atol=1e-12)


# -- whiten ---------------------------------------------------------------------------------------------------


def test_whiten_by_hand():
    # chosen 1, 3, 8: mean 4, squares 9 + 1 + 16 = 26, std sqrt(13)
    x, where = torch.tensor([[1.0, 99.0], [3.0, 8.0]]), torch.tensor([[True, False], [True, True]])
    s = math.sqrt(13)
    assert maths.whiten(x, where).flatten().tolist() == pytest.approx([-3 / s, 0.0, -1 / s, 4 / s])


def test_whitened_values_have_mean_zero_and_spread_one():
    draw = torch.Generator().manual_seed(0)
    x, where = 1e3 + torch.randn(5, 40, generator=draw).double(), torch.rand(5, 40, generator=draw) > 0.3
    chosen = maths.whiten(x, where)[where]
    assert chosen.mean().item() == pytest.approx(0, abs=1e-9) and chosen.std().item() == pytest.approx(1, rel=1e-7)


@pytest.mark.parametrize("masked", [NAN, INF])
def test_whiten_never_looks_at_masked_positions(masked):
    x, where = torch.tensor([[1.0, 2.0, masked]]), torch.tensor([[True, True, False]])
    assert torch.equal(maths.whiten(x, where), maths.whiten(torch.tensor([[1.0, 2.0, 0.0]]), where))


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e6 + 0.1])
@pytest.mark.parametrize("size", [0, 1, 3, 7, 10])
def test_whiten_gives_exactly_zero_without_spread(value, size):
    x, where = torch.full((1, 12), value, dtype=torch.float64), torch.arange(12)[None] < size
    assert maths.whiten(x, where).tolist() == [[0.0] * 12]
